//! The processes around this one: itself, its parent, its children.

use crate::process::NoResult;
use crate::repr::{Repr, State};
use crate::{Process, Result};
use procession_ipc::child;
use procession_ipc::parent::{self, Parent};
use procession_ipc::start::identity;
use std::fmt;
use std::time::{Duration, Instant};

/// This process.
///
/// Unlike Python's, it cannot be joined or signalled: waiting for oneself never ends.
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
///
/// assert_eq!(current_process().name(), "MainProcess");
/// let process = Process::builder(|| current_process().name().to_owned()).name("worker").start()?;
/// assert_eq!(process.result()?, "worker");
/// # Ok::<(), Error>(())
/// ```
#[must_use]
pub fn current_process() -> CurrentProcess {
    CurrentProcess { _private: () }
}

/// The process that started this one; `None` in the root of the family.
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
///
/// assert!(parent_process().is_none());
/// let process = Process::spawn(|| parent_process().map(|parent| parent.pid()), ())?;
/// assert_eq!(process.result()?, Some(std::process::id()));
/// # Ok::<(), Error>(())
/// ```
#[must_use]
pub fn parent_process() -> Option<ParentProcess> {
    parent::parent().map(ParentProcess)
}

/// The children of this process that are alive; those that have ended are reaped.
///
/// Workers of pools are among them, as in Python; the fork server is not. Handles to the same process may be used side by
/// side; only the one that started it can take its result.
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
///
/// let process = Process::builder(|| std::thread::park()).daemon(true).start()?;
/// let children = active_children();
/// assert!(children.iter().any(|child| child.pid() == process.pid()));
/// children[0].terminate()?;
/// children[0].join()?;
/// assert_eq!(process.exitcode(), Some(-15));
/// # Ok::<(), Error>(())
/// ```
pub fn active_children() -> Vec<Process<NoResult>> {
    child::active_children().into_iter().map(Process::of_child).collect()
}

/// This process: [`current_process`].
#[derive(Clone)]
pub struct CurrentProcess {
    _private: (),
}

impl CurrentProcess {
    /// Its name; `MainProcess` in the root.
    #[must_use]
    pub fn name(&self) -> &'static str {
        &identity().name
    }

    /// Its process id.
    #[doc(alias = "ident")]
    #[must_use]
    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    /// Whether it is terminated when its parent ends.
    #[doc(alias = "daemon")]
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        identity().daemon
    }
}

impl fmt::Debug for CurrentProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, pid, is_daemon) = (Some(self.name()), Some(self.pid()), self.is_daemon());
        let parent = parent_process().map(|parent| parent.pid());
        write!(f, "{}", Repr { name, pid, parent, state: State::Started, is_daemon })
    }
}

/// The process that started this one: [`parent_process`].
///
/// It works after the end of that process too, and never takes another one for it that got its id.
#[derive(Clone)]
pub struct ParentProcess(Parent);

impl ParentProcess {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// Its process id. After its end, it may be given to another process.
    #[doc(alias = "ident")]
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.0.is_alive()
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    ///
    /// No descriptor left ([`ErrorKind::Os`](crate::ErrorKind::Os)).
    pub fn join(&self) -> Result<()> {
        self.0.wait(None)?;
        Ok(())
    }

    /// Waits until it has ended, at most for `timeout`; says whether it has.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool> {
        // A timeout beyond the end of time is none.
        Ok(self.0.wait(Instant::now().checked_add(timeout))?)
    }
}

impl fmt::Debug for ParentProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.is_alive() { "started" } else { "stopped" };
        write!(f, "<ParentProcess name='{}' pid={} {state}>", self.name().escape_debug(), self.pid())
    }
}
