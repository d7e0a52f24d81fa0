//! Cells: where objects are in the arena, who made them, and when they end.
//!
//! A cell's header is one word, so an object comes and goes by one store:
//!
//! ```text
//! FREE      generation                              body and annex are all zero
//! an object maker, generation, shared or not, kind
//! CLEARING  who clears, generation, kind            nobody has a handle; body and annex are being emptied
//! ```
//!
//! An object that was never *shared* (no handle of it was encoded) is known to its maker only, so it ends with the maker's
//! last handle, or with the maker. A shared one lives as long as the family: a handle may be on its way anywhere.
//!
//! A process killed while it clears leaves CLEARING with its id, and the sweep for it clears in its stead. As the body is
//! zeroed before the cell is free, and by one process at a time, a slow clearer never zeroes what somebody else has made.

use super::annex::Annexes;
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::liveness::ProcessId;

/// Words of the body.
const BODY_WORDS: usize = 14;

const KIND_BITS: u32 = 4;
const SHARED: u64 = 1 << KIND_BITS;
const GENERATION_SHIFT: u32 = KIND_BITS + 1;
const GENERATION_BITS: u32 = 26;
const MAKER_SHIFT: u32 = GENERATION_SHIFT + GENERATION_BITS;

/// How many cells are looked at before a new one is taken. So making an object is cheap however many there are, and free
/// cells between them are found by the makings that follow.
const LOOKS: u32 = 64;

/// In place of a kind; beside a kind.
const FREE: u64 = 0;
const CLEARING: u64 = 1 << (KIND_BITS - 1);

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A [`Lock`](crate::sync::lock::Lock).
    Lock,
    /// [`Words`](crate::mailbox::queue::Words), with a ring and segments in its annex.
    Queue,
}

impl Kind {
    fn number(self) -> u64 {
        match self {
            Self::Lock => 1,
            Self::Queue => 2,
        }
    }

    fn from_number(number: u64) -> Option<Self> {
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

/// A header, as its word says: `maker 30 | generation 26 | shared 1 | kind 4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State(u64);

impl State {
    fn new(kind: u64, generation: u32, maker: Option<ProcessId>) -> Self {
        let maker = u64::from(maker.map_or(0, ProcessId::bits)) << MAKER_SHIFT;
        let generation = u64::from(generation % (1 << GENERATION_BITS)) << GENERATION_SHIFT;
        Self(maker | generation | kind)
    }

    fn kind(self) -> u64 {
        self.0 % (1 << KIND_BITS)
    }

    fn is_shared(self) -> bool {
        self.0 & SHARED != 0
    }

    fn generation(self) -> u32 {
        // Within 32 bits by the mask.
        ((self.0 >> GENERATION_SHIFT) % (1 << GENERATION_BITS)) as u32
    }

    fn maker(self) -> Option<ProcessId> {
        u32::try_from(self.0 >> MAKER_SHIFT).ok().and_then(ProcessId::from_bits)
    }
}

/// What the header of an object always says: generation and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(u64);

impl Mark {
    const PARTS: u64 = ((1 << MAKER_SHIFT) - 1) & !SHARED;

    /// Of an object of this generation and kind.
    pub(crate) fn new(generation: u32, kind: Kind) -> Self {
        Self(State::new(kind.number(), generation, None).0)
    }
}

/// Words that all cells have in common.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Header {
    /// Cells from here on have never been used. Only grows, and is raised before a cell is taken.
    high: AtomicU32,
    /// A hint: no cell before this one is free, but for a few.
    next: AtomicU32,
}

/// An object. On a cache line of its own.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Cell {
    state: AtomicU64,
    body: [AtomicU32; BODY_WORDS],
}

impl Cell {
    /// Where the body begins, in bytes.
    pub(crate) const BODY: usize = size_of::<AtomicU64>();

    /// How long it is, in bytes.
    pub(crate) const ROOM: usize = BODY_WORDS * size_of::<AtomicU32>();

    /// Whether the object is there for which `mark` was made.
    #[inline]
    pub(crate) fn has(&self, mark: Mark) -> bool {
        self.state.load(Ordering::Acquire) & Mark::PARTS == mark.0
    }
}

/// Names an object for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which cell.
    pub(crate) index: u32,
    /// Which of the objects that were there.
    pub(crate) generation: u32,
}

/// All cells of an arena.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cells {
    header: &'static Header,
    cells: &'static [Cell],
    annexes: Annexes,
}

impl Cells {
    /// The cells made of these.
    pub(crate) fn new(header: &'static Header, cells: &'static [Cell], annexes: Annexes) -> Self {
        Self { header, cells, annexes }
    }

    /// What the objects have outside of their cells.
    pub(crate) fn annexes(&self) -> &Annexes {
        &self.annexes
    }

