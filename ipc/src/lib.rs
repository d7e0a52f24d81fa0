//! What crosses a process boundary: starting processes, connections between them, and the codec of their messages.
//!
//! This crate holds the two lower layers of `procession`. It knows no actors and no async runtime. Data flows one
//! way: the face and the actors call into this crate, and this crate calls the kernel through [`sys`] alone.
//!
//! - [`start`]: how a function runs in another process (start methods, the entry before `main`, what a child adopts);
//! - [`child`]: the one place that knows whether a child has ended and how;
//! - [`parent`]: the process that started this one;
//! - [`connection`]: framed messages over sockets, descriptors included;
//! - [`stream`]: byte streams without frames, and waiting for many;
//! - [`rendezvous`], [`authkey`]: how processes of a family that are not parent and child find and trust each other;
//! - [`call`]: calls to an actor in another process, as their callers see them;
//! - [`sync`], [`mailbox`]: locks and queues in memory that a family of processes shares;
//! - [`codec`]: serde values to bytes and back, with hostile bytes in mind;
//! - [`travel`]: how handles of shared objects travel inside values;
//! - [`log`]: events of other processes at this program's subscriber;
//! - [`gate`]: what a fork waits for, and what its copy gives up.
//!
//! Programs use the `procession` crate; this one has no stability promise of its own.

#![deny(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::print_stdout))]

#[cfg_attr(all(test, loom), path = "arena/none.rs")]
mod arena;
mod atomic;
pub mod authkey;
pub mod call;
pub mod child;
pub mod codec;
pub mod connection;
#[cfg_attr(all(test, loom), path = "deposit/none.rs")]
mod deposit;
mod error;
pub mod gate;
mod liveness;
pub mod log;
pub mod mailbox;
#[cfg(test)]
mod mutants;
pub mod parent;
pub mod rendezvous;
#[cfg_attr(all(test, loom), path = "shm/model.rs")]
mod shm;
pub mod spin;
pub mod start;
pub mod stream;
pub mod sync;
pub mod sys;
pub mod travel;
pub mod unwind;

#[cfg(not(all(test, loom)))]
pub use arena::{Usage, census, usage};
pub use error::{Error, Result};
