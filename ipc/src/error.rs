//! The error of this layer: each variant carries the thing that failed.

use crate::codec::CodecError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Result of the operations of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong at a process boundary.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("cannot {doing}")]
    Os {
        /// What was being done, as an infinitive ("open a pidfd for process 12").
        doing: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },

    /// A value could not be turned into bytes, or bytes into a value.
    #[error(transparent)]
    Codec(#[from] CodecError),

    /// The start method cannot work here.
    #[error("start method `{method}` is not supported here: {reason}")]
    NotSupported {
        /// Name of the start method.
        method: &'static str,
        /// What is missing, and what to do.
        reason: String,
    },

    /// The default start method is decided already.
    #[error(
        "the start method of this process is `{method}` already: choose before the first process is started, \
         or give a context to what is started"
    )]
    MethodDecided {
        /// The method that it is.
        method: &'static str,
    },

    /// The function, or this library itself, is not part of the main program's image.
    #[error(
        "{what} lives in `{library}`, not in the main program, so a new process could not find it: \
         start processes from the program itself"
    )]
    NotInMainImage {
        /// What was looked for.
        what: String,
        /// File name of the library that holds it.
        library: String,
    },

    /// Something is used in a copy of the process that made it.
    #[error("{what} is for process {creator} alone, which made it: this process is a copy of that one")]
    NotCreator {
        /// What it is.
        what: &'static str,
        /// The process that made it.
        creator: u32,
    },

    /// A fork would copy the process while this goes on.
    #[error("cannot fork: {what} did not come to a safe point within {after:?}")]
    Quiesce {
        /// Who or what it is.
        what: &'static str,
        /// The bound.
        after: Duration,
    },

    /// A fork would leave behind threads that are not ours, with all that they hold.
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

    /// The helper process that forks children for us ended twice in one start.
    #[error("the fork server ended twice while it started a process; the second time it was process {pid}")]
    ForkServerLost {
        /// Process id of the second server.
        pid: i32,
    },

    /// The program that was named for new processes is not this one.
    #[error("`{}` is {what}: a new process must run the very build that starts it", path.display())]
    AnotherProgram {
        /// What was named.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },

    /// The fork server runs already, and what is asked for concerns its beginning.
    #[error(
        "the fork server of this process (process {pid}) was started already: set its preload before the first start"
    )]
    ForkServerRuns {
        /// Process id of the server.
        pid: i32,
    },

    /// The function that the fork server runs at its beginning failed.
    #[error("the preload function of the fork server {reason}")]
    PreloadFailed {
        /// What it did, as the rest of the sentence.
        reason: String,
    },

    /// Somebody else's child: only the process that started it may wait for it and signal it.
    #[error("process `{name}` is a child of process {creator}, not of this one")]
    ForeignChild {
        /// Its name.
        name: String,
        /// Process id of the process that started it.
        creator: u32,
    },

    /// The other end of the connection is closed, and nothing is left to read.
    #[error("the other end of the connection is closed")]
    Disconnected,

    /// The other end went away in the middle of a message.
    #[error("the connection ended in the middle of a message: {have} of {want} bytes arrived")]
    Torn {
        /// Bytes that arrived.
        have: u64,
        /// Bytes that the header announced.
        want: u64,
    },

    /// The other end announced a message that is not allowed.
    #[error("the other end announced a message of {claimed} bytes, the limit is {limit}")]
    TooLong {
        /// Announced length in bytes; negative lengths are reported as they came.
        claimed: i64,
        /// Largest length accepted, in bytes.
        limit: u64,
    },

    /// Bytes that are not a message of ours.
    #[error("malformed {what}")]
    Malformed {
        /// What was expected.
        what: &'static str,
    },

    /// A key without bytes.
    #[error("the key is empty: give it at least one byte")]
    EmptyKey,

    /// The other end does not know the key of this process.
    #[error("the other process does not have the same key: do both belong to one family of processes?")]
    NotAuthenticated,

    /// The other end belongs to another user.
    #[error("the other process belongs to user {uid}, not to ours")]
    ForeignUser {
        /// Who it belongs to.
        uid: u32,
    },

    /// `log_to_stderr` in a program that has a subscriber of its own.
    #[error(
        "this program has a `tracing` subscriber already, and it gets the events of all processes: \
         either install none, or let it print"
    )]
    SubscriberInstalled,

    /// This process cannot use the memory that its family shares.
    #[error("the memory that processes share cannot be used: {reason}")]
    NoSharedMemory {
        /// Why not, and what to do.
        reason: String,
    },

    /// As many processes as can use the memory of a family at the same time do.
    #[error("{limit} processes use the shared memory of this family, and there is no room for more")]
    TooManyProcesses {
        /// How many.
        limit: usize,
    },

    /// No place is left for a lock, a queue and such.
    #[error("no more objects fit into the shared memory of this family: drop some")]
    TooManyObjects,

    /// An object whose last handle was dropped before this one was decoded.
    #[error(
        "the {what} is gone: a message has one reader, and this is another one, or a copy by a fork of your own"
    )]
    Gone {
        /// What it was.
        what: &'static str,
    },

    /// A handle of an object of other processes.
    #[error("the {what} belongs to another family of processes")]
    ForeignFamily {
        /// What it is.
        what: &'static str,
    },

    /// A handle, or a descriptor, on its way between our memory and memory that is isolated.
    #[error(
        "{what} cannot have a lock, a queue or a descriptor in it, since the other side is isolated: give it plain values, send \
         descriptors over a connection, or use a pool or a queue that is not isolated"
    )]
    Isolated {
        /// What it is in.
        what: &'static str,
    },

    /// Descriptors that were sent through memory, and that nobody has taken.
    #[error(
        "{limit} descriptors are on their way to processes that have not taken them, and no more are kept"
    )]
    TooManyDeposits {
        /// How many.
        limit: usize,
    },

    /// A lock was released that nobody held.
    #[error("the lock was released too many times: nobody held it")]
    NotHeld,

    /// A queue takes no more messages.
    #[error("the queue is full")]
    Full,

    /// A queue has no message.
    #[error("the queue is empty")]
    Empty,

    /// A queue was closed in this process.
    #[error("the queue is closed in this process")]
    QueueClosed,

    /// There is no memory for what was put into a queue.
    #[error(
        "no memory for a message of {want} bytes: {have} bytes of queues are in use, the limit of this family is {limit}; \
         let the consumers catch up, or give the queues bounds"
    )]
    OutOfSpace {
        /// Length of the message, in bytes.
        want: u64,
        /// What all queues of the family take now.
        have: u64,
        /// What they may take. With less in use, it is the machine that has no more.
        limit: u64,
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
    /// Wraps the kernel's answer to `doing`.
    pub(crate) fn os(doing: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Os { doing: doing.into(), source: source.into() }
    }
}

/// The text of an error and of its sources, for where only text can go.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
