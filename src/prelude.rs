//! What most programs need: `use procession::prelude::*;`.

pub use crate::{
    AsyncResult, Connection, Context, Error, ErrorKind, ExitStatus, Orphan, Pool, Process, StartMethod, pipe,
};
