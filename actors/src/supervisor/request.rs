//! What a supervisor can be asked for, and its answers, as data: requests for nested supervisors travel to their process.

use super::spec::{ChildKind, ChildSpec, PATH_SEPARATOR};
use super::strategy::{ChildState, Refusal};
use crate::Error;
use procession_ipc::rendezvous::Address;
use serde::{Deserialize, Serialize};

/// A request for the supervisor at the end of the path.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// Ids of the supervisors on the way, the next one last.
    pub(super) path: Vec<String>,
    pub(super) operation: Operation,
}

impl Request {
    pub(super) fn new(path: &str, operation: Operation) -> Self {
        let path = path.split(PATH_SEPARATOR).filter(|id| !id.is_empty()).rev().map(str::to_owned).collect();
        Self { path, operation }
    }
}

/// What a supervisor shall do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Operation {
    /// Tell all children.
    Which,
    /// Start one more.
    Start(ChildSpec),
    /// Stop this one.
    Terminate(String),
    /// Start this one, which is stopped.
    Restart(String),
    /// Forget this one, which is stopped.
    Delete(String),
}

/// The children concerned: all, or the one that was started, or none.
pub(super) type Reply = Result<Vec<ChildInfo>, Denial>;

/// A child, as seen from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChildInfo {
    /// Its name among its siblings.
    pub id: String,
    /// Process id, if it runs.
    pub pid: Option<u32>,
    /// Where it stands.
    pub state: ChildState,
    /// What it is.
    pub kind: ChildKind,
    /// Where it is called, if it is an actor.
    pub(super) place: Option<Place>,
}

/// Where an actor is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) address: Address,
    /// Name of its type.
    pub(super) actor: String,
}

/// Why a request was not granted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Denial {
    /// By the state of the child with this id.
    Refused(String, Refusal),
    /// The child cannot work under this supervisor.
    Bad { id: String, reason: String },
    /// Its process could not be started.
    NotStarted { id: String, reason: String },
    /// The supervisor is not there any more.
    Ended,
    /// The request, or its answer, cannot travel.
    Lost { id: String, reason: String },
}

impl From<Denial> for Error {
    fn from(denial: Denial) -> Self {
        match denial {
            Denial::Refused(id, Refusal::NotFound) => Self::NoSuchChild { id },
            Denial::Refused(id, Refusal::Is(state)) => Self::ChildIs { id, state },
            Denial::Bad { id, reason } => Self::BadChild { id, reason },
            Denial::NotStarted { id, reason } => Self::ChildNotStarted { id, reason },
            Denial::Ended => Self::SupervisorEnded,
            Denial::Lost { id, reason } => Self::NoAnswer { id, reason },
        }
    }
}

impl Denial {
    /// A child that did not pass the checks.
    pub(super) fn from_check(id: &str, error: &Error) -> Self {
        let reason = match error {
            Error::BadChild { reason, .. } => reason.clone(),
            other => other.to_string(),
        };
        Self::Bad { id: id.to_owned(), reason }
    }
}
