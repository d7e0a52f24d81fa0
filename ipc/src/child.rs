//! One cell per child: the only place that takes its exit status. Everybody else observes.
//!
//! States of a [`Child`]: *running* -> *ended* (status known). The change happens under the cell's lock, by whoever
//! sees the pidfd readable first: a blocked `join` on its own thread, the actor that watches it, or the exit handler.
//! A status that a stranger took (SIGCHLD ignored, `waitpid(-1)`) is [`ExitStatus::Unknown`], never a hang and never a
//! wrong zero. Only the process that started a child may wait for it and signal it; in a copy of that process made by a
//! fork, its handles say [`Error::ForeignChild`].
//!
//! Every running child is also in the process's table of children, which keeps its lifeline open and serves the exit
//! handler: when this process ends by returning from `main` or by `exit`, daemons are terminated and all others are
//! joined, as Python does it.

use crate::gate::{self, PrivateFd, own_pid};
use crate::sys::fd::{is_hung_up, wait_readable};
use crate::sys::process::{self, Ended};
use crate::{Error, Result};
use nix::libc;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

/// How long the exit handler waits for a terminated daemon before it kills it. 5 s, as OTP's default shutdown.
const DAEMON_GRACE: Duration = Duration::from_secs(5);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExitStatus {
    /// It left with this code (0 to 255; the kernel keeps eight bits).
    Exited(i32),
    /// This signal ended it.
    Signaled {
        /// Number of the signal.
        signal: i32,
        /// Whether the kernel wrote a core dump.
        core_dumped: bool,
    },
    /// It is gone, but somebody else took its status.
    Unknown {
        /// Who may have taken it.
        why: &'static str,
    },
}

impl ExitStatus {
    /// Python's `exitcode`: the code, or the negative number of the signal; `None` when unknown.
    #[must_use]
    pub fn code(self) -> Option<i32> {
        match self {
            Self::Exited(code) => Some(code),
            Self::Signaled { signal, .. } => Some(-signal),
            Self::Unknown { .. } => None,
        }
    }
}

impl std::fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signaled { signal, core_dumped } => {
                let name = signal_name(signal).unwrap_or("a real-time signal");
                let dump = if core_dumped { ", core dumped" } else { "" };
                write!(f, "was ended by signal {signal} ({name}{dump})")
            }
            Self::Unknown { why } => write!(f, "ended, but its status is unknown: {why}"),
        }
    }
}

/// The name of a signal, such as `SIGTERM`, unless it is a real-time signal.
#[must_use]
pub fn signal_name(signal: i32) -> Option<&'static str> {
    nix::sys::signal::Signal::try_from(signal).ok().map(nix::sys::signal::Signal::as_str)
}

/// A child process of this process.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    pidfd: OwnedFd,
    /// Process id of who started it.
    creator: u32,
    about: About,
    state: Mutex<State>,
}

/// What is known of a child from its start.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) daemon: bool,
    /// A part of this library (the fork server), which the program did not start.
    pub(crate) is_helper: bool,
}

impl About {
    /// A process that serves this library: it ends with us, and nobody is shown it.
    pub(crate) fn helper(name: &str) -> Self {
        Self { name: name.to_owned(), daemon: true, is_helper: true }
    }
}

#[derive(Debug)]
enum State {
    /// With the descriptors that must stay open as long as the child lives: the write end of its lifeline.
    Running {
        _kept: Vec<PrivateFd>,
    },
    Ended(ExitStatus),
}

impl Child {
    /// Enters a process that has just been started into the table of children. The caller is inside the gate, and has
    /// [`reap`]ed.
    pub(crate) fn register(pid: i32, pidfd: OwnedFd, about: About, kept: Vec<PrivateFd>) -> Arc<Self> {
        let state = Mutex::new(State::Running { _kept: kept });
        let child = Arc::new(Self { pid, pidfd, creator: own_pid(), about, state });
        table().push(Arc::clone(&child));
        child
    }

