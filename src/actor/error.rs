//! Why a call of an actor's method gave no value.

use crate::{Error, ErrorKind};
use procession_ipc::call::CallFailure;
use procession_ipc::unwind::PanicReport;
use serde::{Deserialize, Serialize};

/// Why a call of an actor's method gave no value.
///
/// `E` is the error type of methods that return a `Result`; their results come flattened: one `?` does for both.
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Parser;
///
/// #[procession::actor]
/// impl Parser {
///     pub fn parse(&self, text: &str) -> Result<i64, String> {
///         text.parse().map_err(|_| format!("`{text}` is no number"))
///     }
/// }
///
/// let parser = ActorProcess::spawn(Parser)?;
/// assert_eq!(parser.parse("42")?, 42);
/// assert!(matches!(parser.parse("forty"), Err(CallError::Method(reason)) if reason == "`forty` is no number"));
///
/// ActorProcess::process(&parser).kill()?;
/// assert!(matches!(parser.parse("42"), Err(CallError::ActorDied { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError<E = NoError> {
    /// The method returned this error. Only this variant says that it ran to its end.
    #[error("{0}")]
    Method(E),

    /// The method panicked, and the actor's process has ended: nobody knows what state it left.
    #[error("`{method}` panicked: {message}{}", .location.as_ref().map(|place| format!(", at {place}")).unwrap_or_default())]
    Panicked {
        /// Which method.
        method: &'static str,
        /// The panic's message.
        message: String,
        /// `file:line:column`, where known.
        location: Option<String>,
        /// The backtrace, when `RUST_BACKTRACE` asks for one.
        backtrace: Option<String>,
    },

    /// The actor's process is gone. The method may have run, in part or wholly; it is never called again by itself.
    #[error("`{method}` failed: the actor's process {}", .reason.as_deref().unwrap_or("is gone"))]
    ActorDied {
        /// Which method.
        method: &'static str,
        /// How the process ended, where this process can know: where it was started.
        reason: Option<String>,
    },

    /// The actor was stopped. The method did not run.
    #[error("`{method}` was not called: the actor was stopped")]
    ActorStopped {
        /// Which method.
        method: &'static str,
    },

    /// The arguments cannot travel, or could not be read in the actor's process. The method did not run.
    #[error("the arguments of `{method}` could not be {}: {reason}", if *.sent { "read" } else { "sent" })]
    BadArguments {
        /// Which method.
        method: &'static str,
        /// Whether they were sent.
        sent: bool,
        /// What the codec said.
        reason: String,
    },

    /// The method returned, but its result cannot travel, or could not be read here.
    #[error("the result of `{method}` cannot be used: {reason}")]
    BadResult {
        /// Which method.
        method: &'static str,
        /// What the codec said.
        reason: String,
    },

    /// So many calls wait for the actor that this process keeps no more for it (64 MiB). The method did not run.
    #[error("`{method}` was not called: too much waits for the actor already")]
    Overloaded {
        /// Which method.
        method: &'static str,
    },

    /// A method of the actor waited for an answer of the actor itself, which cannot come before the method has returned. A
    /// blocking call was not sent; one that was made by an `_async` method is carried out afterwards.
    #[error("`{method}` cannot be waited for by a method of the same actor, which must return first")]
    OwnActor {
        /// Which method.
        method: &'static str,
    },

    /// The actor could not be reached; the error says why.
    #[error(transparent)]
    Unreachable(Error),
}

/// The error of a method that returns no `Result`: there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum NoError {}

impl<E> CallError<E> {
    pub(super) fn of_failure(failure: CallFailure, method: &'static str) -> Self {
        match failure {
            CallFailure::Died { reason } => Self::ActorDied { method, reason },
            CallFailure::Stopped => Self::ActorStopped { method },
            CallFailure::Overloaded => Self::Overloaded { method },
            CallFailure::OwnActor => Self::OwnActor { method },
            CallFailure::Ipc(error) => Self::Unreachable(error.into()),
            other => Self::ActorDied { method, reason: Some(other.to_string()) },
        }
    }

    pub(super) fn of_panic(report: PanicReport, method: &'static str) -> Self {
        let PanicReport { message, location, backtrace } = report;
        Self::Panicked { method, message, location, backtrace }
    }

    /// Everything but the method's own error, which is given to `own`.
    fn into_error(self, own: impl FnOnce(E, &mut Option<Boxed>) -> String) -> Error {
        let mut source = None;
        let (kind, method) = match self {
            Self::Unreachable(error) => return error,
            Self::Method(error) => (ErrorKind::MethodFailed { reason: own(error, &mut source) }, "method"),
            Self::Panicked { method, message, location, backtrace } => {
                (ErrorKind::Panicked { message, location, backtrace }, method)
            }
            Self::ActorDied { method, reason } => (ErrorKind::ActorDied { reason }, method),
            Self::ActorStopped { method } => (ErrorKind::ActorStopped, method),
            Self::BadArguments { method, reason, .. } => (ErrorKind::BadArguments { reason }, method),
            Self::BadResult { method, reason } => (ErrorKind::BadResult { reason }, method),
            Self::Overloaded { method } => (ErrorKind::ActorOverloaded, method),
            Self::OwnActor { method } => (ErrorKind::OwnActor, method),
        };
        Error::of_call(kind, method, source)
    }
}

type Boxed = Box<dyn std::error::Error + Send + Sync>;

/// So that `?` works in functions that return this crate's [`Result`](crate::Result).
impl<E: std::error::Error + Send + Sync + 'static> From<CallError<E>> for Error {
    fn from(error: CallError<E>) -> Self {
        error.into_error(|own, source| {
            let reason = own.to_string();
            *source = Some(Box::new(own));
            reason
        })
    }
}
