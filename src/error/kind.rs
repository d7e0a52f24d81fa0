//! What can happen to programs that use this crate.

use procession_actors::supervisor::strategy::ChildState;
use procession_ipc::Error as IpcError;
use procession_ipc::child::ExitStatus;
use procession_ipc::start::UnknownStartMethod;
use std::path::PathBuf;
use std::time::Duration;

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The function panicked. Its process ended with code 1; a pool's worker goes on.
    #[error("panicked: {message}{}", .location.as_ref().map(|place| format!(", at {place}")).unwrap_or_default())]
    Panicked {
        /// The panic's message.
        message: String,
        /// `file:line:column`, where known.
        location: Option<String>,
        /// The backtrace, when `RUST_BACKTRACE` asks for one.
        backtrace: Option<String>,
    },

    /// The process left by itself, with this code, before the function returned.
    #[error("exited with code {code} before it gave its result")]
    Exited {
        /// Exit code, 0 to 255.
        code: i32,
    },

    /// A signal ended the process.
    #[error("{}", ExitStatus::Signaled { signal: *.signal, core_dumped: *.core_dumped })]
    Signaled {
        /// Number of the signal.
        signal: i32,
        /// Whether the kernel wrote a core dump.
        core_dumped: bool,
    },

    /// The process is gone and left no result, but somebody else took its exit status.
    #[error("ended, but its status is unknown: {why}")]
    StatusUnknown {
        /// Who may have taken it.
        why: &'static str,
    },

    /// The pool's worker ended while the task may have been running. It may have run in part.
    #[error("was lost: its worker {status}")]
    WorkerLost {
        /// How the worker ended.
        status: ExitStatus,
    },

    /// The arguments arrived in the other process, but could not be turned into values.
    #[error("could not read its arguments: {reason}")]
    BadArguments {
        /// What the codec said.
        reason: String,
    },

    /// The function returned, but its result cannot travel, or could not be read here.
    #[error("gave a result that cannot be used: {reason}")]
    BadResult {
        /// What the codec said.
        reason: String,
    },

    /// The function was not called at all.
    #[error("could not be called: {reason}")]
    NotCalled {
        /// Why not.
        reason: String,
    },

    /// A value cannot be sent to another process, or a message is no value of the type that was asked for.
    #[error("{reason}")]
    Codec {
        /// What the codec said: it names the type.
        reason: String,
    },

    /// The codec can write values of the type, but not read them again.
    #[error("`{type_name}` cannot be read again once it is sent: {hint}")]
    NotRoundTrip {
        /// Name of the type.
        type_name: &'static str,
        /// What to do.
        hint: String,
    },

    /// The result was taken before.
    #[error("the result was taken already")]
    ResultTaken,

    /// `close` of a process that has not ended.
    #[error("is still running: join it, or terminate it and join it, before you close it")]
    StillRunning,

    /// The handle was closed.
    #[error("was closed")]
    Closed,

    /// The program that was named for new processes is not the one that runs.
    #[error("`{}` is {what}: a new process must run the very build that starts it", path.display())]
    AnotherProgram {
        /// What was named.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },

    /// The fork server of this process runs already: set its preload before the first process is started.
    #[error(
        "the fork server of this process (process {server}) was started already: set its preload before the first start"
    )]
    ForkServerRuns {
        /// Process id of the server.
        server: i32,
    },

    /// The preload function of the fork server failed, so no process was started.
    #[error("the preload function of the fork server {reason}")]
    PreloadFailed {
        /// What it did, as the rest of the sentence.
        reason: String,
    },

    /// The handle came into this process by a fork: only the process that started a child may wait for it and signal it.
    #[error("process `{name}` is a child of process {creator}, not of this one")]
    ForeignChild {
        /// Its name.
        name: String,
        /// Process id of the process that started it.
        creator: u32,
    },

    /// The pool was closed: it takes no more tasks.
    #[error("the pool is closed: it takes no more tasks")]
    PoolClosed,

    /// The pool was terminated before the task had a result.
    #[error("the pool was terminated before the task was done")]
    PoolTerminated,

    /// The pool gave up, since its workers end before they can work.
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

    /// `join` before `close` or `terminate`.
    #[error("the pool is still running: close or terminate it before you join it")]
    PoolRunning,

    /// A child that cannot work under its supervisor.
    #[error("child `{id}` cannot be supervised: {reason}")]
    BadChild {
        /// Its id.
        id: String,
        /// What is wrong, and what to do.
        reason: String,
    },

    /// The supervisor has no such child.
    #[error("the supervisor has no child `{id}`")]
    NoSuchChild {
        /// The id that was asked for.
        id: String,
    },

    /// The state of a child does not allow what was asked for.
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

    /// The supervisor has ended.
    #[error("the supervisor has ended")]
    SupervisorEnded,

    /// The supervisor gave up: more restarts were due than it allows.
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
        /// How that child ended, or why it could not be started.
        last: String,
    },

    /// A number that must not be zero.
    #[error("{what} must be at least 1")]
    Zero {
        /// Name of the argument.
        what: &'static str,
    },

    /// A lock was released that nobody held.
    #[error("{}", IpcError::NotHeld)]
    NotHeld,

    /// The queue takes no more messages, or did not until the time was over (Python's `queue.Full`).
    #[error("{}", IpcError::Full)]
    Full,

    /// The queue has no message, or had none until the time was over (Python's `queue.Empty`).
    #[error("{}", IpcError::Empty)]
    Empty,

    /// The queue was closed in this process.
    #[error("{}", IpcError::QueueClosed)]
    QueueClosed,

    /// `join_thread` before `close`.
    #[error("the queue is open in this process: close it before you join its thread")]
    QueueOpen,

    /// There is no memory for what was put into a queue.
    #[error("{}", IpcError::OutOfSpace { want: *.want, have: *.have, limit: *.limit })]
    OutOfSpace {
        /// Length of the message, in bytes.
        want: u64,
        /// What all queues of the family take now, in bytes.
        have: u64,
        /// What they may take. With less in use, it is the machine that has no more.
        limit: u64,
    },

    /// Something on its way to the workers of an [isolated](crate::PoolBuilder::isolated) pool, or from them, or through an
    /// [isolated](crate::Queue::isolated) queue, has a lock, a queue or a descriptor in it.
    #[error("{}", IpcError::Isolated { what })]
    Isolated {
        /// What it is in.
        what: &'static str,
    },

    /// This process cannot use the memory that its family shares.
    #[error("the memory that processes share cannot be used: {reason}")]
    NoSharedMemory {
        /// Why not, and what to do.
        reason: String,
    },

    /// As many processes of the family as can use locks and queues at the same time do.
    #[error("{}", IpcError::TooManyProcesses { limit: *.limit })]
    TooManyProcesses {
        /// How many.
        limit: usize,
    },

    /// No place is left in the memory of the family for one more lock or queue.
    #[error("{}", IpcError::TooManyObjects)]
    TooManyObjects,

    /// The time given for the operation is over.
    #[error("{what} did not happen within {after:?}")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// The bound that was given.
        after: Duration,
    },

    /// The other end of the connection is closed, and nothing is left to read.
    #[error("the other end of the connection is closed")]
    Disconnected,

    /// The other end went away in the middle of a message.
    #[error("the connection ended in the middle of a message: {have} of {want} bytes arrived")]
    Torn {
        /// Bytes that arrived.
        have: u64,
        /// Bytes that were announced.
        want: u64,
    },

    /// The default start method is decided already: it was set, or used.
    #[error(
        "the start method of this process is `{method}` already: choose before the first process is started, \
         or give a context to what is started"
    )]
    MethodDecided {
        /// The method that it is.
        method: &'static str,
    },

    /// There is no start method of this name.
    #[error(transparent)]
    UnknownStartMethod(UnknownStartMethod),

    /// [`log_to_stderr`](crate::log_to_stderr) in a program that has a subscriber of its own.
    #[error("{}", IpcError::SubscriberInstalled)]
    SubscriberInstalled,

    /// The actor's process is gone. A call in flight may have been carried out.
    #[error("failed: the actor's process {}", .reason.as_deref().unwrap_or("is gone"))]
    ActorDied {
        /// How it ended, where this process can know.
        reason: Option<String>,
    },

    /// The actor was stopped before it carried the call out.
    #[error("failed: the actor was stopped")]
    ActorStopped,

    /// The method returned an error, which is the [source](std::error::Error::source).
    #[error("returned an error: {reason}")]
    MethodFailed {
        /// The error's text.
        reason: String,
    },

    /// More calls wait for the actor than this process keeps for it.
    #[error("failed: too much waits for the actor already")]
    ActorOverloaded,

    /// A method of an actor waited for an answer of the actor itself.
    #[error("cannot be waited for by a method of the same actor, which must return first")]
    OwnActor,

    /// An empty key proves nothing.
    #[error("{}", IpcError::EmptyKey)]
    EmptyKey,

    /// The other process does not have the same key.
    #[error("the other process does not have the same key: do both belong to one family of processes?")]
    NotAuthenticated,

    /// Something is used in a copy of the process that made it (after a fork).
    #[error("{what} is for process {creator} alone, which made it: this process is a copy of that one")]
    NotCreator {
        /// What it is.
        what: &'static str,
        /// The process that made it.
        creator: u32,
    },

    /// The process cannot be copied now: something of this library did not come to a safe point in time.
    #[error("cannot fork: {what} did not come to a safe point within {after:?}")]
    Quiesce {
        /// Who or what it is.
        what: &'static str,
        /// The bound.
        after: Duration,
    },

    /// The process cannot be copied: other threads run, and whatever they hold would be held for ever in the copy.
    #[error(
        "cannot fork beside other threads, {count} of them ({}): a copy would not have them, but the locks that they hold; \
         use another start method, fork before they start, or allow them if you know what they do",
        .names.join(", ")
    )]
    OtherThreads {
        /// How many there are.
        count: usize,
        /// Names of some of them.
        names: Vec<String>,
    },

    /// The start method cannot work here.
    #[error("start method `{method}` is not supported here: {reason}")]
    NotSupported {
        /// Its name.
        method: &'static str,
        /// What is missing, and what to do.
        reason: String,
    },

    /// The function, or this library, is part of a shared library that a program loaded, not of the program.
    #[error("{reason}")]
    NotInMainImage {
        /// What is where, and what to do.
        reason: String,
    },

    /// The operating system refused; its answer is the [source](std::error::Error::source).
    #[error("{doing}")]
    Os {
        /// What was being done.
        doing: String,
    },

    /// Something else; the text says what.
    #[error("{what}")]
    Other {
        /// What happened.
        what: String,
    },
}
