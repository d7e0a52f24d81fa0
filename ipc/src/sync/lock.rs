//! A lock word that survives the death of whoever holds it.
//!
//! ```text
//! FREE       0                    nobody holds it
//! HELD       id << 2 | flags      the process `id` holds it
//! ABANDONED  HELD | ABANDONED     the process `id` held it and is gone: whoever comes next takes it over
//!
//! flags      WAITED     somebody may sleep on the word, so who releases it wakes one
//!            ABANDONED  set by a sweep only, and only once the holder is *gone* (mailbox/README.md, rule 1)
//! ```
//!
//! As plain as the mutex of the standard library over futex(2), with the one state more that processes need. The logic
//! knows nothing of pids and marks: a sweep says who is gone ([`Lock::abandon`]), an acquirer only believes the word.
//! Anybody may release a lock, as in Python. A wake-up that was given to a process that then dies is given again by the
//! sweep, which wakes all sleepers of every lock.

use super::{ALL, Park, Parked};
#[cfg(not(all(test, loom)))]
use super::{Futex, eventcount::Ticket, tasks::Event};
use crate::atomic::{AtomicU32, Ordering};
use crate::liveness::ProcessId;
use std::time::Instant;

const FREE: u32 = 0;
const WAITED: u32 = 1;
const ABANDONED: u32 = 2;
const FLAGS: u32 = WAITED | ABANDONED;

/// How often a held lock is looked at before sleeping: about a microsecond, while a lock is mostly held for less.
#[cfg(not(all(test, loom)))]
const LOOKS: u32 = 64;
#[cfg(all(test, loom))]
const LOOKS: u32 = 0;

/// The word. All zero is a lock that nobody holds.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Lock {
    /// Changed by acquirers (to HELD), by waiters (WAITED), by whoever releases (to FREE), by sweeps (ABANDONED).
    word: AtomicU32,
}

/// How a lock was acquired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// From nobody: whoever had it before released it.
    Released,
    /// From a process that is gone: what the lock protects is as that process left it.
    TakenOver(ProcessId),
}

/// The lock was not held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotHeld;

