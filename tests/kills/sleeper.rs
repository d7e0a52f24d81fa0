//! Processes that sleep in shared memory when somebody else is killed, and have to wake.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use procession::prelude::*;
use procession::{Target, Wire};

use crate::support::{eventually, sleepers};

/// For what should have come long ago: what is stuck becomes a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A process that does something in which it sleeps, each time that it is told to.
pub struct Sleeper {
    process: Process<()>,
    line: Connection,
}

impl Sleeper {
    /// Starts it: `life` calls [`whenever_told`], and the first time it need not sleep.
    pub fn start<F, A, M, T>(life: F, args: impl FnOnce(Connection) -> A) -> (Self, T)
    where
        F: Target<A, M, Output = ()>,
        T: Wire,
    {
        let (line, there) = pipe().unwrap();
        let process = Process::builder(life).args(args(there)).start().unwrap();
        let this = Self { process, line };
        this.line.send(&()).unwrap();
        let answer = this.woken();
        (this, answer)
    }

    /// Has it fall asleep.
    pub fn fall_asleep(&self) {
        self.line.send(&()).unwrap();
        eventually("it sleeps", || sleeps(self.process.pid().cast_signed()));
    }

    /// What it found when it had woken.
    pub fn woken<T: Wire>(&self) -> T {
        assert!(self.line.poll_timeout(PATIENCE).unwrap(), "the sleeper is stuck");
        self.line.recv().unwrap()
    }
}

/// In the process of a [`Sleeper`].
pub fn whenever_told<T: Wire>(line: &Connection, act: impl Fn() -> T) {
    while line.recv::<()>().is_ok() {
        line.send(&act()).unwrap();
    }
}

/// Does something when a traced process falls asleep: a thread, since the tracer sleeps with it.
pub struct WhenAsleep<T> {
    thread: JoinHandle<T>,
    is_over: Arc<AtomicBool>,
}

impl<T: Send + 'static> WhenAsleep<T> {
    /// Waits for the process `pid`.
    pub fn start(pid: i32, act: impl FnOnce() -> T + Send + 'static) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let thread = thread::spawn(move || {
            eventually("it sleeps, or is killed", || sleeps(pid) || over.load(Ordering::Relaxed));
            act()
        });
        Self { thread, is_over }
    }

    /// The process has been killed, perhaps before it slept: it is done now at the latest.
    pub fn finish(self) -> T {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Whether the main thread of a process sleeps on a futex.
fn sleeps(pid: i32) -> bool {
    sleepers(pid).contains(&pid)
}
