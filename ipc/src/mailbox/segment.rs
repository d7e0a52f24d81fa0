//! The words that say where a queue's bytes are: a segment's state, a position, a journal entry.
//!
//! All of them are read from memory that others can write: what is no valid word gives `None`, and so does a segment that
//! the arena does not have.

use crate::atomic::{AtomicU32, AtomicU64};
use std::num::NonZeroU32;

const SEGMENT_BITS: u32 = 24;
const OFFSET_BITS: u32 = 16;
const COUNT_BITS: u32 = 24;
const VERSION_BITS: u32 = 38;

/// Most messages that a queue can hold.
pub(crate) const MOST_MESSAGES: u32 = (1 << COUNT_BITS) - 1;

/// Records begin at multiples of this.
pub(crate) const ALIGNMENT: u32 = 8;

/// A piece of the arena that holds records. Never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Segment(NonZeroU32);

impl Segment {
    /// The segment of this number, below 2^24.
    pub(crate) fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).filter(|_| number < 1 << SEGMENT_BITS).map(Self)
    }

    /// Its number.
    pub(crate) fn number(self) -> u32 {
        self.0.get()
    }
}

/// The number in a word; 0 for none.
fn number(segment: Option<Segment>) -> u32 {
    segment.map_or(0, Segment::number)
}

/// Who has a segment. The version is one higher each time that it becomes free.
///
/// `version 38 | is used 2 | queue 24`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) version: u64,
    /// The queue that has it; `None`: it is free.
    pub(crate) queue: Option<u32>,
}

impl State {
    const USED: u64 = 1;

    pub(crate) fn free(version: u64) -> Self {
        Self { version: version % (1 << VERSION_BITS), queue: None }
    }

    pub(crate) fn used(version: u64, queue: u32) -> Self {
        Self { version, queue: Some(queue) }
    }

    pub(crate) fn word(self) -> u64 {
        let owner = self.queue.map_or(0, |queue| Self::USED << SEGMENT_BITS | u64::from(queue));
        self.version << (2 + SEGMENT_BITS) | owner
    }

    /// `None`: no such state.
    pub(crate) fn from_word(word: u64) -> Option<Self> {
        let queue = u32::try_from(word % (1 << SEGMENT_BITS)).ok()?;
        let version = word >> (2 + SEGMENT_BITS);
        match (word >> SEGMENT_BITS) % 4 {
            0 if queue == 0 => Some(Self::free(version)),
            Self::USED => Some(Self::used(version, queue)),
            _ => None,
        }
    }
}

/// Where the next record is written or read, and how many came before it.
///
/// `segment 24 | offset/8 16 | count 24`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// `None` until the first message.
    pub(crate) segment: Option<Segment>,
    /// In bytes, a multiple of [`ALIGNMENT`].
    pub(crate) offset: u32,
    /// Modulo 2^24.
    pub(crate) count: u32,
}

impl Cursor {
    /// The beginning of a segment.
    pub(crate) fn at_start(segment: Segment, count: u32) -> Self {
        Self { segment: Some(segment), offset: 0, count }
    }

    /// Behind a record of `size` bytes.
    pub(crate) fn after(self, size: u32) -> Self {
        Self { offset: self.offset + size, count: (self.count + 1) & MOST_MESSAGES, ..self }
    }

    /// How many records lie between `earlier` and this.
    pub(crate) fn since(self, earlier: Self) -> u32 {
        self.count.wrapping_sub(earlier.count) & MOST_MESSAGES
    }

    pub(crate) fn word(self) -> u64 {
        let place = u64::from(number(self.segment)) << OFFSET_BITS | u64::from(self.offset / ALIGNMENT);
        place << COUNT_BITS | u64::from(self.count)
    }

    /// Every word is a cursor; whether it is inside the arena shows where it is used.
    pub(crate) fn from_word(word: u64) -> Self {
        let part = |shift: u32, bits: u32| ((word >> shift) & ((1 << bits) - 1)) as u32;
        Self {
            segment: Segment::new(part(COUNT_BITS + OFFSET_BITS, SEGMENT_BITS)),
            offset: part(COUNT_BITS, OFFSET_BITS) * ALIGNMENT,
            count: part(0, COUNT_BITS),
        }
    }
}