    /// Process id. It stays reserved until the status is taken.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The name given at start.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.about.name
    }

    /// Whether it is terminated when this process ends.
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        self.about.daemon
    }

    /// Whether it is a part of this library (the fork server, a child that it made ahead), which the program did not start.
    #[must_use]
    pub fn is_helper(&self) -> bool {
        self.about.is_helper
    }

    /// Process id of the process that started it.
    #[must_use]
    pub fn creator(&self) -> u32 {
        self.creator
    }

    /// A descriptor that becomes readable when the child has ended (pidfd).
    #[must_use]
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits for the end of the child on the calling thread; `None` as deadline waits without bound. Then this program's
    /// subscriber has seen what the child logged (see [`log::settle`](crate::log::settle)).
    ///
    /// Returns `None` when the deadline came first.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignChild`]; the kernel's answer to poll(2) or waitid(2).
    pub fn wait(&self, deadline: Option<Instant>) -> Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.try_wait()? {
                // Whoever has joined a process has seen what it logged.
                crate::log::settle();
                return Ok(Some(status));
            }
            let ready = wait_readable(self.sentinel(), deadline)
                .map_err(|e| Error::os(format!("wait for process {}", self.pid), e))?;
            if !ready {
                return Ok(None);
            }
        }
    }

    /// The status, if the child has ended.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignChild`]; the kernel's answer to waitid(2).
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        let _passage = gate::enter("taking the status of a process");
        let mut state = lock(&self.state);
        if let State::Ended(status) = *state {
            return Ok(Some(status));
        }
        self.assert_ours()?;
        let ended = match process::take_status(self.sentinel()) {
            Ok(ended) => ended.map(Into::into),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Some(ExitStatus::Unknown {
                why: "another part of this program waited for it, or SIGCHLD is ignored",
            }),
            Err(error) => {
                return Err(Error::os(format!("take the status of process {}", self.pid), error));
            }
        };
        if let Some(status) = ended {
            *state = State::Ended(status);
        }
        Ok(ended)
    }

    /// Sends a signal; a child that has ended already is a success.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignChild`]; no right to send it (the child changed its user).
    pub fn signal(&self, signal: i32) -> Result<()> {
        self.assert_ours()?;
        process::pidfd_signal(self.sentinel(), signal)
            .map_err(|e| Error::os(format!("send signal {signal} to process {}", self.pid), e))
    }

    /// Whether it has not ended. Unlike its status, this may also be asked in a copy of the process that started it.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        match self.try_wait() {
            Ok(status) => status.is_none(),
            Err(_) => !is_hung_up(self.sentinel()).unwrap_or(false),
        }
    }

    fn assert_ours(&self) -> Result<()> {
        if self.creator == own_pid() {
            return Ok(());
        }
        Err(Error::ForeignChild { name: self.about.name.clone(), creator: self.creator })
    }
}

impl From<Ended> for ExitStatus {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Exited(code) => Self::Exited(code),
            Ended::Signaled { signal, core_dumped } => Self::Signaled { signal, core_dumped },
        }
    }
}

/// What a look into the table is to a fork that waits for it.
const TABLE_IN_USE: &str = "the table of children";

/// The children of this process that are not known to have ended.
static TABLE: Mutex<Vec<Arc<Child>>> = Mutex::new(Vec::new());

/// Which process they are the children of; 0 before the first child. A new copy finds its parent here, which it is not: so it
/// has none. Written under the lock of the table. Relaxed: who reads it without wants to know about itself.
static OWNER: AtomicU32 = AtomicU32::new(0);

/// Locks the table, which is that of this process from here on. The caller is inside the gate.
fn table() -> MutexGuard<'static, Vec<Arc<Child>>> {
    prepare_exit();
    let mut table = lock(&TABLE);
    let own = own_pid();
    if OWNER.swap(own, Ordering::Relaxed) != own {
        // Those of the process that this one is a copy of, if somebody else's fork made it.
        table.clear();
    }
    table
}

/// Takes the status of children that have ended. Each start begins with it; the caller is inside the gate.
pub(crate) fn reap() {
    table().retain(|child| !matches!(child.try_wait(), Ok(Some(_))));
}

