//! What most programs need: `use procession::prelude::*;`.

pub use crate::{
    ActorProcess, AsyncResult, AutoShutdown, Call, CallError, ChildSpec, Connection, Context, Error,
    ErrorKind, ExitStatus, Lock, Orphan, Pool, Process, Queue, Restart, Shutdown, SimpleQueue, StartMethod,
    Strategy, Supervisor, active_children, all_start_methods, cpu_count, current_process, parent_process,
    pipe, set_start_method, start_method,
};
