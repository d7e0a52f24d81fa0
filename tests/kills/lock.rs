//! A lock, whose holders, releasers and waiters are killed at every point.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use procession::prelude::*;
use procession_ipc::{Usage, usage};
use serde::{Deserialize, Serialize};

use crate::points::{Scene, kill_everywhere};
use crate::support::{Options, amount, eventually, isolated_with};
use crate::trace::{between_marks, sleeps};

/// For what should have come long ago: what is stuck becomes a failure.
const PATIENCE: Duration = Duration::from_secs(60);

fn options() -> Options {
    let minutes = amount(3, 60);
    Options { watchdog: Duration::from_secs(60 * minutes), ..Options::default() }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Act {
    /// Acquires and releases.
    Use,
    /// Releases what it holds.
    Release,
}

/// The process that is killed.
fn act(act: Act, lock: Lock, line: Connection) {
    // Whatever is done once in a process is done now.
    drop(Lock::new().unwrap().acquire().unwrap());
    match act {
        Act::Use => between_marks(&line, || drop(lock.acquire().unwrap())),
        Act::Release => {
            let guard = lock.acquire().unwrap();
            between_marks(&line, || drop(guard));
        }
    }
}

/// Acquires and releases, each time that it is told to, and tells what it found.
fn wait(lock: Lock, line: Connection) {
    while line.recv::<()>().is_ok() {
        let was_abandoned = lock.acquire().unwrap().was_abandoned();
        line.send(&was_abandoned).unwrap();
    }
}

/// Another process, which waits for the lock when it is told to.
struct Waiter {
    process: Process<()>,
    line: Connection,
}

impl Waiter {
    fn start(lock: &Lock) -> Self {
        let (line, there) = pipe().unwrap();
        let process = Process::spawn(wait, (lock.clone(), there)).unwrap();
        let this = Self { process, line };
        this.line.send(&()).unwrap();
        assert!(!this.found_abandoned());
        this
    }

    /// Falls asleep in front of the lock, which is held.
    fn fall_asleep(&self) {
        self.line.send(&()).unwrap();
        eventually("the waiter sleeps", || sleeps(self.process.pid().cast_signed()));
    }

    /// It has got the lock, and given it back. Whether it was told that the holder before it had ended.
    fn found_abandoned(&self) -> bool {
        assert!(self.line.poll_timeout(PATIENCE).unwrap(), "the waiter is stuck");
        self.line.recv().unwrap()
    }
}

/// Who uses a lock, and what is in use while nothing happens.
struct Users {
    lock: Lock,
    waiter: Option<Waiter>,
    usage: Usage,
}

impl Users {
    fn new() -> Self {
        let lock = Lock::new().unwrap();
        let waiter = Some(Waiter::start(&lock));
        Self { lock, waiter, usage: usage().unwrap() }
    }

    fn start(&self, what: Act) -> (Process<()>, Connection) {
        let (line, there) = pipe().unwrap();
        (Process::spawn(act, (what, self.lock.clone(), there)).unwrap(), line)
    }

    /// The lock can be acquired, and nothing is left of the one who was killed. Whether that one is found to have held it.
    fn assert_usable(&self) -> bool {
        let guard = self.lock.acquire_timeout(PATIENCE).unwrap().expect("the lock is stuck");
        let was_abandoned = guard.was_abandoned();
        drop(guard);
        assert!(!self.lock.acquire().unwrap().was_abandoned(), "it is told twice");
        eventually("what the dead had is free", || usage().unwrap() == self.usage);
        was_abandoned
    }
}

/// Nobody else wants the lock.
struct Alone(Users);

impl Scene for Alone {
    fn start(&mut self) -> (Process<()>, Connection) {
        self.0.start(Act::Use)
    }

    fn check(&mut self, is_done: bool) {
        let was_held = self.0.lock.is_locked();
        assert!(!(is_done && was_held));
        assert_eq!(self.0.assert_usable(), was_held);
    }
}

/// Another one sleeps in front of the lock that is released.
struct Released(Users);

impl Scene for Released {
    fn start(&mut self) -> (Process<()>, Connection) {
        self.0.start(Act::Release)
    }

    fn prepared(&mut self, _pid: i32) {
        self.0.waiter.as_ref().unwrap().fall_asleep();
    }

    fn check(&mut self, is_done: bool) {
        let was_abandoned = self.0.waiter.as_ref().unwrap().found_abandoned();
        assert!(!(is_done && was_abandoned));
        assert!(!self.0.assert_usable());
    }
}

/// The one that is killed sleeps in front of the lock and is woken first; another one sleeps behind it.
struct Awaited {
    users: Users,
    /// Lets the first one fall asleep, then the other one, and releases the lock.
    release: Option<Release>,
}

/// A thread, since the tracer sleeps when the process that it traces does.
struct Release {
    thread: JoinHandle<Waiter>,
    /// The process has been killed without having slept.
    is_over: Arc<AtomicBool>,
}

impl Release {
    fn start(lock: Lock, waiter: Waiter, pid: i32) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let thread = thread::spawn(move || {
            eventually("it sleeps, or is killed", || sleeps(pid) || over.load(Ordering::Relaxed));
            waiter.fall_asleep();
            lock.release().unwrap();
            waiter
        });
        Self { thread, is_over }
    }
}

impl Scene for Awaited {
    fn start(&mut self) -> (Process<()>, Connection) {
        self.users.lock.acquire().unwrap().keep();
        self.users.start(Act::Use)
    }

    fn prepared(&mut self, pid: i32) {
        let waiter = self.users.waiter.take().unwrap();
        self.release = Some(Release::start(self.users.lock.clone(), waiter, pid));
    }

    fn check(&mut self, is_done: bool) {
        let release = self.release.take().unwrap();
        release.is_over.store(true, Ordering::Relaxed);
        let waiter = release.thread.join().unwrap();
        let was_abandoned = waiter.found_abandoned();
        assert!(!(is_done && was_abandoned));
        self.users.waiter = Some(waiter);
        assert!(!self.users.assert_usable());
    }
}

#[test]
fn a_process_is_killed_anywhere_in_acquiring_and_releasing() {
    isolated_with(options(), || kill_everywhere("alone", &mut Alone(Users::new())));
}

#[test]
fn a_process_is_killed_anywhere_in_releasing_a_lock_that_somebody_waits_for() {
    isolated_with(options(), || kill_everywhere("released", &mut Released(Users::new())));
}

#[test]
fn a_process_is_killed_anywhere_in_waiting_for_a_lock() {
    isolated_with(options(), || {
        kill_everywhere("awaited", &mut Awaited { users: Users::new(), release: None })
    });
}
