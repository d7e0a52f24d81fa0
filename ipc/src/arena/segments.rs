//! Segments: the pieces of the arena that hold the bytes of messages.
//!
//! Who has a segment is said by one word in the segment table ([`State`]). States of its memory:
//!
//! ```text
//! none      nobody has used it, or its memory was given back; `backed` is 0
//! in part   `backed` bytes from its beginning are there: its owner takes more before it writes
//! warm      as above, but free: used again before any other
//! ```
//!
//! - Only the owner of a segment changes `backed`: after memory was taken, and before it is given back. So it never says
//!   more than there is, and a touch never fails.
//! - **No count of those in use.** Segments are taken in the order of their numbers, and none behind the budget: so no more
//!   than the budget is ever in use, but for what was taken under a larger one. `next` and `freed` are hints.

use super::budget;
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::liveness::ProcessId;
use crate::mailbox::segment::{NoSpace, Owned, Owner, Segment, Segments, State, change, look};
use crate::shm::Region;

/// Bytes of a segment.
pub(crate) const SIZE: usize = 256 << 10;
const ROOM: u32 = SIZE as u32;

/// Memory is taken in multiples of this.
const PAGE: u32 = 4 << 10;

/// How many entries are looked at before a new segment is used, as for cells.
const LOOKS: u32 = 64;

/// How many segments may become free before free ones are looked through, and how many of them then keep their memory: when there
/// is nothing else to do (32 MiB), and in any case (256 MiB).
const IDLE: Mark = Mark { freed: 64, warm: 128 };
const BUSY: Mark = Mark { freed: 1024, warm: 1024 };

struct Mark {
    freed: u32,
    warm: usize,
}

/// Words that all segments have in common.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Header {
    /// Segments behind this number have never been used. Only grows, and is raised before one is taken.
    high: AtomicU32,
    /// A hint: no segment up to this number is free, but for a few.
    next: AtomicU32,
    /// A hint: how many segments have become free since free ones were looked through.
    freed: AtomicU32,
    /// No segment behind this number is taken; 0: not decided yet.
    budget: AtomicU32,
}

/// What is known of one segment.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Entry {
    /// A [`State`].
    state: AtomicU64,
    /// The segment that follows it; 0: none. Written by its owner.
    link: AtomicU32,
    /// Bytes from its beginning that have memory. Written by its owner.
    backed: AtomicU32,
}

/// All segments of an arena.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentTable {
    header: &'static Header,
    entries: &'static [Entry],
    region: Region,
    /// Where the first one begins.
    start: usize,
}

impl SegmentTable {
    /// The table of the segments that lie at `start` in `region`.
    pub(crate) fn new(
        header: &'static Header,
        entries: &'static [Entry],
        region: Region,
        start: usize,
    ) -> Self {
        Self { header, entries, region, start }
    }

    /// Bytes that all queues of the family may take.
    pub(crate) fn limit(&self) -> u64 {
        u64::from(self.budget()) * SIZE as u64
    }

    /// Sets that: at least one segment, at most all. What is in use stays in use.
    pub(crate) fn set_limit(&self, bytes: u64) {
        self.header.budget.store(self.whole(bytes), Ordering::Relaxed);
    }

    /// So many bytes as a number of segments.
    fn whole(&self, bytes: u64) -> u32 {
        let all = self.entries.len() as u64;
        u32::try_from((bytes / SIZE as u64).clamp(1, all)).unwrap_or(u32::MAX)
    }

    /// Bytes of the segments that are in use.
    pub(crate) fn in_use(&self) -> u64 {
        let used = self.all().filter(|segment| look(self, *segment).is_some_and(|state| !state.is_free()));
        used.count() as u64 * SIZE as u64
    }

    /// Gives the memory of free segments back, if very many have some: to be called by who makes segments free.
    #[inline]
    pub(crate) fn trim(&self, own: ProcessId) {
        if self.header.freed.load(Ordering::Relaxed) >= BUSY.freed {
            self.give_memory_back(own, BUSY.warm, || true);
            // The rest is for somebody who has nothing else to do.
            self.header.freed.store(IDLE.freed, Ordering::Relaxed);
        }
    }

    /// As [`trim`](Self::trim), if many have some: to be called by who has nothing else to do as long as `is_idle`.
    #[inline]
    pub(crate) fn trim_while(&self, own: ProcessId, is_idle: impl Fn() -> bool) {
        if self.header.freed.load(Ordering::Relaxed) >= IDLE.freed
            && self.give_memory_back(own, IDLE.warm, is_idle)
        {
            self.header.freed.store(0, Ordering::Relaxed);
        }
    }

    /// Of the free segments with memory, those of the lowest numbers keep it. Whether `go_on` allowed to look at all.
    #[cold]
    fn give_memory_back(&self, own: ProcessId, kept: usize, go_on: impl Fn() -> bool) -> bool {
        let is_warm = |entry: &Entry| entry.backed.load(Ordering::Relaxed) > 0;
        let warm = self.all().filter_map(|segment| {
            let state = look(self, segment).filter(|state| state.is_free())?;
            self.entry(segment).filter(|entry| is_warm(entry)).map(|_| Owned { segment, state })
        });
        warm.skip(kept).all(|free| {
            self.empty(free, own);
            go_on()
        })
    }