/// Has [`end_children`] run at the end of this process, and of its copies.
pub(crate) fn prepare_exit() {
    static EXIT_HANDLER: Once = Once::new();
    EXIT_HANDLER.call_once(|| {
        // Without memory for one entry the program has other worries; then only the lifelines end its daemons.
        let _ = process::at_exit(end_children);
    });
}

/// Whether there are any that a copy of this process would have to forget. The gate is closed.
pub(crate) fn are_there() -> bool {
    !lock(&TABLE).is_empty()
}

/// In a copy of this process: the children are its parent's.
pub(crate) fn forget() {
    lock(&TABLE).clear();
}

/// Values behind our locks stay valid between any two statements, so a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The children that are alive now, helpers included; those that have ended are reaped.
fn live_children() -> Vec<Arc<Child>> {
    let _passage = gate::enter(TABLE_IN_USE);
    reap();
    table().clone()
}

/// The children that the program started and that are alive now; those that have ended are reaped.
#[must_use]
pub fn active_children() -> Vec<Arc<Child>> {
    let mut children = live_children();
    children.retain(|child| !child.about.is_helper);
    children
}

/// Whether `pid` is a child in the table.
pub(crate) fn is_known(pid: i32) -> bool {
    let _passage = gate::enter(TABLE_IN_USE);
    lock(&TABLE).iter().any(|child| child.pid == pid)
}

/// Runs at the end of the process: terminates daemons, then joins the others.
#[inline]
pub(crate) extern "C" fn end_children() {
    gate::begin_end();
    // A copy shares the handler, but need not have children of its own.
    if OWNER.load(Ordering::Relaxed) == own_pid() {
        end_all();
    }
}

fn end_all() {
    let (daemons, others): (Vec<_>, Vec<_>) =
        live_children().into_iter().partition(|child| child.is_daemon());
    for daemon in &daemons {
        let _ = daemon.signal(libc::SIGTERM);
    }
    let deadline = Instant::now() + DAEMON_GRACE;
    for daemon in &daemons {
        if !matches!(daemon.wait(Some(deadline)), Ok(Some(_))) {
            let _ = daemon.signal(libc::SIGKILL);
            let _ = daemon.wait(None);
        }
    }
    for other in &others {
        let _ = other.wait(None);
    }
    // What those said that had ended before, and that nobody waited for.
    crate::log::settle();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::storm::outlast_signals;
    use std::process::{Command, Stdio};

    /// T158 (_TestPollEintr.test_poll_eintr).
    #[test]
    fn join_goes_on_when_signals_interrupt_it() {
        let mut program = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pid = program.id().cast_signed();
        let about = About { name: "cat".to_owned(), daemon: true, is_helper: false };
        let child = Child::register(pid, process::pidfd_open(pid).unwrap(), about, Vec::new());
        let stdin = program.stdin.take();
        let status = outlast_signals(|| child.wait(None), || drop(stdin)).unwrap();
        assert_eq!(status, Some(ExitStatus::Exited(0)));
        assert!(program.wait().is_err(), "its status was taken");
    }

    #[test]
    fn only_its_creator_may_wait_for_a_child_and_signal_it() {
        let mut program = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pid = program.id().cast_signed();
        let about = About { name: "cat".to_owned(), daemon: false, is_helper: false };
        let state = Mutex::new(State::Running { _kept: Vec::new() });
        let child = Child { pid, pidfd: process::pidfd_open(pid).unwrap(), creator: 1, about, state };
        let refusals = [child.try_wait().map(drop), child.wait(None).map(drop), child.signal(libc::SIGKILL)];
        for refusal in refusals {
            assert!(matches!(refusal, Err(Error::ForeignChild { creator: 1, .. })), "{refusal:?}");
        }
        assert!(child.is_alive());
        drop(program.stdin.take());
        assert!(wait_readable(child.sentinel(), None).unwrap());
        assert!(!child.is_alive());
        program.wait().unwrap();
    }
}
