//! A lock, whose holders, releasers and waiters are killed at every point.

use std::sync::Arc;
use std::time::Duration;

use procession::prelude::*;
use procession_ipc::{Usage, usage};
use serde::{Deserialize, Serialize};

use crate::points::{Scene, kill_everywhere};
use crate::sleeper::{PATIENCE, Sleeper, WhenAsleep, whenever_told};
use crate::support::{Options, amount, eventually, isolated_with};
use crate::trace::between_marks;

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

/// Another process, which waits for the lock, and gives it back. Whether it was told that the holder before it had ended.
fn wait(lock: Lock, line: Connection) {
    whenever_told(&line, || lock.acquire().unwrap().was_abandoned());
}

/// Who uses a lock, and what is in use while nothing happens.
struct Users {
    lock: Lock,
    waiter: Arc<Sleeper>,
    usage: Usage,
}

impl Users {
    fn new() -> Self {
        let lock = Lock::new().unwrap();
        let (waiter, _): (_, bool) = Sleeper::start(wait, |line| (lock.clone(), line));
        Self { lock, waiter: Arc::new(waiter), usage: usage().unwrap() }
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

/// Whoever had it before has ended with it in its hands.
struct Abandoned(Users);

fn end_with_it(lock: Lock) {
    lock.acquire().unwrap().keep();
}

impl Scene for Abandoned {
    fn start(&mut self) -> (Process<()>, Connection) {
        Process::spawn(end_with_it, (self.0.lock.clone(),)).unwrap().result().unwrap();
        eventually("it was swept for", || usage().unwrap() == self.0.usage);
        self.0.start(Act::Use)
    }

    fn check(&mut self, is_done: bool) {
        let was_held = self.0.lock.is_locked();
        assert!(!(is_done && was_held));
        // Of two that died one behind the other the next one is told once.
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
        self.0.waiter.fall_asleep();
    }

    fn check(&mut self, is_done: bool) {
        let was_abandoned: bool = self.0.waiter.woken();
        assert!(!(is_done && was_abandoned));
        assert!(!self.0.assert_usable());
    }
}

/// The one that is killed sleeps in front of the lock and is woken first; another one sleeps behind it.
struct Awaited {
    users: Users,
    /// Has the other one fall asleep too, and releases the lock.
    release: Option<WhenAsleep<()>>,
}

impl Scene for Awaited {
    fn start(&mut self) -> (Process<()>, Connection) {
        self.users.lock.acquire().unwrap().keep();
        self.users.start(Act::Use)
    }

    fn prepared(&mut self, pid: i32) {
        let (waiter, lock) = (self.users.waiter.clone(), self.users.lock.clone());
        let release = move || {
            waiter.fall_asleep();
            lock.release().unwrap();
        };
        self.release = Some(WhenAsleep::start(pid, release));
    }

    fn check(&mut self, is_done: bool) {
        self.release.take().unwrap().finish();
        let was_abandoned: bool = self.users.waiter.woken();
        assert!(!(is_done && was_abandoned));
        assert!(!self.users.assert_usable());
    }
}

/// FC1.
#[test]
fn a_process_is_killed_anywhere_in_acquiring_and_releasing() {
    isolated_with(options(), || kill_everywhere("alone", &mut Alone(Users::new())));
}

/// FC1.
#[test]
fn a_process_is_killed_anywhere_in_taking_a_lock_over() {
    isolated_with(options(), || kill_everywhere("abandoned", &mut Abandoned(Users::new())));
}

/// FC1.
#[test]
fn a_process_is_killed_anywhere_in_releasing_a_lock_that_somebody_waits_for() {
    isolated_with(options(), || kill_everywhere("released", &mut Released(Users::new())));
}

/// FC2.
#[test]
fn a_process_is_killed_anywhere_in_waiting_for_a_lock() {
    isolated_with(options(), || {
        kill_everywhere("awaited", &mut Awaited { users: Users::new(), release: None })
    });
}
