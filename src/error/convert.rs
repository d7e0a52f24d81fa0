//! Errors of the layers below, as errors of this crate.

use super::{Error, ErrorKind};
use procession_actors::Error as ActorError;
use procession_ipc::Error as IpcError;
use procession_ipc::child::ExitStatus;
use procession_ipc::codec::CodecError;
use procession_ipc::start::UnknownStartMethod;
use procession_ipc::start::outcome::Failure;

impl From<Failure> for ErrorKind {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Panicked(report) => Self::Panicked {
                message: report.message,
                location: report.location,
                backtrace: report.backtrace,
            },
            Failure::BadArguments(reason) => Self::BadArguments { reason },
            Failure::BadResult(reason) => Self::BadResult { reason },
            Failure::NotCalled(reason) => Self::NotCalled { reason },
            other => Self::Other { what: other.to_string() },
        }
    }
}

impl From<ExitStatus> for ErrorKind {
    fn from(status: ExitStatus) -> Self {
        match status {
            ExitStatus::Exited(code) => Self::Exited { code },
            ExitStatus::Signaled { signal, core_dumped } => Self::Signaled { signal, core_dumped },
            ExitStatus::Unknown { why } => Self::StatusUnknown { why },
            other => Self::Other { what: other.to_string() },
        }
    }
}

fn kind_of(error: &IpcError) -> ErrorKind {
    match error {
        IpcError::Codec(CodecError::NotRoundTrip { type_name, hint, .. }) => {
            ErrorKind::NotRoundTrip { type_name, hint: hint.clone() }
        }
        IpcError::Codec(error) => ErrorKind::Codec { reason: error.to_string() },
        IpcError::Os { .. } => ErrorKind::Os { doing: error.to_string() },
        IpcError::MethodDecided { method } => ErrorKind::MethodDecided { method },
        IpcError::NotSupported { method, reason } => {
            ErrorKind::NotSupported { method, reason: reason.clone() }
        }
        IpcError::NotCreator { what, creator } => ErrorKind::NotCreator { what, creator: *creator },
        IpcError::Quiesce { what, after } => ErrorKind::Quiesce { what, after: *after },
        IpcError::OtherThreads { count, names } => {
            ErrorKind::OtherThreads { count: *count, names: names.clone() }
        }
        IpcError::NotInMainImage { .. } => ErrorKind::NotInMainImage { reason: error.to_string() },
        IpcError::AnotherProgram { path, what } => ErrorKind::AnotherProgram { path: path.clone(), what },
        IpcError::ForkServerRuns { pid } => ErrorKind::ForkServerRuns { server: *pid },
        IpcError::PreloadFailed { reason } => ErrorKind::PreloadFailed { reason: reason.clone() },
        IpcError::ForeignChild { name, creator } => {
            ErrorKind::ForeignChild { name: name.clone(), creator: *creator }
        }
        IpcError::NotHeld => ErrorKind::NotHeld,
        IpcError::Full => ErrorKind::Full,
        IpcError::Empty => ErrorKind::Empty,
        IpcError::QueueClosed => ErrorKind::QueueClosed,
        IpcError::OutOfSpace { want, have, limit } => {
            ErrorKind::OutOfSpace { want: *want, have: *have, limit: *limit }
        }
        IpcError::Isolated { what } => ErrorKind::Isolated { what },
        IpcError::NoSharedMemory { reason } => ErrorKind::NoSharedMemory { reason: reason.clone() },
        IpcError::TooManyProcesses { limit } => ErrorKind::TooManyProcesses { limit: *limit },
        IpcError::TooManyObjects => ErrorKind::TooManyObjects,
        IpcError::Disconnected => ErrorKind::Disconnected,
        IpcError::EmptyKey => ErrorKind::EmptyKey,
        IpcError::NotAuthenticated => ErrorKind::NotAuthenticated,
        IpcError::SubscriberInstalled => ErrorKind::SubscriberInstalled,
        IpcError::Torn { have, want } => ErrorKind::Torn { have: *have, want: *want },
        IpcError::TimedOut { what, after } => ErrorKind::TimedOut { what, after: *after },
        other => ErrorKind::Other { what: other.to_string() },
    }
}

impl From<IpcError> for Error {
    fn from(error: IpcError) -> Self {
        let mut face = Self::new(kind_of(&error));
        if let IpcError::Os { source, .. } = error {
            face.0.source = Some(Box::new(source));
        }
        face
    }
}

impl From<UnknownStartMethod> for Error {
    fn from(error: UnknownStartMethod) -> Self {
        Self::new(ErrorKind::UnknownStartMethod(error))
    }
}

impl From<ActorError> for Error {
    fn from(error: ActorError) -> Self {
        match error {
            ActorError::Ipc(error) => match std::sync::Arc::try_unwrap(error) {
                Ok(error) => error.into(),
                Err(shared) => Self::new(kind_of(&shared)),
            },
            ActorError::Task { task, index, pid, failure } => Self::of_task(failure.into(), task, index, pid),
            ActorError::WorkerLost { task, index, pid, status } => {
                Self::of_task(ErrorKind::WorkerLost { status }, task, index, pid)
            }
            ActorError::BadReply { task, index, pid, source } => {
                Self::of_task(ErrorKind::BadResult { reason: source.to_string() }, task, index, pid)
            }
            ActorError::PoolTerminated { task } => {
                let mut error = Self::new(ErrorKind::PoolTerminated);
                error.0.task = Some(task);
                error
            }
            other => Self::new(kind_of_actor(other)),
        }
    }
}

fn kind_of_actor(error: ActorError) -> ErrorKind {
    match error {
        ActorError::BadChild { id, reason } => ErrorKind::BadChild { id, reason },
        ActorError::NoSuchChild { id } => ErrorKind::NoSuchChild { id },
        ActorError::ChildIs { id, state } => ErrorKind::ChildIs { id, state },
        ActorError::OtherChild { id, wanted, found } => ErrorKind::OtherChild { id, wanted, found },
        ActorError::ChildNotStarted { id, reason } => ErrorKind::ChildNotStarted { id, reason },
        ActorError::SupervisorEnded => ErrorKind::SupervisorEnded,
        ActorError::IntensityExceeded { child, restarts, period, last } => {
            ErrorKind::IntensityExceeded { child, restarts, period, last }
        }
        ActorError::PoolClosed => ErrorKind::PoolClosed,
        ActorError::PoolBroken { restarts, period, last } => ErrorKind::PoolBroken { restarts, period, last },
        ActorError::PoolRunning => ErrorKind::PoolRunning,
        ActorError::ResultTaken => ErrorKind::ResultTaken,
        ActorError::Zero { what } => ErrorKind::Zero { what },
        ActorError::TimedOut { what, after } => ErrorKind::TimedOut { what, after },
        other => ErrorKind::Other { what: other.to_string() },
    }
}
