//! Loom's models of the lock and the event count: the product's files, every order of their steps.
//!
//! Each was seen to fail with one thing changed, which its comment names. The command is in `mailbox/README.md`.

use super::eventcount::EventCount;
use super::lock::{Acquired, Lock};
use super::{ALL, Park, Parked};
use crate::atomic::{AtomicU32, Ordering};
use crate::liveness::ProcessId;
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

/// futex(2) by its contract: comparing and going to sleep are one step for those who wake.
struct Futex {
    queue: Mutex<()>,
    woken: Condvar,
}

impl Futex {
    fn new() -> Self {
        Self { queue: Mutex::new(()), woken: Condvar::new() }
    }
}

impl Park for Futex {
    fn park(&self, word: &AtomicU32, expected: u32, _deadline: Option<Instant>) -> Parked {
        let queue = self.queue.lock().unwrap();
        if word.load(Ordering::Relaxed) == expected {
            drop(self.woken.wait(queue).unwrap());
        }
        Parked::Awake
    }

    fn wake(&self, _word: &AtomicU32, count: u32) {
        let _queue = self.queue.lock().unwrap();
        if count == ALL { self.woken.notify_all() } else { self.woken.notify_one() }
    }
}

/// The end of whoever sleeps and is woken.
struct Dies<'a>(&'a Futex);

impl Park for Dies<'_> {
    fn park(&self, word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> Parked {
        self.0.park(word, expected, deadline);
        resume_unwind(Box::new(()))
    }

    fn wake(&self, word: &AtomicU32, count: u32) {
        self.0.wake(word, count);
    }
}

fn model(threads: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(threads);
}

fn id(slot: u32) -> ProcessId {
    ProcessId::new(slot, 1).unwrap()
}

/// A lock, and a number that only its holder touches: two who do so at once would count one, and so would who does not see
/// what the last holder did.
struct Protected {
    lock: Lock,
    number: AtomicU32,
    futex: Futex,
}

impl Protected {
    fn new() -> Arc<Self> {
        Arc::new(Self { lock: Lock::new(), number: AtomicU32::new(0), futex: Futex::new() })
    }

    /// Acquires, adds one, and leaves the lock as it is.
    fn add(&self, own: ProcessId) -> Acquired {
        let acquired = self.lock.acquire(own, &self.futex, None).unwrap();
        self.number.store(self.number.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        acquired
    }
}

/// Fails with Relaxed in `release`, in `release_own` or in `take`, and without the wake-up in one of the first two.
#[test]
fn one_at_a_time_holds_a_lock_and_nobody_sleeps_for_ever() {
    model(|| {
        let shared = Protected::new();
        let run = |slot| {
            let shared = Arc::clone(&shared);
            move || {
                assert_eq!(shared.add(id(slot)), Acquired::Released);
                if slot == 1 {
                    shared.lock.release(&shared.futex).unwrap();
                } else {
                    shared.lock.release_own(id(slot), &shared.futex);
                }
            }
        };
        let others = [thread::spawn(run(1)), thread::spawn(run(2))];
        run(3)();
        others.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(shared.lock.holder(), None);
        assert_eq!(shared.number.load(Ordering::Relaxed), 3);
    });
}

/// The process 1 ends with the lock in its hands while 2 wants it too; others sweep, twice. Fails without the wake-up in
/// `abandon`, and with Relaxed there: then who takes over does not see what the dead did.
#[test]
fn a_lock_of_the_dead_is_taken_over_once_by_whoever_waits() {
    model(|| {
        let shared = Protected::new();
        let waiter = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let acquired = shared.add(id(2));
                shared.lock.release(&shared.futex).unwrap();
                acquired
            }
        });
        let dying = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.add(id(1))
        });
        assert_eq!(dying.join().unwrap(), Acquired::Released);
        shared.lock.abandon(id(1), &shared.futex);
        shared.lock.abandon(id(1), &shared.futex);
        let (dead, nobody) = (Acquired::TakenOver(id(1)), Acquired::Released);
        let left = if waiter.join().unwrap() == dead { nobody } else { dead };
        assert_eq!(shared.lock.try_acquire(id(3)), Some(left), "told once");
        assert_eq!(shared.number.load(Ordering::Relaxed), 2);
    });
}

/// The victim ends at the moment in which it is woken. Fails if `abandon` wakes only where the dead was the holder.
#[test]
fn the_wake_up_that_a_dead_waiter_got_is_given_again() {
    model(|| {
        let shared = Protected::new();
        shared.lock.try_acquire(id(1)).unwrap();
        let victim = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let dies =
                    catch_unwind(AssertUnwindSafe(|| shared.lock.acquire(id(2), &Dies(&shared.futex), None)));
                if dies.is_ok() {
                    shared.lock.release(&shared.futex).unwrap();
                }
            }
        });
        let waiter = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                shared.add(id(3));
                shared.lock.release(&shared.futex).unwrap();
            }
        });
        shared.lock.release(&shared.futex).unwrap();
        victim.join().unwrap();
        shared.lock.abandon(id(2), &shared.futex);
        waiter.join().unwrap();
    });
}

/// An event count, and the condition that it is for.
struct Shared {
    event: EventCount,
    tokens: AtomicU32,
    futex: Futex,
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self { event: EventCount::new(), tokens: AtomicU32::new(0), futex: Futex::new() })
    }

    fn give(&self) {
        self.tokens.fetch_add(1, Ordering::Release);
        self.event.notify(&self.futex, 1);
    }

    fn take(&self) {
        let taken = self.event.wait_for(&self.futex, None, || {
            self.tokens
                .fetch_update(Ordering::Acquire, Ordering::Relaxed, |tokens| tokens.checked_sub(1))
                .ok()
        });
        assert!(taken.is_some());
    }
}

/// Fails without either fence, and without the second look at the condition.
#[test]
fn no_wake_up_is_lost() {
    model(|| {
        let shared = Shared::new();
        let takers = [(), ()].map(|()| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.take())
        });
        shared.give();
        shared.give();
        takers.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

/// Fails if `prepare` does not look at the epoch again.
#[test]
fn no_wake_up_is_lost_when_a_sweep_comes_between() {
    model(|| {
        let shared = Shared::new();
        let taker = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.take()
        });
        let sweeper = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.event.reset(&shared.futex)
        });
        shared.give();
        taker.join().unwrap();
        sweeper.join().unwrap();
    });
}
