//! Words in shared memory by which processes wait for each other.
//!
//! - `lock`: one word that knows who holds it, and can be taken over from a process that is gone;
//! - `eventcount`: sleeping until some condition, kept elsewhere, may have become true;
//! - `tasks`: the same for tasks, which must not block their thread;
//! - [`SharedLock`]: a lock in the memory of the family, as the face uses it.
//!
//! The first two are pure: no `unsafe`, no system call. Sleeping and waking go through `Park`, so that loom can drive them.
//! `mailbox/README.md` has the rules and the proof sketch.

pub(crate) mod eventcount;
pub(crate) mod lock;
#[cfg(test)]
#[cfg(loom)]
mod models;
#[cfg(not(all(test, loom)))]
mod shared;
#[cfg(not(all(test, loom)))]
pub(crate) mod tasks;

#[cfg(not(all(test, loom)))]
pub use shared::{Found, Holder, SharedLock};

use crate::atomic::AtomicU32;
use std::time::Instant;

/// How a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parked {
    /// Somebody woke us, the word had changed, or for no reason at all: look at the condition.
    Awake,
    /// The deadline came first.
    TimedOut,
}

/// Sleeping on a word and waking who sleeps there: the contract of futex(2).
pub(crate) trait Park {
    /// Sleeps if `word` is `expected`, which is compared and slept on in one step.
    fn park(&self, word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> Parked;

    /// Wakes up to `count` of those who sleep on `word`.
    fn wake(&self, word: &AtomicU32, count: u32);
}

/// For [`Park::wake`]: all of them.
pub(crate) const ALL: u32 = i32::MAX as u32;

/// Sleeping and waking by the kernel.
#[cfg(not(all(test, loom)))]
#[derive(Debug)]
pub(crate) struct Futex;

#[cfg(not(all(test, loom)))]
impl Park for Futex {
    fn park(&self, word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> Parked {
        match crate::sys::futex::wait(word, expected, deadline) {
            Ok(crate::sys::futex::Slept::TimedOut) => Parked::TimedOut,
            // The kernel refuses only words that are not mapped or not aligned, and there are none such.
            Ok(crate::sys::futex::Slept::Awake) | Err(_) => Parked::Awake,
        }
    }

    fn wake(&self, word: &AtomicU32, count: u32) {
        crate::sys::futex::wake(word, count);
    }
}