/// A segment that changes hands, at its version: what a journal holds.
///
/// `is set 1 | segment 24 | version 38`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moving {
    pub(crate) segment: Segment,
    pub(crate) version: u64,
}

impl Moving {
    /// The word of an empty journal.
    pub(crate) const NOTHING: u64 = 0;
    const IS_SET: u64 = 1 << (SEGMENT_BITS + VERSION_BITS);

    pub(crate) fn word(self) -> u64 {
        Self::IS_SET | u64::from(self.segment.number()) << VERSION_BITS | self.version
    }

    pub(crate) fn from_word(word: u64) -> Option<Self> {
        let segment = u32::try_from((word & !Self::IS_SET) >> VERSION_BITS).ok().and_then(Segment::new)?;
        (word & Self::IS_SET != 0).then_some(Self { segment, version: word % (1 << VERSION_BITS) })
    }
}

/// The machine has no memory left for what is put into a queue, or the family is at its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoSpace;

/// Where segments are: the arena, or its double in a test.
pub(crate) trait Segments {
    /// Bytes of each segment, a multiple of [`ALIGNMENT`].
    fn room(&self) -> u32;

    /// Who has it. `None`: the arena has no such segment.
    fn state(&self, segment: Segment) -> Option<&AtomicU64>;

    /// The number of the segment that follows it in a queue; 0 for none.
    fn link(&self, segment: Segment) -> Option<&AtomicU32>;

    /// One that was free a moment ago.
    fn find_free(&self) -> Option<Segment>;

    /// Makes sure that the first `end` bytes of a segment can be written.
    fn back(&self, segment: Segment, end: u32) -> Result<(), NoSpace>;

    /// Writes `bytes` at `at`. What does not lie inside the segment is not written.
    fn write(&self, segment: Segment, at: u32, bytes: &[u8]);

    /// Copies what lies at `at`. `None`: it does not lie inside the segment.
    fn read(&self, segment: Segment, at: u32, into: &mut [u8]) -> Option<()>;

    /// Appends the `length` bytes at `at` to `out`, which has room for them. `None`: as above.
    fn append(&self, segment: Segment, at: u32, length: u32, out: &mut Vec<u8>) -> Option<()>;

    /// For tests: the process may be killed here.
    #[inline(always)]
    fn may_die(&self) {}

    /// For tests: a queue that keeps no journals, on which the checkers have to report something.
    const KEEPS_JOURNALS: bool = true;
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_and_nonsense_is_none() {
        let segment = Segment::new((1 << SEGMENT_BITS) - 1).unwrap();
        let version = (1 << VERSION_BITS) - 1;
        for state in [State::free(0), State::free(5), State::used(version, 0), State::used(0, 77)] {
            assert_eq!(State::from_word(state.word()), Some(state));
        }
        for moving in [Moving { segment, version }, Moving { segment: Segment::new(1).unwrap(), version: 0 }]
        {
            assert_eq!(Moving::from_word(moving.word()), Some(moving));
        }
        let last =
            Cursor { segment: Some(segment), offset: (1 << OFFSET_BITS) * 8 - 8, count: MOST_MESSAGES };
        for cursor in [last, Cursor::from_word(0)] {
            assert_eq!(Cursor::from_word(cursor.word()), cursor);
        }
        assert_eq!(Cursor::from_word(0).segment, None);
        assert_eq!(last.after(8).since(last), 1, "the count goes round");
        assert_eq!(State::free(version + 1), State::free(0), "so does the version");
        for nonsense in [2 << SEGMENT_BITS, 3 << SEGMENT_BITS, 7] {
            assert_eq!(State::from_word(nonsense), None);
        }
        for nonsense in [Moving::NOTHING, version, Moving::IS_SET | version] {
            assert_eq!(Moving::from_word(nonsense), None);
        }
        assert_eq!((Segment::new(0), Segment::new(1 << SEGMENT_BITS)), (None, None));
    }
}
