//! The error of this crate: what happened, and to which process and task.

mod convert;
mod kind;

pub use kind::ErrorKind;

use std::fmt;

/// Result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, and where.
///
/// Branch on [`kind`](Self::kind). The text names the process, its pid and the task, where there are such.
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
///
/// fn fail() {
///     panic!("no luck today");
/// }
///
/// let process = Process::builder(fail).name("gambler").start()?;
/// let error = process.result().unwrap_err();
/// assert!(matches!(error.kind(), ErrorKind::Panicked { message, .. } if message == "no luck today"));
/// assert_eq!(error.process(), Some("gambler"));
/// assert!(error.task().unwrap().ends_with("fail"));
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct Error(Box<Parts>);

#[derive(Debug)]
struct Parts {
    kind: ErrorKind,
    process: Option<String>,
    pid: Option<i32>,
    task: Option<&'static str>,
    index: Option<u64>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Name of the process that it happened to.
    #[must_use]
    pub fn process(&self) -> Option<&str> {
        self.0.process.as_deref()
    }

    /// Process id of that process.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.0.pid
    }

    /// Name of the function that ran there.
    #[must_use]
    pub fn task(&self) -> Option<&'static str> {
        self.0.task
    }

    /// Which item of the input of a pool's verb it was, from 0.
    #[must_use]
    pub fn index(&self) -> Option<u64> {
        self.0.index
    }

    pub(crate) fn new(kind: ErrorKind) -> Self {
        Self(Box::new(Parts { kind, process: None, pid: None, task: None, index: None, source: None }))
    }

    /// What happened to a call of an actor's method.
    pub(crate) fn of_call(
        kind: ErrorKind,
        method: &'static str,
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let mut error = Self::new(kind);
        (error.0.task, error.0.source) = (Some(method), source);
        error
    }

    pub(crate) fn of_process(kind: ErrorKind, name: &str, pid: i32, task: Option<&'static str>) -> Self {
        let mut error = Self::new(kind);
        (error.0.process, error.0.pid, error.0.task) = (Some(name.to_owned()), Some(pid), task);
        error
    }

    fn of_task(kind: ErrorKind, task: &'static str, index: u64, pid: i32) -> Self {
        let mut error = Self::new(kind);
        (error.0.pid, error.0.task, error.0.index) = (Some(pid), Some(task), Some(index));
        error
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { kind, process, pid, task, index, .. } = &*self.0;
        match (process, task) {
            (Some(process), _) => write!(f, "process `{process}`")?,
            (None, Some(_)) => write!(f, "the task")?,
            (None, None) => return write!(f, "{kind}"),
        }
        let pid = pid.map(|pid| format!("pid {pid}"));
        let task = task.map(|task| format!("task `{task}`"));
        let index = index.map(|index| format!("item {index}"));
        let details: Vec<String> = [pid, task, index].into_iter().flatten().collect();
        write!(f, " ({}) {kind}", details.join(", "))
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