impl Lock {
    /// A lock that nobody holds.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self { word: AtomicU32::new(FREE) }
    }

    /// Acquires it if that needs no waiting.
    #[inline]
    pub(crate) fn try_acquire(&self, own: ProcessId) -> Option<Acquired> {
        if self.take_free(own) { Some(Acquired::Released) } else { self.take(own, 0).ok() }
    }

    /// As [`try_acquire`](Self::try_acquire), by somebody who was perhaps woken for it: others may sleep on.
    #[cfg(not(all(test, loom)))]
    pub(crate) fn try_acquire_woken(&self, own: ProcessId) -> Option<Acquired> {
        self.take(own, WAITED).ok()
    }

    /// Acquires it, asleep while somebody else holds it. `None`: the deadline came first.
    #[inline]
    pub(crate) fn acquire(
        &self,
        own: ProcessId,
        park: &impl Park,
        deadline: Option<Instant>,
    ) -> Option<Acquired> {
        if self.take_free(own) {
            return Some(Acquired::Released);
        }
        self.acquire_slowly(own, park, deadline)
    }

    /// FREE -> HELD by `own`, the way of almost every lock.
    #[inline]
    fn take_free(&self, own: ProcessId) -> bool {
        // Acquire as in `take`.
        let held = own.bits() << FLAGS.count_ones();
        self.word.compare_exchange(FREE, held, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn acquire_slowly(
        &self,
        own: ProcessId,
        park: &impl Park,
        deadline: Option<Instant>,
    ) -> Option<Acquired> {
        for _ in 0..LOOKS {
            if let Ok(acquired) = self.take(own, 0) {
                return Some(acquired);
            }
            std::hint::spin_loop();
        }
        loop {
            // Others may sleep beside us, and whoever releases wakes one only: so we leave the flag set.
            let seen = match self.take(own, WAITED) {
                Ok(acquired) => return Some(acquired),
                Err(seen) => seen,
            };
            if !self.set_waited(seen) {
                continue;
            }
            if park.park(&self.word, seen | WAITED, deadline) == Parked::TimedOut {
                return self.take(own, WAITED).ok();
            }
        }
    }

    /// FREE or ABANDONED -> HELD by `own`. The word, if somebody else holds it.
    fn take(&self, own: ProcessId, flags: u32) -> Result<Acquired, u32> {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            let holder = ProcessId::from_bits(seen >> FLAGS.count_ones());
            if is_held(seen) {
                return Err(seen);
            }
            let mine = own.bits() << FLAGS.count_ones() | seen & WAITED | flags;
            // Acquire pairs with the Release of `release` and of `abandon`: we see what the last holder did.
            match self.word.compare_exchange_weak(seen, mine, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Ok(holder.map_or(Acquired::Released, Acquired::TakenOver)),
                Err(now) => seen = now,
            }
        }
    }

    /// Sets WAITED, so that whoever releases wakes us. `false` if the word has changed meanwhile.
    fn set_waited(&self, seen: u32) -> bool {
        seen & WAITED != 0
            || self.word.compare_exchange(seen, seen | WAITED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Gives it back, whoever holds it.
    #[inline]
    pub(crate) fn release(&self, park: &impl Park) -> Result<(), NotHeld> {
        // Release pairs with the Acquire of `take` and `take_free`: the next holder sees what we did.
        let was = self.word.swap(FREE, Ordering::Release);
        if was & WAITED != 0 {
            park.wake(&self.word, 1);
        }
        if was >> FLAGS.count_ones() == 0 { Err(NotHeld) } else { Ok(()) }
    }

    /// Gives it back if `own` holds it: whoever has acquired it since somebody else gave it back keeps it.
    #[inline]
    pub(crate) fn release_own(&self, own: ProcessId, park: &impl Park) {
        let held = own.bits() << FLAGS.count_ones();
        // Mostly nobody waits.
        let mut seen = held;
        while seen & !FLAGS == held {
            // Release as in `release`.
            match self.word.compare_exchange(seen, FREE, Ordering::Release, Ordering::Relaxed) {
                Ok(_) if seen & WAITED != 0 => return park.wake(&self.word, 1),
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// What a sweep does for the process `gone`, which no longer runs: marks the lock if it held it, and wakes all sleepers
    /// in any case, since the wake-up of the last release may have been given to that process.
    pub(crate) fn abandon(&self, gone: ProcessId, park: &impl Park) {
        let mut seen = self.word.load(Ordering::Relaxed);
        while seen >> FLAGS.count_ones() == gone.bits() && seen & ABANDONED == 0 {
            let marked = seen | ABANDONED;
            // Release: who takes over sees what we know of the dead; AcqRel, since we pass on what it did.
            match self.word.compare_exchange_weak(seen, marked, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        park.wake(&self.word, ALL);
    }

    /// Makes it free, when nobody uses it any more.
    pub(crate) fn clear(&self) {
        self.word.store(FREE, Ordering::Relaxed);
    }

    /// Who holds it, or held it when it ended.
    pub(crate) fn holder(&self) -> Option<ProcessId> {
        ProcessId::from_bits(self.word.load(Ordering::Relaxed) >> FLAGS.count_ones())
    }
}

/// Whether there is a process that holds it and is not gone, as far as is known.
fn is_held(word: u32) -> bool {
    word & !FLAGS != FREE && word & ABANDONED == 0
}

/// Tasks sleep on the word as threads do. There is no number of sleepers, so nothing is to be taken back.
#[cfg(not(all(test, loom)))]
impl Event for Lock {
    fn announce(&self) -> Ticket {
        let mut seen = self.word.load(Ordering::Relaxed);
        while is_held(seen) && !self.set_waited(seen) {
            seen = self.word.load(Ordering::Relaxed);
        }
        Ticket::of_key(if is_held(seen) { seen | WAITED } else { seen })
    }

    fn withdraw(&self, _ticket: &Ticket) {}

    /// On a word that nobody holds, nobody sleeps.
    fn has_moved(&self, ticket: &Ticket) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        word != ticket.key || !is_held(word)
    }

    fn word(&self) -> &AtomicU32 {
        &self.word
    }

    fn pass_on(&self) {
        Futex.wake(&self.word, 1);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Nobody to wake, and nothing to wait for: tells what was asked of it.
    #[derive(Default)]
    struct Record(RefCell<Vec<u32>>);

    impl Park for Record {
        fn park(&self, word: &AtomicU32, expected: u32, _deadline: Option<Instant>) -> Parked {
            assert_eq!(word.load(Ordering::Relaxed), expected, "nobody else touches the word");
            Parked::TimedOut
        }

        fn wake(&self, _word: &AtomicU32, count: u32) {
            self.0.borrow_mut().push(count);
        }
    }

    fn id(slot: u32) -> ProcessId {
        ProcessId::new(slot, 7).unwrap()
    }

    #[test]
    fn a_held_lock_is_acquired_by_nobody_until_anybody_releases_it() {
        let (lock, park) = (Lock::new(), Record::default());
        assert_eq!(lock.try_acquire(id(1)), Some(Acquired::Released));
        assert_eq!(lock.holder(), Some(id(1)));
        assert_eq!((lock.try_acquire(id(1)), lock.try_acquire(id(2))), (None, None));
        assert_eq!(lock.release(&park), Ok(()));
        assert_eq!(lock.release(&park), Err(NotHeld));
        assert!(park.0.borrow().is_empty(), "nobody waited");
        assert_eq!(lock.try_acquire(id(2)), Some(Acquired::Released));
    }

    #[test]
    fn a_waiter_that_gives_up_leaves_a_word_that_wakes_the_others() {
        let (lock, park) = (Lock::new(), Record::default());
        lock.try_acquire(id(1));
        assert_eq!(lock.acquire(id(2), &park, Some(Instant::now())), None);
        assert_eq!(lock.release(&park), Ok(()));
        assert_eq!(*park.0.borrow(), [1]);
    }

    #[test]
    fn a_holder_gives_back_what_it_holds_and_nothing_of_others() {
        let (lock, park) = (Lock::new(), Record::default());
        lock.try_acquire(id(1));
        lock.release_own(id(1), &park);
        assert_eq!(lock.holder(), None);
        lock.release_own(id(1), &park);
        lock.try_acquire(id(2));
        lock.release_own(id(1), &park);
        assert_eq!(lock.holder(), Some(id(2)));
        assert!(park.0.borrow().is_empty(), "nobody waited");
        lock.acquire(id(3), &park, Some(Instant::now()));
        lock.release_own(id(1), &park);
        lock.release_own(id(2), &park);
        assert_eq!((lock.holder(), &*park.0.borrow()), (None, &vec![1]));
    }

    #[test]
    fn a_lock_is_taken_over_from_the_gone_holder_only_and_once() {
        let (lock, park) = (Lock::new(), Record::default());
        lock.try_acquire(id(1));
        let earlier = ProcessId::new(1, 6).unwrap();
        for stranger in [id(2), earlier] {
            lock.abandon(stranger, &park);
            assert_eq!(lock.try_acquire(id(3)), None);
        }
        lock.abandon(id(1), &park);
        lock.abandon(id(1), &park);
        assert_eq!(lock.try_acquire(id(3)), Some(Acquired::TakenOver(id(1))));
        lock.abandon(id(1), &park);
        assert_eq!(lock.try_acquire(id(4)), None);
        assert_eq!(*park.0.borrow(), [ALL; 5], "a sweep always wakes all");
        assert_eq!(lock.release(&park), Ok(()));
        assert_eq!(lock.try_acquire(id(4)), Some(Acquired::Released));
    }

    #[test]
    fn whoever_takes_over_wakes_those_who_waited_for_the_dead() {
        let (lock, park) = (Lock::new(), Record::default());
        lock.try_acquire(id(1));
        lock.acquire(id(2), &park, Some(Instant::now()));
        lock.abandon(id(1), &park);
        lock.try_acquire(id(3));
        lock.release(&park).unwrap();
        assert_eq!(*park.0.borrow(), [ALL, 1]);
    }

    #[test]
    fn a_task_sleeps_only_while_the_holder_it_saw_has_the_lock() {
        let (lock, park) = (Lock::new(), Record::default());
        let free = lock.announce();
        assert!(lock.has_moved(&free), "there is nothing to wait for");
        lock.try_acquire(id(1));
        assert!(lock.has_moved(&free));
        let held = lock.announce();
        assert!(!lock.has_moved(&held));
        lock.release(&park).unwrap();
        assert_eq!(*park.0.borrow(), [1], "who releases knows of the task");
        assert!(lock.has_moved(&held) && lock.has_moved(&free));
        lock.try_acquire(id(1));
        assert!(lock.has_moved(&held), "nobody would wake it");
        let held = lock.announce();
        lock.abandon(id(1), &park);
        assert!(lock.has_moved(&held));
    }

    /// A wild store cannot make a lock that nobody can acquire and nobody releases.
    #[test]
    fn flags_without_a_holder_are_a_free_lock() {
        for flags in 0..=FLAGS {
            let lock = Lock { word: AtomicU32::new(flags) };
            assert_eq!(lock.release(&Record::default()), Err(NotHeld));
            let lock = Lock { word: AtomicU32::new(flags) };
            assert_eq!(lock.try_acquire(id(1)), Some(Acquired::Released));
            assert_eq!(lock.try_acquire(id(2)), None);
        }
    }
}
