//! Cells: where objects are in the arena, who has handles of them, and when they end.
//!
//! An object ends with its last handle. What is counted is not handles but what shared memory has to know of them:
//!
//! - as long as no handle has left the process that made it, its header names that process and nothing else is counted
//!   ([`Stage::Local`]);
//! - then each *process* that has handles sets a bit ([`Holders`]), however many it has;
//! - a handle on its way is a *pin*, counted in the header, until somebody takes it up ([`Stage::Pinned`]).
//!
//! ```text
//! Free -> Local -> Shared <-> Pinned -> Lasting
//!           |         |
//!           +---------+-> Clearing -> Free, next generation
//! ```
//!
//! Whoever clears its bit looks afterwards whether that was the last one: it puts its name into the header (`Shared`), reads
//! all bits, and ends the object by CAS from the header with its name. Who takes up a handle sets its bit first, and then
//! changes the header, which takes that name out; so does a pin. So the CAS succeeds only if since the naming nobody got a
//! handle, and then the bits that were read are all there are. If it fails, whoever changed the header came later than the
//! clearing of our bit, and will look for itself when it clears its own.
//!
//! Everything is decided by read-modify-write steps on the header, also where they change nothing: they have one order, and who
//! comes later in it has seen what everybody before it did to the bits. (Of two that clear their bits at the same time, the
//! one that names itself last sees both cleared.)
//!
//! A name is that of a process, so one thread of each process at a time may look: [`Cells`] leaves that to its caller.
//!
//! A process killed while it clears leaves `Clearing` with its id, and the sweep for it clears in its stead. As the body is
//! zeroed before the cell is free, and by one process at a time, a slow clearer never zeroes what somebody else has made.

use super::holders::Holders;
pub(crate) use super::state::{Kind, Mark};
use super::state::{Stage, State};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::liveness::ProcessId;
use serde::{Deserialize, Serialize};

/// Words of the body. Loom is spared those that do not matter to it.
const BODY_WORDS: usize = if cfg!(loom) { 1 } else { 14 };

/// Words of holders for each cell.
pub(super) const HOLDER_WORDS: usize = super::holders::GROUPS as usize;

/// How many cells are looked at before a new one is taken. So making an object is cheap however many there are, and free
/// cells between them are found by the makings that follow.
const LOOKS: u32 = 64;

/// Words that all cells have in common.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Header {
    /// Cells from here on have never been used. Only grows, and is raised before a cell is taken.
    high: AtomicU32,
    /// A hint: no cell before this one is free, but for a few.
    next: AtomicU32,
    /// Groups of holders that have been used: see [`Holders`].
    groups: AtomicU32,
}

/// An object. On a cache line of its own.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Cell {
    state: AtomicU64,
    body: [AtomicU32; BODY_WORDS],
}

#[cfg(all(test, loom))]
impl Header {
    pub(super) fn new() -> Self {
        Self { high: AtomicU32::new(0), next: AtomicU32::new(0), groups: AtomicU32::new(0) }
    }
}

#[cfg(all(test, loom))]
impl Cell {
    pub(super) fn new() -> Self {
        Self { state: AtomicU64::new(0), body: std::array::from_fn(|_| AtomicU32::new(0)) }
    }

    pub(super) fn word_for_tests(&self) -> &AtomicU32 {
        &self.body[0]
    }
}

impl Cell {
    /// Where the body begins, in bytes.
    pub(crate) const BODY: usize = size_of::<AtomicU64>();

    /// How long it is, in bytes.
    pub(crate) const ROOM: usize = BODY_WORDS * size_of::<AtomicU32>();

    /// Whether the object is there for which `mark` was made.
    #[inline]
    pub(crate) fn has(&self, mark: Mark) -> bool {
        mark.is_of(self.state.load(Ordering::Acquire))
    }

    fn state(&self) -> Option<State> {
        State::from_word(self.state.load(Ordering::Acquire))
    }

    /// One step from a state to what `change` makes of it, which may be the same. The new one; `None` if `change` gives none.
    fn update(&self, change: impl Fn(State) -> Option<State>) -> Option<State> {
        let mut seen = self.state.load(Ordering::Acquire);
        loop {
            let new = change(State::from_word(seen)?)?;
            // AcqRel: see the head of this file.
            match self.state.compare_exchange_weak(seen, new.word(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(new),
                Err(now) => seen = now,
            }
        }
    }
}

/// Names an object for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Which cell.
    pub(crate) index: u32,
    /// Which of the objects that were there.
    pub(crate) generation: u32,
    /// What it is.
    pub(crate) kind: Kind,
}

