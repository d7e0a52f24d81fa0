//! What most programs need: `use procession::prelude::*;`.

pub use crate::{
    AsyncResult, Connection, Context, Error, ErrorKind, ExitStatus, Orphan, Pool, Process, StartMethod,
    all_start_methods, cpu_count, pipe, set_start_method, start_method,
};
