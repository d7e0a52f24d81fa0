//! Locks between processes: under every start method, and when their holders die.

use crate::family::{contexts, run, start};
use crate::support::{isolated, thread_count};
use procession::prelude::*;
use std::time::Duration;

/// How often each of the processes adds one.
const ROUNDS: u64 = 2000;

fn hold_and_wait(lock: Lock, there: Connection) {
    let guard = lock.acquire().unwrap();
    there.send(&guard.was_abandoned()).unwrap();
    let _: bool = there.recv().unwrap();
}

fn hold_and_abort(lock: Lock) {
    let _guard = lock.acquire().unwrap();
    std::process::abort();
}

fn hold_and_return(lock: Lock) {
    lock.acquire().unwrap().keep();
}

fn release(lock: Lock) {
    lock.release().unwrap();
}

fn wait_for_it(lock: Lock, there: Connection) {
    there.send(&()).unwrap();
    let guard = lock.acquire().unwrap();
    there.send(&guard.was_abandoned()).unwrap();
}

fn make() -> Lock {
    let lock = Lock::new().unwrap();
    lock.acquire().unwrap().keep();
    lock
}

/// T38 (_TestLock.test_lock). Y1, Y2, A34.
#[test]
fn a_lock_is_held_by_one_and_released_once() {
    isolated(|| {
        let lock = Lock::new().unwrap();
        assert!(!lock.is_locked());
        let guard = lock.acquire().unwrap();
        assert!(!guard.was_abandoned() && lock.is_locked());
        assert!(lock.try_acquire().unwrap().is_none());
        assert!(lock.acquire_timeout(Duration::ZERO).unwrap().is_none());
        assert!(lock.acquire_timeout(Duration::from_millis(10)).unwrap().is_none());
        guard.keep();
        lock.release().unwrap();
        let error = lock.release().unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::NotHeld);
        assert_eq!(format!("{lock:?}"), "Lock { is_locked: false }");
    });
}

/// T40 (_TestLock.test_lock_context). Y4.
#[test]
fn a_guard_releases_its_lock() {
    isolated(|| {
        let lock = Lock::new().unwrap();
        drop(lock.acquire().unwrap());
        drop(lock.try_acquire().unwrap().unwrap());
        drop(lock.acquire_timeout(Duration::MAX).unwrap().unwrap());
        assert!(!lock.is_locked());
        let panics = std::panic::catch_unwind(|| {
            let _guard = lock.acquire().unwrap();
            panic!("with the lock in its hands");
        });
        assert!(panics.is_err() && !lock.is_locked());
    });
}

/// Y12, D3: Python's lock stays held for ever.
#[test]
fn the_next_one_gets_the_lock_of_a_process_that_ended_and_is_told() {
    isolated(|| {
        for context in contexts() {
            let lock = Lock::new().unwrap();
            let (here, there) = pipe().unwrap();
            let killed = start(&context, hold_and_wait, (lock.clone(), there));
            assert!(!here.recv::<bool>().unwrap());
            assert!(lock.try_acquire().unwrap().is_none(), "its holder lives");
            killed.kill().unwrap();
            let guard = lock.acquire().unwrap();
            assert!(guard.was_abandoned(), "{context:?}");
            drop(guard);
            assert!(!lock.acquire().unwrap().was_abandoned(), "the next one is not told again");

            start(&context, hold_and_abort, (lock.clone(),)).join().unwrap();
            assert!(lock.acquire().unwrap().was_abandoned(), "{context:?}");
            run(&context, hold_and_return, (lock.clone(),));
            assert!(lock.acquire().unwrap().was_abandoned(), "{context:?}");
        }
    });
}

/// FC2: two wait, one of them is killed; the other one gets the lock.
#[test]
fn a_killed_waiter_keeps_nobody_waiting() {
    isolated(|| {
        let lock = Lock::new().unwrap();
        let guard = lock.acquire().unwrap();
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let (here, there) = pipe().unwrap();
                let process = Process::spawn(wait_for_it, (lock.clone(), there)).unwrap();
                here.recv::<()>().unwrap();
                (process, here)
            })
            .collect();
        waiters[0].0.kill().unwrap();
        drop(guard);
        assert!(!waiters[1].1.recv::<bool>().unwrap());
        for (process, _) in &waiters {
            process.join().unwrap();
        }
        assert!(lock.acquire_timeout(Duration::from_secs(60)).unwrap().is_some());
    });
}