    /// Makes an object whose body is all zero. `None`: no cell is left.
    pub(crate) fn make(&self, kind: Kind, own: ProcessId) -> Option<Place> {
        let high = self.used();
        let from = self.header.next.load(Ordering::Relaxed).min(high);
        let to = high.min(from + LOOKS);
        if let Some(place) = (from..to).find_map(|index| self.take(index, kind, own)) {
            self.header.next.store(place.index + 1, Ordering::Relaxed);
            return Some(place);
        }
        self.header.next.store(to, Ordering::Relaxed);
        self.take_new(kind, own).or_else(|| (0..high).find_map(|index| self.take(index, kind, own)))
    }

    fn take_new(&self, kind: Kind, own: ProcessId) -> Option<Place> {
        loop {
            let index = self.used();
            self.cell(index)?;
            self.header.high.fetch_max(index + 1, Ordering::Relaxed);
            if let Some(place) = self.take(index, kind, own) {
                return Some(place);
            }
        }
    }

    /// FREE -> an object.
    fn take(&self, index: u32, kind: Kind, own: ProcessId) -> Option<Place> {
        let word = &self.cell(index)?.state;
        let seen = State(word.load(Ordering::Relaxed));
        let made = State::new(kind.number(), seen.generation(), Some(own));
        // Acquire pairs with the Release in `clear`: the body is zero.
        let is_ours = seen.kind() == FREE
            && word.compare_exchange(seen.0, made.0, Ordering::Acquire, Ordering::Relaxed).is_ok();
        is_ours.then(|| Place { index, generation: seen.generation() })
    }

    /// Whether the object is there.
    #[cfg(test)]
    pub(crate) fn has(&self, place: Place, kind: Kind) -> bool {
        self.cell(place.index).is_some_and(|cell| cell.has(Mark::new(place.generation, kind)))
    }

    /// A handle of the object leaves the process that made it. `false`: it is not there any more.
    pub(crate) fn share(&self, place: Place, kind: Kind) -> bool {
        let Some(cell) = self.cell(place.index) else { return false };
        let mark = Mark::new(place.generation, kind);
        let is_shared = |word| (word & Mark::PARTS == mark.0).then_some(word | SHARED);
        cell.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_shared).is_ok()
    }

    /// Handles of all objects that this process made will be in another one, which nobody counts.
    pub(crate) fn share_all(&self, own: ProcessId) {
        for cell in self.cells.iter().take(self.used() as usize) {
            let is_ours = |word: u64| {
                let state = State(word);
                let is_object = Kind::from_number(state.kind()).is_some();
                (is_object && state.maker() == Some(own)).then_some(word | SHARED)
            };
            let _ = cell.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_ours);
        }
    }

    /// The last handle of its maker, which is this process, is gone: so is the object, unless it was shared.
    pub(crate) fn abandon(&self, place: Place, kind: Kind, own: ProcessId) {
        let state = State::new(kind.number(), place.generation, Some(own));
        self.clear(place.index, state, own);
    }

    /// What is done for the process `gone`, by the process `own`: `for_each` object, and the end of those that nobody else
    /// can know of. It may be cut off anywhere, and be done by several at the same time.
    pub(crate) fn sweep(&self, gone: ProcessId, own: ProcessId, for_each: impl Fn(u32, Kind)) {
        for (index, cell) in (0..self.used()).zip(self.cells) {
            let state = State(cell.state.load(Ordering::Acquire));
            if let Some(kind) = Kind::from_number(state.kind()) {
                for_each(index, kind);
            }
            if state.kind() != FREE && state.maker() == Some(gone) && !state.is_shared() {
                self.clear(index, state, own);
            }
        }
    }

    /// An object, or what its clearer left -> CLEARING by us -> FREE. Nothing is done if the cell has changed.
    fn clear(&self, index: u32, state: State, own: ProcessId) {
        let kind = Kind::from_number(state.kind() & !CLEARING);
        let (Some(cell), Some(kind)) = (self.cell(index), kind) else { return };
        let clearing = State::new(CLEARING | kind.number(), state.generation(), Some(own));
        if cell.state.compare_exchange(state.0, clearing.0, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return;
        }
        self.annexes.clear(index, kind);
        for word in &cell.body {
            word.store(0, Ordering::Relaxed);
        }
        let free = State::new(FREE, state.generation().wrapping_add(1), None);
        // Release pairs with the Acquire in `take`. Nobody else changes it while we live.
        cell.state.store(free.0, Ordering::Release);
        self.header.next.fetch_min(index, Ordering::Relaxed);
    }

    /// How many are not free.
    pub(crate) fn count(&self) -> usize {
        let states = self.cells.iter().take(self.used() as usize).map(|cell| &cell.state);
        states.filter(|state| State(state.load(Ordering::Relaxed)).kind() != FREE).count()
    }

    fn used(&self) -> u32 {
        let count = u32::try_from(self.cells.len()).unwrap_or(u32::MAX);
        self.header.high.load(Ordering::Relaxed).min(count)
    }

    /// The cell of this number; `None`: there is none.
    pub(crate) fn cell(&self, index: u32) -> Option<&'static Cell> {
        self.cells.get(usize::try_from(index).ok()?)
    }
}
