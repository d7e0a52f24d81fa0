//! Copies of this process: `fork` with a closure that may capture.

use super::{Orphan, Process};
use crate::Result;
use crate::repr::Repr;
use procession_actors::process::{self, Options};
use procession_ipc::codec::Wire;
use std::fmt;

impl<R> Process<R> {
    /// Runs a closure, which may capture, in a copy of this process. Nothing but its result is turned into bytes.
    ///
    /// The copy has everything that this process has in memory, open files and connections included, and one thread. It
    /// never returns into the caller: what the caller's frames hold is not dropped there. What the closure captured by
    /// `move` is dropped here once the copy is made.
    ///
    /// Handles of processes and pools of this process are refused in the copy. Exit handlers (`atexit`) that were
    /// registered here do not run there.
    ///
    /// # Errors
    ///
    /// [`OtherThreads`](crate::ErrorKind::OtherThreads) if threads run that are not this library's (see
    /// [`Process::fork_builder`] to allow them); [`NotSupported`](crate::ErrorKind::NotSupported) inside an async
    /// runtime, and while the program ends;
    /// [`Quiesce`](crate::ErrorKind::Quiesce) if something of this library does not come to a safe point within 5 s; no
    /// process or descriptor left ([`Os`](crate::ErrorKind::Os)).
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::prelude::*;
    ///
    /// let words = vec!["not", "copied", "by", "anybody"];
    /// let process = Process::fork(|| words.iter().map(|word| word.len()).sum::<usize>())?;
    /// assert_eq!(process.result()?, 18);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn fork<F>(closure: F) -> Result<Self>
    where
        F: FnOnce() -> R,
        R: Wire,
    {
        ForkBuilder { closure, options: Options::default() }.start()
    }
}

impl Process<()> {
    /// Begins to describe a copy of this process that shall run `closure`, as [`Process::fork`] does it.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::prelude::*;
    ///
    /// let greeting = String::from("hello");
    /// let process = Process::fork_builder(|| greeting.len()).name("counter").allow_threads().start()?;
    /// assert_eq!((process.name(), process.result()?), ("counter", 5));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn fork_builder<F>(closure: F) -> ForkBuilder<F> {
        ForkBuilder { closure, options: Options::default() }
    }
}

/// Describes a copy of this process before it is made.
#[derive(Clone)]
#[must_use = "a process starts with `start`"]
pub struct ForkBuilder<F> {
    closure: F,
    options: Options,
}

impl<F> ForkBuilder<F> {
    /// See [`ProcessBuilder::name`](crate::ProcessBuilder::name).
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// See [`ProcessBuilder::daemon`](crate::ProcessBuilder::daemon).
    #[allow(clippy::fn_params_excessive_bools, reason = "the name and the type are Python's")]
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.options.daemon = Some(daemon);
        self
    }

    /// See [`ProcessBuilder::orphan`](crate::ProcessBuilder::orphan).
    pub fn orphan(mut self, orphan: Orphan) -> Self {
        self.options.armed = Some(orphan == Orphan::Kill);
        self
    }

    /// See [`Context::allow_threads`](crate::Context::allow_threads).
    pub fn allow_threads(mut self) -> Self {
        self.options.allow_threads = true;
        self
    }

    /// Makes the copy.
    ///
    /// # Errors
    ///
    /// As [`Process::fork`].
    pub fn start<R: Wire>(self) -> Result<Process<R>>
    where
        F: FnOnce() -> R,
    {
        Ok(Process::new::<F>(process::fork(self.closure, &self.options)?))
    }
}

/// As that of [`ProcessBuilder`](crate::ProcessBuilder).
impl<F> fmt::Debug for ForkBuilder<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Repr::initial(&self.options))
    }
}
