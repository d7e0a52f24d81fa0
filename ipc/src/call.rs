//! Calls to an actor in another process, as their callers see them. The actor's side is in the layer above.
//!
//! ```text
//! Caller --(one per proxy; copies share)--> Client --(one per process and address)--> Link --> the actor's process
//! Ticket: one call in flight
//! ```
//!
//! Promises:
//! - requests of one process reach the actor in the order in which they were sent, whatever becomes of their answers;
//! - a request is never sent twice: after a loss, what may have been carried out fails;
//! - sending never waits, so any number of requests may be in flight before the first answer is read. What the actor does
//!   not take yet is kept here, up to 64 MiB for each connection;
//! - it needs no runtime: a caller blocks by reading itself, and a task is woken by whoever reads.

mod client;
pub mod frame;
mod link;
mod outbox;
mod serving;
mod thread;

pub use client::{Caller, Ticket};
pub(crate) use serving::forget;
pub use serving::serving;

use frame::Status;

/// The reply to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What it is; never [`Status::Goodbye`].
    pub status: Status,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// How an actor's process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Stopped,
    /// Otherwise; the text says how.
    Died(String),
}

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallFailure {
    /// The actor's process is not there, or not any more. A call in flight may have been carried out.
    #[error("the actor's process {}", .reason.as_deref().unwrap_or("is gone"))]
    Died {
        /// How it ended, where known.
        reason: Option<String>,
    },
    /// The actor was stopped, and the call not carried out.
    #[error("the actor was stopped")]
    Stopped,
    /// Too many requests wait for the actor already.
    #[error("too much waits for the actor already: {} MiB", outbox::MAX_UNSENT >> 20)]
    Overloaded,
    /// A method waits for the very actor that carries it out, which cannot answer before the method has returned.
    #[error("a method of the actor waits for the actor itself")]
    OwnActor,
    /// Something else, below.
    #[error(transparent)]
    Ipc(#[from] crate::Error),
}