/// An object that has just ended, in the hands of this process, which gives back what belongs to it and then
/// [frees](Cells::free) the cell. It may be cut off anywhere; then somebody else does all of it again.
#[derive(Debug)]
#[must_use = "the cell is free only after `Cells::free`"]
pub(crate) struct Clearing {
    /// What ended.
    pub(crate) place: Place,
    /// This process.
    pub(crate) by: ProcessId,
}

/// All cells of an arena.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cells {
    header: &'static Header,
    cells: &'static [Cell],
    holders: Holders,
}

impl Cells {
    /// The cells made of these. There are [`HOLDER_WORDS`] words for each.
    pub(crate) fn new(
        header: &'static Header,
        cells: &'static [Cell],
        holders: &'static [AtomicU64],
    ) -> Self {
        Self { header, cells, holders: Holders::new(&header.groups, holders, cells.len()) }
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

    /// Makes an object of which nobody will count the handles, in the first cell, if it is free: for an arena that has one object.
    pub(crate) fn make_lasting(&self, kind: Kind) -> Option<Place> {
        let index = 0;
        let made = |seen: State| {
            let made = State { stage: Stage::Lasting, kind: Some(kind), ..seen };
            (seen.stage == Stage::Free).then_some(made)
        };
        let State { generation, .. } = self.cell(index)?.update(made)?;
        self.header.high.fetch_max(index + 1, Ordering::Relaxed);
        Some(Place { index, generation, kind })
    }

    /// Free -> Local.
    fn take(&self, index: u32, kind: Kind, own: ProcessId) -> Option<Place> {
        let cell = self.cell(index)?;
        let made = |seen: State| {
            let made = State { stage: Stage::Local(own), kind: Some(kind), ..seen };
            (seen.stage == Stage::Free).then_some(made)
        };
        // Acquire in `update` pairs with the Release in `free`: the body is zero.
        cell.update(made).map(|state| Place { index, generation: state.generation, kind })
    }

    /// A handle of this process will be on its way: `false` if the object is not there any more.
    pub(crate) fn pin(&self, place: Place, own: ProcessId) -> bool {
        self.join(place, own, |state| match state.stage {
            Stage::Lasting => Some(state),
            _ => Some(state.pinned()),
        })
    }

    /// From now on, other processes may come to handles while this one has its own: `false` if the object is not there any
    /// more.
    pub(crate) fn share(&self, place: Place, own: ProcessId) -> bool {
        self.join(place, own, |state| match state.stage {
            Stage::Local(_) => Some(state.with(Stage::Shared(None))),
            _ => Some(state),
        })
    }

    /// Nobody will know who has handles: `false` if the object is not there any more.
    pub(crate) fn outlive(&self, place: Place, own: ProcessId) -> bool {
        self.join(place, own, |state| Some(state.with(Stage::Lasting)))
    }

    /// This process comes to a handle, by taking up a pin or from somebody who has one: `false` if the object is not there
    /// any more.
    pub(crate) fn adopt(&self, place: Place, own: ProcessId, was_pinned: bool) -> bool {
        self.join(place, own, |state| match state.stage {
            Stage::Pinned(_) if was_pinned => state.unpinned(),
            // Takes out the name of whoever looks whether a handle is left.
            Stage::Shared(_) => Some(state.with(Stage::Shared(None))),
            _ => Some(state),
        })
    }

    /// Sets the bit of this process, and then does a step with the object.
    fn join(&self, place: Place, own: ProcessId, step: impl Fn(State) -> Option<State>) -> bool {
        let Some(cell) = self.cell(place.index) else { return false };
        if !cell.has(Mark::new(place.generation, place.kind)) {
            return false;
        }
        self.holders.set(place.index, own);
        step_point();
        let done = cell.update(|state| {
            let is_another_ones = matches!(state.stage, Stage::Local(maker) if maker != own);
            if is_another_ones || !is_there(state, place) { None } else { step(state) }
        });
        step_point();
        done.is_some()
    }

    /// Takes a pin off that nobody will take up. What comes of it is for [`examine`](Self::examine).
    pub(crate) fn unpin(&self, place: Place) {
        if let Some(cell) = self.cell(place.index) {
            cell.update(|state| if is_there(state, place) { state.unpinned() } else { None });
        }
        step_point();
    }

    /// This process has no handle any more of what is in the cell.
    pub(crate) fn leave(&self, index: u32, own: ProcessId) -> Option<Clearing> {
        self.holders.clear(index, own);
        step_point();
        self.end(index, own, |state| matches!(state.stage, Stage::Local(maker) if maker == own))
            .or_else(|| self.examine(index, own))
    }

    /// Ends what is in the cell if nobody has a handle of it. One thread of each process at a time may call this, and
    /// [`leave`](Self::leave) and [`sweep`](Self::sweep).
    pub(crate) fn examine(&self, index: u32, own: ProcessId) -> Option<Clearing> {
        let shared = |state: State| {
            matches!(state.stage, Stage::Shared(_)).then(|| state.with(Stage::Shared(Some(own))))
        };
        // What is not shared is stored as it is: see the head of this file.
        let named = self.cell(index)?.update(|state| shared(state).or(Some(state)))?;
        step_point();
        if shared(named).is_none() || self.holders.is_any(index) {
            return None;
        }
        self.end(index, own, |state| state == named)
    }

    /// The next thing to be done with a cell for the process `gone`, by the process `own`: giving up its handles, and what
    /// it has not ended to its end. `is_its` says whether nobody else has its slot yet.
    pub(crate) fn sweep(
        &self,
        index: u32,
        gone: ProcessId,
        own: ProcessId,
        is_its: impl Fn() -> bool,
    ) -> Option<Clearing> {
        self.holders.clear_of(index, gone, is_its);
        step_point();
        let is_left = |stage| stage == Stage::Local(gone) || stage == Stage::Clearing(gone);
        self.end(index, own, |state| is_left(state.stage)).or_else(|| self.examine(index, own))
    }

    /// What may be of use for a sweep: all cells that were ever used.
    pub(crate) fn all(&self) -> std::ops::Range<u32> {
        0..self.used()
    }

    /// What is in the cell, if anything is.
    pub(crate) fn kind_of(&self, index: u32) -> Option<Kind> {
        let state = self.cell(index)?.state()?;
        state.kind.filter(|_| !matches!(state.stage, Stage::Clearing(_)))
    }

    /// -> Clearing, if the cell is in such a state.
    fn end(&self, index: u32, own: ProcessId, is_such: impl Fn(State) -> bool) -> Option<Clearing> {
        let ended = |state| is_such(state).then(|| state.with(Stage::Clearing(own)));
        let State { generation, kind, .. } = self.cell(index)?.update(ended)?;
        step_point();
        Some(Clearing { place: Place { index, generation, kind: kind? }, by: own })
    }

    /// Clearing -> Free. Nobody else changes the cell while we live.
    pub(crate) fn free(&self, Clearing { place, .. }: Clearing) {
        let Some(cell) = self.cell(place.index) else { return };
        for word in &cell.body {
            word.store(0, Ordering::Relaxed);
            step_point();
        }
        let free = State::free(place.generation.wrapping_add(1));
        // Release pairs with the Acquire in `take`.
        cell.state.store(free.word(), Ordering::Release);
        step_point();
        self.header.next.fetch_min(place.index, Ordering::Relaxed);
    }

    /// How many are not free.
    pub(crate) fn count(&self) -> usize {
        let states = self.cells.iter().take(self.used() as usize).filter_map(Cell::state);
        states.filter(|state| state.stage != Stage::Free).count()
    }

    /// What is in the cell and the slots of those who have handles of it, for people; `None`: nothing.
    pub(super) fn describe(&self, index: u32) -> Option<String> {
        let State { stage, generation, kind } = self.cell(index)?.state()?;
        let kind = kind?.name();
        Some(format!("{kind} {index}.{generation}: {stage:?}, held by {:?}", self.holders.slots(index)))
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

fn is_there(state: State, place: Place) -> bool {
    Mark::new(place.generation, place.kind).is_of(state.word())
}

/// For tests: the process may be killed here.
#[inline(always)]
fn step_point() {
    #[cfg(all(test, not(loom)))]
    super::deaths::may_die();
}
