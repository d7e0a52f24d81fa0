//! Sleeping until a condition that is kept elsewhere may have become true, without a lock around it.
//!
//! Who waits says so first, looks at the condition once more, and then sleeps; who makes the condition true looks whether
//! anybody waits, and mostly nobody does, which costs no system call:
//!
//! ```text
//! waiter                                  notifier
//! 1 sleepers += 1                         1 make the condition true
//! 2 fence                                 2 fence
//! 3 key = sequence                        3 sleepers == 0? done
//! 4 the condition? then leave             4 sequence += 1
//! 5 sleep while sequence == key           5 wake
//! 6 sleepers -= 1
//! ```
//!
//! The two fences are ordered one way or the other, so either the waiter sees the condition at 4 or the notifier sees the
//! waiter at 3. In the second case 4 comes after 3 of the waiter, or the waiter sees the condition after all.
//!
//! The number of sleepers may be too high, when a sleeper was killed: that costs a system call. It must never be too low.
//! A sweep sets it to zero, starts a new *epoch* and wakes all. So who was counted in an epoch before never counts down,
//! and who finds the epoch changed while going to sleep begins again.

use super::{ALL, Park, Parked};
#[cfg(not(all(test, loom)))]
use super::{Futex, tasks::Event};
use crate::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::Instant;

/// One more epoch, one more sleeper.
const EPOCH: u64 = 1 << 32;
const SLEEPER: u64 = 1;

/// The words. All zero is one on which nobody sleeps.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct EventCount {
    /// Epoch in the upper half, changed by sweeps; sleepers in the lower half, each counts itself.
    state: AtomicU64,
    /// What sleepers sleep on; changed by notifiers and sweeps.
    sequence: AtomicU32,
}

/// Says that its owner is about to sleep.
#[derive(Debug, Clone, Copy)]
#[must_use = "a ticket is for sleeping, or is given back by `cancel`"]
pub(crate) struct Ticket {
    epoch: u64,
    pub(super) key: u32,
}

#[cfg(not(all(test, loom)))]
impl Ticket {
    /// For a word that nobody is counted at.
    pub(super) const fn of_key(key: u32) -> Self {
        Self { epoch: 0, key }
    }
}

