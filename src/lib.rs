//! Python's `multiprocessing` as a Rust actor framework: run functions in other processes.
//!
//! ```
//! use procession::prelude::*;
//!
//! let process: Process<u64> = Process::spawn(|a: u64, b: u64| a * b, (6, 7))?;
//! assert_eq!(process.result()?, 42);
//!
//! let pool = Pool::new(2)?;
//! assert_eq!(pool.map(|x: u64| x * x, [1, 2, 3])?, [1, 4, 9]);
//! # Ok::<(), Error>(())
//! ```
//!
//! What you would do with threads, in processes of their own: to use all cores with crash isolation, to give memory
//! back, to run code that may segfault, leak or be killed.
//!
//! # The tour
//!
//! - [`Process`] runs one function in a process of its own and brings its result back.
//! - [`Pool`] keeps worker processes that call functions again and again.
//! - [`ActorProcess`] hosts a value of yours in a process of its own; [`macro@actor`] makes its methods callable from others.
//! - [`Supervisor`] keeps processes running: it starts them again when they end, with OTP's strategies and limits.
//! - [`Lock`] keeps processes from doing something at the same time, and survives whoever holds it.
//! - [`Queue`] carries values between any number of processes, and survives them too.
//! - [`pipe`] connects two processes; a [`Connection`] may be an argument, or be sent over another one.
//! - What a child logs with [`tracing`] reaches this program's subscriber; [`log_to_stderr`] needs none.
//! - [`Error`] says which process, pid and task it was, and [`ErrorKind`] what happened to it.
//!
//! # Which functions
//!
//! Any plain `fn`, generic or local, and any closure that captures nothing. Arguments are a tuple that fits the
//! parameters; a parameter may be a value, `&T` or `&[T]`, of types that implement serde's traits. Nothing has to be
//! registered and nothing called in `main`: a started process takes over before `main` runs.
//!
//! # Linux only, for now
//!
//! The library uses pidfds, `clone` and Unix sockets of Linux 5.4 or later; a [`Lock`] and a [`Queue`] need 5.16.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::print_stdout))]
#![allow(
    clippy::needless_pass_by_value,
    reason = "verbs take their arguments as a tuple by value, as Python's do"
)]

mod actor;
mod authkey;
mod connection;
mod context;
mod error;
mod family;
mod log;
mod pool;
pub mod prelude;
mod process;
mod progress;
mod queue;
mod repr;
mod spin;
mod supervisor;
mod sync;

pub use actor::{ActorBuilder, ActorProcess, Call, CallError, NoError};
pub use authkey::{AuthKey, authkey, set_authkey};
pub use connection::{Connection, pipe};
pub use context::{
    Context, OnPreloadError, StartMethod, UnknownStartMethod, all_start_methods, cpu_count,
    decided_start_method, force_start_method, freeze_support, set_executable, set_forkserver_preload,
    set_forkserver_preload_with, set_start_method, start_method,
};
pub use error::{Error, ErrorKind, Result};
pub use family::{CurrentProcess, ParentProcess, active_children, current_process, parent_process};
pub use log::{Level, LevelFilter, LogForwarding, log_to_stderr, set_log_forwarding};
pub use pool::{AsyncResult, Imap, Pool, PoolBuilder, PoolCall};
pub use process::{ForkBuilder, NoResult, Orphan, Process, ProcessBuilder};
pub use queue::{PutError, Queue, QueueIter, SimpleQueue, set_queue_memory};
pub use spin::set_spin_limit;
pub use supervisor::{
    AutoShutdown, ChildCounts, ChildInfo, ChildKind, ChildSpec, ChildState, Restart, Shutdown, Strategy,
    Supervisor, SupervisorBuilder,
};
pub use sync::{Lock, LockGuard};

pub use procession_actors::actor::{Actor, Proxy};
pub use procession_ipc::child::ExitStatus;
pub use procession_ipc::codec::Wire;
#[doc(hidden)]
pub use procession_ipc::start::target::{Arg, ByRef, BySlice, ByValue, Target, TaskArg, TaskTarget};
pub use procession_macros::actor;

/// What the code that `#[procession::actor]` generates names. No promise of any kind.
#[doc(hidden)]
pub mod __private {
    pub use crate::actor::generated::{ResultLike, call, call_async};
    pub use procession_actors::actor::Reply;
    pub use procession_ipc::call::Caller;
    pub use serde;
}
