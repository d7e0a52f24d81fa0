//! Looking a few times before going to sleep.
//!
//! Waking a sleeping process takes microseconds (tens of them on a virtual machine whose idle processors halt), while the
//! answer is often one microsecond away. So a wait looks for it first, within three rules:
//! - never longer than [`LIMIT`] before it sleeps, so somebody who waits for long uses no processor time;
//! - the processor is offered to others between two looks (sched_yield(2)), so the peer is not kept from answering when
//!   there are more runnable threads than processors;
//! - it adapts: where looking did not help lately, it mostly goes to sleep at once; and where things come one by one, faster
//!   than they are looked for, it lets a few gather first. Otherwise each look takes the cache line that the other side is
//!   about to write again, and both work at the pace of that line.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest time of looking: 10 us.
pub const LIMIT: Duration = Duration::from_micros(10);

/// What this process looks for, in nanoseconds, never more than [`LIMIT`].
static ALLOWED: AtomicU32 = AtomicU32::new(LIMIT.subsec_nanos());

/// Sets how long this process looks before it sleeps: at most [`LIMIT`], and zero is not at all.
pub fn set_limit(limit: Duration) {
    ALLOWED.store(limit.min(LIMIT).subsec_nanos(), Ordering::Relaxed);
}

/// Credit that a successful look adds, and the most there can be.
const REWARD: u32 = 4;
const MOST: u32 = 64;

/// Without credit, every so many waits look all the same: times change.
const PROBE: u32 = 32;

/// How long things gather before they are looked for: 1 us. It is a part of the time of looking.
const GATHERING: Duration = Duration::from_micros(1);

/// After so many looks that found a single thing, one lets things gather: times change.
const TRIAL: u32 = 16;

/// What one waiting party has learned about its waits.
#[derive(Debug, Clone)]
pub struct Spin {
    credit: u32,
    skipped: u32,
    /// Whether the next look lets things gather first, and how many looks in a row have found a single one.
    gathers: bool,
    single: u32,
}

impl Default for Spin {
    fn default() -> Self {
        Self { credit: REWARD, skipped: 0, gathers: false, single: 0 }
    }
}

impl Spin {
    /// Looks until `look` gives something, for at most [`LIMIT`]. `None`: go to sleep.
    pub fn look<T>(&mut self, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let until = self.begin()?;
        if self.gathers {
            give_way(until.min(Instant::now() + GATHERING));
        }
        loop {
            if let Some(found) = look() {
                self.end(true);
                return Some(found);
            }
            if Instant::now() >= until {
                self.end(false);
                return None;
            }
            std::thread::yield_now();
        }
    }

    /// Learns whether a successful look has left more to be found: then the next one lets more gather first.
    pub fn has_left(&mut self, more: bool) {
        self.single = if more { 0 } else { (self.single + 1) % TRIAL };
        self.gathers = more || self.single == 0;
    }

    /// Until when to look, for callers that have their own loop; `None`: go to sleep. [`end`](Self::end) follows.
    pub fn begin(&mut self) -> Option<Instant> {
        let allowed = ALLOWED.load(Ordering::Relaxed);
        if allowed == 0 {
            return None;
        }
        if self.credit == 0 && self.skipped < PROBE {
            self.skipped += 1;
            return None;
        }
        self.skipped = 0;
        Some(Instant::now() + Duration::from_nanos(allowed.into()))
    }

    /// Learns from a look that [`begin`](Self::begin) allowed.
    pub fn end(&mut self, has_found: bool) {
        self.credit =
            if has_found { (self.credit + REWARD).min(MOST) } else { self.credit.saturating_sub(1) };
    }
}

/// Offers the processor to others.
fn give_way(until: Instant) {
    while Instant::now() < until {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_in_vain_becomes_rare_and_success_brings_it_back() {
        let mut spin = Spin::default();
        let mut looked = 0;
        for _ in 0..1000 {
            let mut first = true;
            spin.look(|| {
                looked += u32::from(std::mem::take(&mut first));
                None::<()>
            });
        }
        assert!((1000 / (PROBE + 1)..=1000 / PROBE + REWARD + 1).contains(&looked), "{looked}");
        while spin.look(|| Some(())).is_none() {}
        assert_eq!(spin.look(|| Some(5)), Some(5));
    }

    #[test]
    fn things_gather_while_several_are_found_and_once_in_a_while_that_is_tried() {
        let mut spin = Spin::default();
        let mut tried = 0;
        for _ in 0..10 * TRIAL {
            spin.has_left(false);
            tried += u32::from(spin.gathers);
        }
        assert_eq!(tried, 10);
        spin.has_left(true);
        assert!(spin.gathers);
        spin.has_left(true);
        assert!(spin.gathers);
        spin.has_left(false);
        assert!(!spin.gathers);
    }
}