impl EventCount {
    /// One on which nobody sleeps.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        Self { state: AtomicU64::new(0), sequence: AtomicU32::new(0) }
    }

    /// Waits until `condition` gives something; `None`: the deadline came first.
    pub(crate) fn wait_for<T>(
        &self,
        park: &impl Park,
        deadline: Option<Instant>,
        mut condition: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        loop {
            if let Some(found) = condition() {
                return Some(found);
            }
            let ticket = self.prepare();
            if let Some(found) = condition() {
                self.cancel(&ticket);
                return Some(found);
            }
            let parked = park.park(&self.sequence, ticket.key, deadline);
            self.cancel(&ticket);
            if parked == Parked::TimedOut {
                return condition();
            }
        }
    }

    /// Announces a sleeper. The condition must be looked at between this and sleeping.
    pub(crate) fn prepare(&self) -> Ticket {
        loop {
            let epoch = self.state.fetch_add(SLEEPER, Ordering::Relaxed) / EPOCH;
            // Pairs with the fence of `notify`.
            fence(Ordering::SeqCst);
            // Acquire pairs with the Release in `bump`: who sees a new number sees the condition or the epoch behind it.
            let key = self.sequence.load(Ordering::Acquire);
            if self.state.load(Ordering::Relaxed) / EPOCH == epoch {
                return Ticket { epoch, key };
            }
            // A sweep no longer counts us; whom it woke was not us.
        }
    }

    /// Takes the announcement back.
    pub(crate) fn cancel(&self, ticket: &Ticket) {
        let mut seen = self.state.load(Ordering::Relaxed);
        while seen / EPOCH == ticket.epoch && !seen.is_multiple_of(EPOCH) {
            let fewer = seen - SLEEPER;
            match self.state.compare_exchange_weak(seen, fewer, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Wakes up to `count` sleepers, after the condition has become true.
    pub(crate) fn notify(&self, park: &impl Park, count: u32) {
        // Pairs with the fence of `prepare`.
        fence(Ordering::SeqCst);
        if !self.state.load(Ordering::Relaxed).is_multiple_of(EPOCH) {
            self.bump(park, count);
        }
    }

    /// What a sweep does: one of the sleepers is no more, or was woken and could not act.
    pub(crate) fn reset(&self, park: &impl Park) {
        let mut seen = self.state.load(Ordering::Relaxed);
        loop {
            let next = (seen / EPOCH).wrapping_add(1).wrapping_mul(EPOCH);
            match self.state.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        self.bump(park, ALL);
    }

    fn bump(&self, park: &impl Park, count: u32) {
        self.sequence.fetch_add(1, Ordering::Release);
        park.wake(&self.sequence, count);
    }
}

#[cfg(not(all(test, loom)))]
impl Event for EventCount {
    fn announce(&self) -> Ticket {
        self.prepare()
    }

    fn withdraw(&self, ticket: &Ticket) {
        self.cancel(ticket);
    }

    fn has_moved(&self, ticket: &Ticket) -> bool {
        // Acquire pairs with the Release in `bump`.
        self.sequence.load(Ordering::Acquire) != ticket.key
    }

    fn word(&self) -> &AtomicU32 {
        &self.sequence
    }

    fn pass_on(&self) {
        self.notify(&Futex, 1);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// Runs a step instead of sleeping, and counts the wake-ups.
    struct Steps<'a> {
        steps: RefCell<Vec<Box<dyn FnMut() -> Parked + 'a>>>,
        woken: Cell<u32>,
    }

    impl Park for Steps<'_> {
        fn park(&self, _word: &AtomicU32, _expected: u32, _deadline: Option<Instant>) -> Parked {
            let step = self.steps.borrow_mut().pop();
            step.map_or(Parked::TimedOut, |mut step| step())
        }

        fn wake(&self, _word: &AtomicU32, _count: u32) {
            self.woken.set(self.woken.get() + 1);
        }
    }

    fn steps<'a>(steps: Vec<Box<dyn FnMut() -> Parked + 'a>>) -> Steps<'a> {
        Steps { steps: RefCell::new(steps), woken: Cell::new(0) }
    }

    #[test]
    fn nobody_is_woken_where_nobody_sleeps() {
        let (event, park) = (EventCount::new(), steps(Vec::new()));
        event.notify(&park, 1);
        assert_eq!(event.wait_for(&park, None, || Some(5)), Some(5));
        event.notify(&park, 1);
        assert_eq!(park.woken.get(), 0);
    }

    #[test]
    fn a_sleeper_is_counted_while_it_sleeps_only() {
        let (event, is_true, outside) = (EventCount::new(), Cell::new(false), steps(Vec::new()));
        let park = steps(vec![Box::new(|| {
            event.notify(&outside, 1);
            is_true.set(true);
            Parked::Awake
        })]);
        assert_eq!(event.wait_for(&park, None, || is_true.get().then_some(())), Some(()));
        event.notify(&outside, 1);
        assert_eq!(outside.woken.get(), 1);
    }

    #[test]
    fn a_wait_ends_at_its_deadline_with_a_last_look() {
        let (event, is_true) = (EventCount::new(), Cell::new(false));
        let park = steps(vec![Box::new(|| {
            is_true.set(true);
            Parked::TimedOut
        })]);
        assert_eq!(event.wait_for(&steps(Vec::new()), None, || None::<()>), None);
        assert_eq!(event.wait_for(&park, None, || is_true.get().then_some(1)), Some(1));
    }

    #[test]
    fn sleepers_of_an_epoch_before_do_not_count_down() {
        let (event, outside) = (EventCount::new(), steps(Vec::new()));
        let killed = event.prepare();
        let park = steps(vec![Box::new(|| {
            event.reset(&outside);
            let _asleep = event.prepare();
            Parked::TimedOut
        })]);
        event.wait_for(&park, None, || None::<()>);
        event.cancel(&killed);
        event.notify(&outside, 1);
        assert_eq!(outside.woken.get(), 2, "the sweep, and the notification: one is still asleep");
    }
}
