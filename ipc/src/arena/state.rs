//! The word that says what is in a cell: one atomic, so that an object comes, goes and changes hands by one store.
//!
//! `who 30 | generation 26 | stage 3 | kind 4`
//!
//! What was read is memory that others can write: a word that says nothing sensible is no state.

use crate::Error;
use crate::liveness::ProcessId;
use serde::{Deserialize, Serialize};

const KIND_BITS: u32 = 4;
const STAGE_BITS: u32 = 3;
const GENERATION_SHIFT: u32 = KIND_BITS + STAGE_BITS;
const GENERATION_BITS: u32 = 26;
const WHO_SHIFT: u32 = GENERATION_SHIFT + GENERATION_BITS;
const WHO_BITS: u32 = 30;
const _: () = assert!(WHO_SHIFT + WHO_BITS < u64::BITS);

/// Set in the stages in which there is an object.
const THERE: u64 = 4;

/// Most pins that are counted. An object with more lives with the family.
const MOST_PINS: u32 = (1 << WHO_BITS) - 1;

/// What an object is. It travels as its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub(crate) enum Kind {
    /// A [`Lock`](crate::sync::lock::Lock).
    Lock,
    /// `mailbox::queue::Words`, with a ring and segments in its annex.
    Queue,
}

impl Kind {
    /// Its number, in headers and in handles on their way; never 0.
    fn number(self) -> u8 {
        match self {
            Self::Lock => 1,
            Self::Queue => 2,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        [Self::Lock, Self::Queue].into_iter().find(|kind| kind.number() == number)
    }

    /// What a user calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Queue => "queue",
        }
    }
}

impl From<Kind> for u8 {
    fn from(kind: Kind) -> Self {
        kind.number()
    }
}

impl TryFrom<u8> for Kind {
    type Error = Error;

    fn try_from(number: u8) -> Result<Self, Error> {
        Self::from_number(number).ok_or(Error::Malformed { what: "kind of a handle" })
    }
}

/// Who may have handles of an object, or that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing is there. The body is all zero, and the kind is that of nobody.
    Free,
    /// Nobody has a handle any more. This process ends the object, and zeroes its body.
    Clearing(ProcessId),
    /// Only the process that made it has handles.
    Local(ProcessId),
    /// Processes with a bit have handles, and nobody else. The last to look whether there is one left was this process.
    Shared(Option<ProcessId>),
    /// As before, and so many handles are on their way. Never 0.
    Pinned(u32),
    /// Nobody counts its handles: it lives as long as the family.
    Lasting,
}

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) stage: Stage,
    /// How many objects were here before, modulo 2^26.
    pub(super) generation: u32,
    /// `None` if nothing is there.
    pub(super) kind: Option<Kind>,
}

impl State {
    /// A cell without an object.
    pub(super) fn free(generation: u32) -> Self {
        Self { stage: Stage::Free, generation: generation % (1 << GENERATION_BITS), kind: None }
    }

    pub(super) fn with(self, stage: Stage) -> Self {
        Self { stage, ..self }
    }

    /// One pin more.
    pub(super) fn pinned(self) -> Self {
        self.with(match self.stage {
            Stage::Pinned(MOST_PINS) => Stage::Lasting,
            Stage::Pinned(count) => Stage::Pinned(count + 1),
            _ => Stage::Pinned(1),
        })
    }

    /// One pin less, if there is one.
    pub(super) fn unpinned(self) -> Option<Self> {
        match self.stage {
            Stage::Pinned(1) => Some(self.with(Stage::Shared(None))),
            Stage::Pinned(count) => Some(self.with(Stage::Pinned(count - 1))),
            Stage::Lasting => Some(self),
            _ => None,
        }
    }

