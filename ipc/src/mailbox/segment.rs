//! The words that say where a queue's bytes are: a segment's state, a position, a journal entry.
//!
//! All of them are read from memory that others can write: what is no valid word gives `None`, and so does a segment that
//! the arena does not have.

use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::liveness::ProcessId;
use std::num::NonZeroU32;

const SEGMENT_BITS: u32 = 24;
const OFFSET_BITS: u32 = 16;
const COUNT_BITS: u32 = 24;
const OWNER_BITS: u32 = 30;

/// Most messages that a queue can hold.
pub(crate) const MOST_MESSAGES: u32 = (1 << COUNT_BITS) - 1;

/// How many segments that looked free may turn out to be taken before a put gives up.
const ATTEMPTS: u32 = 1000;

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

/// Who has a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nobody: it may be taken.
    Nobody,
    /// The queue of this number: it is a link of its chain, or the first segment of a large message in it.
    Queue(u32),
    /// This process, which writes or reads a large message there, or gives its memory back.
    Process(ProcessId),
    /// Whoever has that segment, the first one of the same large message.
    First(Segment),
}

/// Who has a segment, and at which version: it is one higher each time that the segment becomes free.
///
/// `version 32 | kind of owner 2 | owner 30`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) version: u32,
    pub(crate) owner: Owner,
}

impl State {
    const QUEUE: u64 = 1;
    const PROCESS: u64 = 2;
    const FIRST: u64 = 3;

    pub(crate) fn new(version: u32, owner: Owner) -> Self {
        Self { version, owner }
    }

    /// As it is when its owner has given it back.
    pub(crate) fn freed(self) -> Self {
        Self { version: self.version.wrapping_add(1), owner: Owner::Nobody }
    }

    pub(crate) fn is_free(self) -> bool {
        self.owner == Owner::Nobody
    }

    pub(crate) fn word(self) -> u64 {
        let (kind, owner) = match self.owner {
            Owner::Nobody => (0, 0),
            Owner::Queue(queue) => (Self::QUEUE, queue),
            Owner::Process(process) => (Self::PROCESS, process.bits()),
            Owner::First(first) => (Self::FIRST, first.number()),
        };
        u64::from(self.version) << (2 + OWNER_BITS) | kind << OWNER_BITS | u64::from(owner)
    }

    /// `None`: no such state.
    pub(crate) fn from_word(word: u64) -> Option<Self> {
        // Within 32 bits by the mask and the shift.
        let (owner, version) = ((word % (1 << OWNER_BITS)) as u32, (word >> (2 + OWNER_BITS)) as u32);
        let owner = match (word >> OWNER_BITS) % 4 {
            Self::QUEUE if owner < 1 << SEGMENT_BITS => Owner::Queue(owner),
            Self::PROCESS => Owner::Process(ProcessId::from_bits(owner)?),
            Self::FIRST => Owner::First(Segment::new(owner)?),
            _ if owner == 0 => Owner::Nobody,
            _ => return None,
        };
        Some(Self { version, owner })
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
/// `is set 1 | segment 24 | version 32`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moving {
    pub(crate) segment: Segment,
    pub(crate) version: u32,
}

impl Moving {
    /// The word of an empty journal.
    pub(crate) const NOTHING: u64 = 0;
    const IS_SET: u64 = 1 << (SEGMENT_BITS + u32::BITS);

    pub(crate) fn word(self) -> u64 {
        Self::IS_SET | u64::from(self.segment.number()) << u32::BITS | u64::from(self.version)
    }

    pub(crate) fn from_word(word: u64) -> Option<Self> {
        let segment = u32::try_from((word & !Self::IS_SET) >> u32::BITS).ok().and_then(Segment::new)?;
        // The lower half.
        (word & Self::IS_SET != 0).then_some(Self { segment, version: word as u32 })
    }
}

impl Moving {
    /// The segment at its version, while `owner` has it.
    pub(crate) fn owned_by(self, owner: Owner) -> Owned {
        Owned { segment: self.segment, state: State::new(self.version, owner) }
    }
}

/// A segment, and who has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) segment: Segment,
    pub(crate) state: State,
}