/// Y1: whoever has a handle may release. Y11: handles travel in arguments and results.
#[test]
fn a_lock_may_come_back_as_a_result_and_be_released_elsewhere() {
    isolated(|| {
        for context in contexts() {
            let lock = Lock::new().unwrap();
            lock.acquire().unwrap().keep();
            run(&context, release, (lock.clone(),));
            assert!(!lock.is_locked(), "{context:?}");
            let made: Lock = run(&context, make, ());
            assert!(made.acquire().unwrap().was_abandoned(), "{context:?}");
        }
    });
}

/// Y1: what another process has acquired meanwhile is that one's.
#[test]
fn a_guard_whose_lock_was_released_elsewhere_releases_nothing_of_others() {
    isolated(|| {
        for context in contexts() {
            let lock = Lock::new().unwrap();
            let guard = lock.acquire().unwrap();
            run(&context, release, (lock.clone(),));
            let (here, there) = pipe().unwrap();
            let holder = start(&context, hold_and_wait, (lock.clone(), there));
            assert!(!here.recv::<bool>().unwrap());
            drop(guard);
            assert!(lock.try_acquire().unwrap().is_none(), "{context:?}: another one holds it");
            here.send(&true).unwrap();
            holder.result().unwrap();
            assert!(!lock.acquire().unwrap().was_abandoned());
        }
    });
}

/// Y1, Y12: whoever releases the lock of the dead says that all is in order.
#[test]
fn a_lock_of_a_process_that_ended_may_be_released_too() {
    isolated(|| {
        for context in contexts() {
            let lock = Lock::new().unwrap();
            run(&context, hold_and_return, (lock.clone(),));
            assert!(lock.is_locked());
            lock.release().unwrap();
            assert!(!lock.acquire().unwrap().was_abandoned(), "{context:?}");
        }
    });
}

fn count(lock: Lock, path: String) {
    for _ in 0..ROUNDS {
        let _guard = lock.acquire().unwrap();
        let before: u64 = std::fs::read_to_string(&path).unwrap().parse().unwrap();
        std::fs::write(&path, (before + 1).to_string()).unwrap();
    }
}

#[test]
fn one_process_at_a_time_holds_a_lock() {
    isolated(|| {
        let path = std::env::temp_dir().join("number");
        std::fs::write(&path, "0").unwrap();
        let lock = Lock::new().unwrap();
        let name = path.to_str().unwrap().to_owned();
        let processes: Vec<_> =
            (0..3).map(|_| Process::spawn(count, (lock.clone(), name.clone())).unwrap()).collect();
        for process in processes {
            process.result().unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), (3 * ROUNDS).to_string());
        std::fs::remove_file(&path).unwrap();
    });
}

fn threads_with(lock: Lock) -> (usize, usize) {
    let before = thread_count();
    drop(lock.acquire().unwrap());
    (before, thread_count())
}

#[test]
fn a_process_has_a_keeper_from_its_first_handle_on() {
    isolated(|| {
        for context in contexts() {
            assert_eq!(run(&context, thread_count, ()), 1, "{context:?}");
            let lock = Lock::new().unwrap();
            assert_eq!(run(&context, threads_with, (lock,)), (2, 2), "{context:?}: it has a handle");
        }
    });
}

/// A copy by fork has the handles of its parent, and is another process: what its parent holds it does not hold, and its
/// handles are good when the parent's are gone.
#[test]
fn a_lock_that_a_closure_captures_is_the_same_lock() {
    isolated(|| {
        let lock = Lock::new().unwrap();
        let (here, there) = pipe().unwrap();
        lock.acquire().unwrap().keep();
        let copy = lock.clone();
        let closure = move || {
            let before = copy.try_acquire().unwrap().is_some();
            there.send(&before).unwrap();
            let guard = copy.acquire().unwrap();
            assert!(!guard.was_abandoned());
        };
        // The harness has a thread of its own.
        let process = Process::fork_builder(closure).allow_threads().start().unwrap();
        assert!(!here.recv::<bool>().unwrap());
        lock.release().unwrap();
        drop(lock);
        process.result().unwrap();
    });
}