    pub(super) fn word(self) -> u64 {
        let bits = |id: Option<ProcessId>| id.map_or(0, ProcessId::bits);
        let (stage, who) = match self.stage {
            Stage::Free => (0, 0),
            Stage::Clearing(who) => (1, who.bits()),
            Stage::Local(maker) => (THERE, maker.bits()),
            Stage::Shared(looked) => (THERE + 1, bits(looked)),
            Stage::Pinned(count) => (THERE + 2, count),
            Stage::Lasting => (THERE + 3, 0),
        };
        let kind = u64::from(self.kind.map_or(0, Kind::number));
        u64::from(who) << WHO_SHIFT
            | u64::from(self.generation) << GENERATION_SHIFT
            | stage << KIND_BITS
            | kind
    }

    /// `None`: no such state.
    pub(super) fn from_word(word: u64) -> Option<Self> {
        // Within 32 bits by the mask.
        let part = |shift: u32, bits: u32| ((word >> shift) & ((1 << bits) - 1)) as u32;
        let who = part(WHO_SHIFT, WHO_BITS);
        let id = ProcessId::from_bits(who);
        let stage = match u64::from(part(KIND_BITS, STAGE_BITS)) {
            0 => Stage::Free,
            1 => Stage::Clearing(id?),
            THERE => Stage::Local(id?),
            5 => Stage::Shared(id),
            6 => Stage::Pinned(who),
            7 => Stage::Lasting,
            _ => return None,
        };
        let kind = Kind::from_number((word % (1 << KIND_BITS)) as u8);
        let state = Self { stage, generation: part(GENERATION_SHIFT, GENERATION_BITS), kind };
        let is_whole = state.word() == word && kind.is_none() == (stage == Stage::Free);
        (is_whole && stage != Stage::Pinned(0)).then_some(state)
    }
}

/// What the header of an object says as long as it is there: generation and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl Mark {
    const PARTS: u64 = ((1 << WHO_SHIFT) - 1) & !((THERE - 1) << KIND_BITS);

    /// Of an object of this generation and kind.
    pub(crate) fn new(generation: u32, kind: Kind) -> Self {
        let stage = Stage::Lasting;
        Self(State { stage, kind: Some(kind), ..State::free(generation) }.word() & Self::PARTS)
    }

    /// Whether a header says so.
    #[inline]
    pub(super) fn is_of(self, word: u64) -> bool {
        word & Self::PARTS == self.0
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn states_come_back_from_their_words_and_nonsense_is_none() {
        let id = ProcessId::new(77, 5).unwrap();
        let kind = Some(Kind::Lock);
        let last = (1 << GENERATION_BITS) - 1;
        let stages = [
            Stage::Clearing(id),
            Stage::Local(id),
            Stage::Shared(None),
            Stage::Shared(Some(id)),
            Stage::Pinned(1),
            Stage::Pinned(MOST_PINS),
            Stage::Lasting,
        ];
        for stage in stages {
            let state = State { stage, generation: last, kind };
            assert_eq!(State::from_word(state.word()), Some(state));
            let is_there = !matches!(stage, Stage::Clearing(_));
            assert_eq!(Mark::new(last, Kind::Lock).is_of(state.word()), is_there, "{stage:?}");
            assert!(!Mark::new(last - 1, Kind::Lock).is_of(state.word()));
        }
        assert_eq!(State::from_word(0), Some(State::free(0)));
        assert_eq!(State::free(last + 1), State::free(0), "the generations go round");
        assert!(!Mark::new(0, Kind::Lock).is_of(0));
        let local = State { stage: Stage::Local(id), generation: 3, kind }.word();
        let nonsense =
            [1 << 63, 1, 2 << KIND_BITS | 1, local | 8, local & !0xF, 6 << KIND_BITS | 1, 4 << KIND_BITS | 1];
        for word in nonsense {
            assert_eq!(State::from_word(word), None, "{word:x}");
        }
    }

    #[test]
    fn pins_are_counted_and_too_many_last() {
        let state = State { stage: Stage::Shared(None), generation: 0, kind: Some(Kind::Lock) };
        assert_eq!(state.unpinned(), None);
        assert_eq!(state.pinned().pinned().unpinned().and_then(State::unpinned), Some(state));
        let most = state.with(Stage::Pinned(MOST_PINS)).pinned();
        assert_eq!((most.stage, most.unpinned()), (Stage::Lasting, Some(most)));
    }
}