/// The machine has no memory left for what is put into a queue, or the family is at its budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoSpace;

/// Where segments are: the arena, or its double in a test.
pub(crate) trait Segments {
    /// Bytes of each segment, a multiple of [`ALIGNMENT`].
    fn room(&self) -> u32;

    /// Segments of higher numbers were never used.
    fn used(&self) -> u32;

    /// Who has it, as a [`State`]. `None`: the arena has no such segment.
    fn state(&self, segment: Segment) -> Option<&AtomicU64>;

    /// The number of the segment that follows it in a queue; 0 for none.
    fn link(&self, segment: Segment) -> Option<&AtomicU32>;

    /// One that was free a moment ago.
    fn find_free(&self) -> Option<Segment>;

    /// A hint: this one is free again.
    fn note_free(&self, _segment: Segment) {}

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
    const KEEPS_JOURNALS: bool = super::KEEPS_JOURNALS;
}

/// Who has a segment; `None`: there is no such segment, or its state makes no sense.
#[inline]
pub(crate) fn look(segments: &impl Segments, segment: Segment) -> Option<State> {
    // Acquire: what is looked at next is looked at later.
    State::from_word(segments.state(segment)?.load(Ordering::Acquire))
}

/// A segment changes hands, if its state is still that.
#[inline]
pub(crate) fn change(segments: &impl Segments, from: Owned, to: Owned) -> bool {
    let Some(word) = segments.state(from.segment) else { return false };
    // Release: whoever has it next writes after we have read, and finds our journal. Acquire pairs with that.
    word.compare_exchange(from.state.word(), to.state.word(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// A free segment becomes `owner`'s, the `candidate` if it is free. Before that, `note` is told which one is tried.
pub(crate) fn take_free(
    segments: &impl Segments,
    mut candidate: Option<Segment>,
    owner: Owner,
    note: impl Fn(Moving),
) -> Option<Moving> {
    for _ in 0..ATTEMPTS {
        let segment = candidate.take().or_else(|| segments.find_free())?;
        let Some(state) = look(segments, segment).filter(|state| state.is_free()) else { continue };
        let moving = Moving { segment, version: state.version };
        note(moving);
        if change(segments, Owned { segment, state }, moving.owned_by(owner)) {
            return Some(moving);
        }
    }
    None
}

/// Writes a journal, before the act that it is about.
pub(crate) fn note<S: Segments>(journal: &AtomicU64, moving: Moving) {
    if S::KEEPS_JOURNALS {
        journal.store(moving.word(), Ordering::Release);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_and_nonsense_is_none() {
        let segment = Segment::new((1 << SEGMENT_BITS) - 1).unwrap();
        let process = ProcessId::new(77, 5).unwrap();
        let owners = [
            Owner::Nobody,
            Owner::Queue(0),
            Owner::Queue(77),
            Owner::Process(process),
            Owner::First(segment),
        ];
        for (owner, version) in owners.into_iter().zip([0, u32::MAX, 5, 0, u32::MAX]) {
            let state = State::new(version, owner);
            assert_eq!(State::from_word(state.word()), Some(state));
        }
        for moving in
            [Moving { segment, version: u32::MAX }, Moving { segment: Segment::new(1).unwrap(), version: 0 }]
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
        let last = State::new(u32::MAX, Owner::Queue(5));
        assert_eq!(last.freed(), State::new(0, Owner::Nobody), "so does the version");
        let kind = |number: u64| number << OWNER_BITS;
        for nonsense in [5, kind(1) | 1 << 24, kind(2), kind(3), kind(3) | 1 << 24] {
            assert_eq!(State::from_word(nonsense), None, "{nonsense:x}");
        }
        for nonsense in [Moving::NOTHING, 1 << u32::BITS, Moving::IS_SET | 5] {
            assert_eq!(Moving::from_word(nonsense), None);
        }
        assert_eq!((Segment::new(0), Segment::new(1 << SEGMENT_BITS)), (None, None));
    }
}
