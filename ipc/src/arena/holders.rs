//! Which processes have handles of which objects: a bit for each process and cell.
//!
//! A word has the bits of 32 processes for one cell, and a number that is one higher each time that one of them is set:
//!
//! `set 32 | bits 32`
//!
//! Words for the first 32 slots of the process table come first, for all cells, then those for the next 32. So a family of
//! a few processes has eight bytes for each object, and asking whether anybody has a handle is one load.
//!
//! A process sets and clears bits of its own; those of one that is gone are cleared by sweeps. Several may sweep for it, and
//! the slowest when the slot has a new holder already: so a sweep clears by CAS, from a word that it read *before* it made
//! sure that the slot is not another's yet. If the new holder has set the bit since, the number has changed.

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::liveness::{ProcessId, SLOTS};

/// Processes in a word.
const GROUP: u32 = 32;

/// Words for each cell.
pub(super) const GROUPS: u32 = SLOTS / GROUP;

/// What is added when a bit is set.
const SET: u64 = 1 << GROUP;

/// The bits of all cells.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holders {
    /// Words from the group of this number on have never been used. Only grows, and is raised before a bit is set.
    high: &'static AtomicU32,
    words: &'static [AtomicU64],
    cells: usize,
}

impl Holders {
    /// Those of so many cells, [`GROUPS`] words each.
    pub(super) fn new(high: &'static AtomicU32, words: &'static [AtomicU64], cells: usize) -> Self {
        Self { high, words, cells }
    }

    fn word(&self, index: u32, group: u32) -> Option<&'static AtomicU64> {
        let index = usize::try_from(index).ok().filter(|index| *index < self.cells)?;
        self.words.get(group as usize * self.cells + index)
    }

    fn place(&self, index: u32, process: ProcessId) -> Option<(&'static AtomicU64, u64)> {
        let word = self.word(index, process.slot() / GROUP)?;
        Some((word, 1 << (process.slot() % GROUP)))
    }

    /// This process has a handle from now on.
    pub(super) fn set(&self, index: u32, own: ProcessId) {
        let Some((word, bit)) = self.place(index, own) else { return };
        let group = own.slot() / GROUP;
        if self.high.load(Ordering::Relaxed) <= group {
            self.high.fetch_max(group + 1, Ordering::Relaxed);
        }
        // What makes it known in time is the change of the header that follows.
        let set = |seen: u64| (seen & bit == 0).then(|| (seen | bit).wrapping_add(SET));
        let _ = word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, set);
    }

    /// This process has no handle any more.
    pub(super) fn clear(&self, index: u32, own: ProcessId) {
        let Some((word, bit)) = self.place(index, own) else { return };
        // Release: whoever ends the object has seen all that we did with it.
        let _ = word.fetch_update(Ordering::AcqRel, Ordering::Relaxed, |seen| {
            (seen & bit != 0).then_some(seen & !bit)
        });
    }

    /// The process `gone` has no handle any more. `is_its` says whether nobody else has its slot yet.
    pub(super) fn clear_of(&self, index: u32, gone: ProcessId, is_its: impl Fn() -> bool) {
        let Some((word, bit)) = self.place(index, gone) else { return };
        // Acquire pairs with the AcqRel of `set`: if the bit is a new holder's, `is_its` knows of that one.
        let mut seen = word.load(Ordering::Acquire);
        while seen & bit != 0 && is_its() {
            match word.compare_exchange_weak(seen, seen & !bit, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }

    /// Whether some process has a handle.
    pub(super) fn is_any(&self, index: u32) -> bool {
        let groups = self.high.load(Ordering::Relaxed).min(GROUPS);
        // Acquire pairs with the Release of `clear`.
        let bits = |word: &AtomicU64| word.load(Ordering::Acquire) % SET;
        (0..groups).filter_map(|group| self.word(index, group)).any(|word| bits(word) != 0)
    }

    /// The slots of the processes that have a handle.
    pub(super) fn slots(&self, index: u32) -> Vec<u32> {
        let groups = self.high.load(Ordering::Relaxed).min(GROUPS);
        let has = |slot: &u32| {
            let word = self.word(index, slot / GROUP);
            word.is_some_and(|word| word.load(Ordering::Acquire) & (1 << (slot % GROUP)) != 0)
        };
        (0..groups * GROUP).filter(has).collect()
    }
}
