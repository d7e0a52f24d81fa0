//! The actors of `procession`: life cycles of processes, and the pool.
//!
//! Actors own life cycles, never messages on their way: starting, watching, replacing and stopping are done here by ractor
//! actors on one thread per OS process, which starts when it is first needed. Bytes move on plain threads.
//!
//! ```text
//! root supervisor actor            one per OS process, lazily (runtime)
//! |- process actor                 one per child whose handle is gone: sees its end, reaps it
//! |- pool actor                    one per pool: replaces workers, within a restart intensity
//! |  `- process actor              one per worker
//! `- supervisor actor              one per supervisor: starts, stops and restarts its children, as OTP's does
//!    `- process actor              one per child
//! ```
//!
//! What hosts the value of a typed actor, in that actor's process, is a loop on its main thread and none of these (`actor::host`).

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::print_stdout))]

pub mod actor;
mod error;
pub mod pool;
pub mod process;
mod runtime;
pub mod supervisor;

pub use error::{Error, Result};
