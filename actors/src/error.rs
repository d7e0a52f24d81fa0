//! The error of this layer.

use crate::supervisor::strategy::ChildState;
use procession_ipc::child::ExitStatus;
use procession_ipc::start::outcome::Failure;
use std::sync::Arc;
use std::time::Duration;

/// Result of the operations of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong with processes and pools. It can be cloned: one death may cost many tasks.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// From the layer below.
    #[error(transparent)]
    Ipc(Arc<procession_ipc::Error>),

    /// A thread or an actor of this layer could not be started, or is gone.
    #[error("this process cannot supervise others: {0}")]
    Runtime(String),

    /// The function gave no value.
    #[error("the task ({task}) in worker process {pid} {failure}")]
    Task {
        /// Name of the function.
        task: &'static str,
        /// Which item of the input it was; 0 for a single call.
        index: u64,
        /// Process id of the worker.
        pid: i32,
        /// Why there is no value.
        failure: Failure,
    },

    /// The worker ended while the task may have been running.
    #[error(
        "the worker process {pid} {status} while it ran the task ({task}); the task may have run in part"
    )]
    WorkerLost {
        /// Name of the function.
        task: &'static str,
        /// Which item of the input it was; 0 for a single call.
        index: u64,
        /// Process id of the worker.
        pid: i32,
        /// How it ended.
        status: ExitStatus,
    },

    /// The task was handed in after `close`.
    #[error("the pool is closed: it takes no more tasks")]
    PoolClosed,

    /// The pool was terminated before the task had a result.
    #[error("the pool was terminated before the task ({task}) was done")]
    PoolTerminated {
        /// Name of the function.
        task: &'static str,
    },

    /// The pool gave up: its workers end before they can work.
    #[error(
        "the pool gave up: {restarts} workers ended within {period:?} before they could work; the last one {last}"
    )]
    PoolBroken {
        /// Ends that were counted.
        restarts: u32,
        /// The time within which they happened.
        period: Duration,
        /// What happened to the last one.
        last: String,
    },

    /// The result was taken before.
    #[error("the result was taken already")]
    ResultTaken,

    /// `join` before `close` or `terminate`.
    #[error("the pool is still running: close or terminate it before you join it")]
    PoolRunning,

    /// An argument that makes no sense.
    #[error("{what} must be at least 1")]
    Zero {
        /// Name of the argument.
        what: &'static str,
    },

    /// A child that cannot work under its supervisor.
    #[error("child `{id}` cannot be supervised: {reason}")]
    BadChild {
        /// Its id.
        id: String,
        /// What is wrong, and what to do.
        reason: String,
    },

    /// There is no such child.
    #[error("the supervisor has no child `{id}`")]
    NoSuchChild {
        /// The id that was asked for.
        id: String,
    },

    /// The state of a child does not allow it.
    #[error("child `{id}` is {state}, so this cannot be done")]
    ChildIs {
        /// Its id.
        id: String,
        /// Its state.
        state: ChildState,
    },

    /// The child is not the actor that a proxy was asked for.
    #[error("child `{id}` is {}, and not the actor `{wanted}`", .found.as_deref().unwrap_or("no actor"))]
    OtherChild {
        /// Its id.
        id: String,
        /// Name of the type that was asked for.
        wanted: &'static str,
        /// Name of the type that it is, if it is an actor.
        found: Option<String>,
    },

    /// The process of a child could not be started.
    #[error("child `{id}` could not be started: {reason}")]
    ChildNotStarted {
        /// Its id.
        id: String,
        /// Why not.
        reason: String,
    },

    /// A nested supervisor gave no answer.
    #[error("the supervisor `{id}` gave no answer: {reason}")]
    NoAnswer {
        /// Its id.
        id: String,
        /// Why not.
        reason: String,
    },

    /// The supervisor has ended.
    #[error("the supervisor has ended")]
    SupervisorEnded,

    /// The supervisor gave up: too many restarts.
    #[error(
        "the supervisor gave up at child `{child}`: more than {restarts} restarts within {period:?} were due; \
         the child {last}"
    )]
    IntensityExceeded {
        /// The child that ended last.
        child: String,
        /// Restarts that are allowed.
        restarts: u32,
        /// The time within which they are counted.
        period: Duration,
        /// How it ended, or why it could not be started.
        last: String,
    },

    /// The result of a task arrived, but could not be read.
    #[error("the result of the task ({task}) from worker process {pid} could not be read")]
    BadReply {
        /// Name of the function.
        task: &'static str,
        /// Which item of the input it was; 0 for a single call.
        index: u64,
        /// Process id of the worker.
        pid: i32,
        /// What was wrong with it.
        #[source]
        source: Arc<procession_ipc::Error>,
    },

    /// The time given for the operation is over.
    #[error("{what} did not happen within {after:?}")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// The bound that was given.
        after: Duration,
    },
}

impl Error {
    /// The same error for the item `by` places further on: what costs a chunk costs each of its items.
    pub(crate) fn shifted(&self, by: u64) -> Self {
        let mut error = self.clone();
        if let Self::Task { index, .. } | Self::WorkerLost { index, .. } | Self::BadReply { index, .. } =
            &mut error
        {
            *index += by;
        }
        error
    }
}

impl From<procession_ipc::Error> for Error {
    fn from(error: procession_ipc::Error) -> Self {
        Self::Ipc(Arc::new(error))
    }
}

impl From<procession_ipc::codec::CodecError> for Error {
    fn from(error: procession_ipc::codec::CodecError) -> Self {
        procession_ipc::Error::from(error).into()
    }
}