    /// FREE -> ours -> FREE without memory. Killed in between, we leave what a sweep frees.
    fn empty(&self, free: Owned, own: ProcessId) {
        let Owned { segment, state } = free;
        let ours = Owned { segment, state: State::new(state.version, Owner::Process(own)) };
        if !change(self, free, ours) {
            return;
        }
        if let (Some(at), Some(entry)) = (self.place(segment, 0, ROOM), self.entry(segment)) {
            entry.backed.store(0, Ordering::Relaxed);
            // What stays is memory that nobody counts on.
            let _ = self.region.give_memory_back(at, SIZE);
        }
        change(self, ours, Owned { segment, state: state.freed() });
    }

    fn all(&self) -> impl Iterator<Item = Segment> + use<> {
        (1..=self.used()).filter_map(Segment::new)
    }

    #[inline]
    fn entry(&self, segment: Segment) -> Option<&'static Entry> {
        self.entries.get(segment.number() as usize - 1)
    }

    /// Where the `length` bytes at `at` of a segment are, if they lie inside.
    #[inline]
    fn place(&self, segment: Segment, at: u32, length: u32) -> Option<usize> {
        let is_inside = at.checked_add(length)? <= ROOM && segment.number() as usize <= self.entries.len();
        is_inside.then(|| self.start + (segment.number() as usize - 1) * SIZE + at as usize)
    }

    fn budget(&self) -> u32 {
        match self.header.budget.load(Ordering::Relaxed) {
            0 => self.decide_budget(),
            budget => budget,
        }
    }

    #[cold]
    fn decide_budget(&self) -> u32 {
        let budget = self.whole(budget::of_this_machine());
        // Somebody else may have looked at the same time; one of us is right.
        match self.header.budget.compare_exchange(0, budget, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => budget,
            Err(theirs) => theirs,
        }
    }

    /// Takes memory for the first `end` bytes, and as much again as there was: a queue with little in it takes little.
    #[cold]
    fn take_memory(&self, segment: Segment, backed: &AtomicU32, end: u32) -> Result<(), NoSpace> {
        if end > ROOM {
            return Err(NoSpace);
        }
        let have = backed.load(Ordering::Relaxed).min(ROOM) / PAGE * PAGE;
        let want = end.max(have * 2).next_multiple_of(PAGE).min(ROOM);
        let at = self.place(segment, have, want - have).ok_or(NoSpace)?;
        self.region.take_memory(at, (want - have) as usize).map_err(|_| NoSpace)?;
        backed.store(want, Ordering::Relaxed);
        Ok(())
    }

    /// One that was never used.
    fn find_new(&self) -> Option<Segment> {
        let number = self.used() + 1;
        let segment = Segment::new(number).filter(|_| number <= self.budget())?;
        self.header.high.fetch_max(number, Ordering::Relaxed);
        Some(segment)
    }

    fn find_free_in(&self, numbers: impl Iterator<Item = u32>) -> Option<Segment> {
        let is_free = |segment: &Segment| look(self, *segment).is_some_and(State::is_free);
        numbers.filter_map(Segment::new).find(is_free)
    }
}

impl Segments for SegmentTable {
    #[inline]
    fn room(&self) -> u32 {
        ROOM
    }

    fn used(&self) -> u32 {
        let count = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.header.high.load(Ordering::Relaxed).min(count)
    }

    #[inline]
    fn state(&self, segment: Segment) -> Option<&AtomicU64> {
        Some(&self.entry(segment)?.state)
    }

    #[inline]
    fn link(&self, segment: Segment) -> Option<&AtomicU32> {
        Some(&self.entry(segment)?.link)
    }

    fn find_free(&self) -> Option<Segment> {
        let used = self.used().min(self.budget());
        let from = self.header.next.load(Ordering::Relaxed).min(used);
        let to = used.min(from + LOOKS);
        let found = self.find_free_in(from + 1..=to);
        self.header.next.store(found.map_or(to, Segment::number), Ordering::Relaxed);
        found.or_else(|| self.find_new()).or_else(|| self.find_free_in(1..=used))
    }

    fn note_free(&self, segment: Segment) {
        self.header.freed.fetch_add(1, Ordering::Relaxed);
        self.header.next.fetch_min(segment.number() - 1, Ordering::Relaxed);
    }

    #[inline]
    fn back(&self, segment: Segment, end: u32) -> Result<(), NoSpace> {
        let backed = &self.entry(segment).ok_or(NoSpace)?.backed;
        let have = backed.load(Ordering::Relaxed);
        if end <= have { Ok(()) } else { self.take_memory(segment, backed, end) }
    }

    fn write(&self, segment: Segment, at: u32, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).ok();
        if let Some(place) = length.and_then(|length| self.place(segment, at, length)) {
            self.region.write(place, bytes);
        }
    }

    fn read(&self, segment: Segment, at: u32, into: &mut [u8]) -> Option<()> {
        self.region.read(self.place(segment, at, u32::try_from(into.len()).ok()?)?, into)
    }

    fn append(&self, segment: Segment, at: u32, length: u32, out: &mut Vec<u8>) -> Option<()> {
        self.region.append(self.place(segment, at, length)?, length as usize, out)
    }

    #[cfg(test)]
    fn may_die(&self) {
        super::deaths::may_die();
    }
}

#[cfg(test)]
mod tests;
