//! Handles of objects, as a process has them and as they travel. Each kind of object has a type of its own that holds one of
//! these and views of the object's words.
//!
//! States of an object, seen from one process: *unknown* -> *held*, with a count of handles -> unknown, when the last one
//! is dropped. Only the first and the last step are steps in shared memory (see [`cell`](super::cell)).
//!
//! The object of a [foreign](super::foreign) arena is counted by nobody: what this process has of it is one [`Foreign`], and what travels is
//! the descriptor.
//!
//! All that this process does with counted handles is done inside the gate and under one lock, [`HOLDINGS`]: so of several threads one at a
//! time looks whether an object has ended, and a fork finds the list whole.

use super::cell::{Cell, Cells, Clearing, Kind, Mark, Place};
use super::foreign::Foreign;
use super::{Arena, arena};
use crate::codec::{HandleFd, serialize_fd};
use crate::deposit::Tickets;
use crate::gate;
use crate::liveness::ProcessId;
use crate::shm::Shareable;
use crate::travel::{self, Way};
use crate::{Error, Result, codec};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What somebody who counts handles is to a fork that waits.
const COUNTING: &str = "counting handles";

/// What of an object this process holds.
#[derive(Debug)]
struct Holding {
    place: Place,
    /// How many handles there are.
    count: usize,
}

/// By cell.
#[derive(Debug)]
pub(super) struct Holdings(BTreeMap<u32, Holding>);

static HOLDINGS: Mutex<Holdings> = Mutex::new(Holdings(BTreeMap::new()));

/// Every change is complete between two statements, so a panic does not spoil it.
pub(super) fn holdings() -> MutexGuard<'static, Holdings> {
    HOLDINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Holdings {
    fn add(&mut self, place: Place) {
        match self.0.get_mut(&place.index).filter(|holding| holding.place == place) {
            Some(holding) => holding.count += 1,
            None => drop(self.0.insert(place.index, Holding { place, count: 1 })),
        }
    }

    /// Whether that was the last one.
    fn remove(&mut self, place: Place) -> bool {
        let Some(holding) = self.0.get_mut(&place.index).filter(|holding| holding.place == place) else {
            return false;
        };
        holding.count -= 1;
        holding.count == 0 && self.0.remove(&place.index).is_some()
    }

    /// What is held of any object in this cell.
    fn at(&self, index: u32) -> Option<Place> {
        self.0.get(&index).map(|holding| holding.place)
    }

    pub(super) fn all(&self) -> Vec<Place> {
        self.0.values().map(|holding| holding.place).collect()
    }
}

/// A handle of an object. It can be cloned, and sent anywhere in the family; the object ends with the last one.
#[derive(Clone)]
pub(crate) struct Handle {
    arena: &'static Arena,
    cell: &'static Cell,
    /// What the cell says as long as the object is there.
    mark: Mark,
    place: Place,
    held: Held,
}

/// What keeps the object.
#[derive(Clone)]
enum Held {
    /// This process, which counts its handles.
    Counted { _one: Arc<One> },
    /// The memory, since there is nothing else in it.
    Foreign(Arc<Foreign>),
    /// Nothing: this is the trial decoding at a sender.
    Nothing,
}

/// One in the count of this process.
struct One {
    arena: &'static Arena,
    place: Place,
}

impl Drop for One {
    fn drop(&mut self) {
        let passage = gate::enter(COUNTING);
        let mut holdings = holdings();
        let is_last = holdings.remove(self.place);
        // A copy by fork that was never inside has set no bit.
        let own = self.arena.inside().filter(|_| is_last);
        let ended = own.and_then(|own| self.arena.cells().leave(self.place.index, own));
        drop((holdings, passage));
        self.arena.bury(ended).give_back();
    }
}

/// A handle as it travels.
#[derive(Serialize, Deserialize)]
struct Address {
    family: u64,
    place: Place,
    /// Whether the object has a pin for it.
    pinned: bool,
}

/// One that leaves.
#[derive(Serialize)]
enum Departing<'a> {
    Family(Address),
    Foreign(Kind, #[serde(serialize_with = "beside")] BorrowedFd<'a>),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn beside<S: Serializer>(fd: &BorrowedFd<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    serialize_fd(*fd, serializer)
}

/// One that arrives.
#[derive(Deserialize)]
enum Arriving {
    Family(Address),
    Foreign(Kind, HandleFd),
}

impl Handle {
    /// Makes an object whose words are all zero.
    ///
    /// # Errors
    ///
    /// [`Error::NoSharedMemory`], [`Error::TooManyProcesses`], [`Error::TooManyObjects`].
    pub(crate) fn make(kind: Kind) -> Result<Self> {
        let arena = arena()?;
        let own = arena.own()?;
        let _passage = gate::enter(COUNTING);
        let mut holdings = holdings();
        let place = arena.cells().make(kind, own).ok_or(Error::TooManyObjects)?;
        holdings.add(place);
        drop(holdings);
        let held = Held::Counted { _one: Arc::new(One { arena, place }) };
        Self::to(arena, place, held)
    }

    /// Makes an object whose words are all zero, in memory of its own.
    ///
    /// # Errors
    ///
    /// No descriptor, memory or addresses left.
    pub(crate) fn make_foreign(kind: Kind) -> Result<Self> {
        Self::to_foreign(Foreign::make(kind)?, kind)
    }

    fn to_foreign(foreign: Arc<Foreign>, kind: Kind) -> Result<Self> {
        Self::to(foreign.arena(), Foreign::place(kind), Held::Foreign(foreign))
    }

    fn to(arena: &'static Arena, place: Place, held: Held) -> Result<Self> {
        let cell = arena.cells().cell(place.index).ok_or(Error::Gone { what: place.kind.name() })?;
        let mark = Mark::new(place.generation, place.kind);
        Ok(Self { arena, cell, mark, place, held })
    }

    /// Whether its object is the only one in its memory.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        matches!(self.held, Held::Foreign(_))
    }

    /// Where it is, to look at what it has there.
    pub(crate) fn arena(&self) -> &'static Arena {
        self.arena
    }

    /// What it is a handle of.
    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Its number among the objects that are.
    pub(crate) fn index(&self) -> u32 {
        self.place.index
    }

    /// Its words.
    pub(crate) fn words<T: Shareable>(&self) -> Option<&'static T> {
        self.arena.words(self.place.index)
    }

    /// The object is not there, or has not the words that it should have.
    #[cold]
    pub(crate) fn gone(&self) -> Error {
        Error::Gone { what: self.place.kind.name() }
    }

    /// This process, which is about to use the object.
    #[inline]
    pub(crate) fn own(&self) -> Result<ProcessId> {
        self.assert_there()?;
        self.arena.own()
    }

    /// A copy by a fork that is none of ours has handles that nobody counts.
    #[inline]
    pub(crate) fn assert_there(&self) -> Result<()> {
        if self.cell.has(self.mark) { Ok(()) } else { Err(self.gone()) }
    }

    /// Makes an address of this handle for the encoding under way.
    fn depart(&self) -> Result<Address> {
        let way = travel::way();
        if way == Way::Barred {
            return Err(travel::bar());
        }
        let own = self.own()?;
        let is_there = {
            let (_passage, _holdings) = (gate::enter(COUNTING), holdings());
            match way {
                Way::Once => self.arena.cells().pin(self.place, own),
                Way::Often => self.arena.cells().share(self.place, own),
                _ => self.arena.cells().outlive(self.place, own),
            }
        };
        if !is_there {
            return Err(self.gone());
        }
        match way {
            Way::Once => travel::note_pin(Pin::new(self.place, own)),
            Way::Often => travel::note_handle(self.clone()),
            _ => {}
        }
        Ok(self.address(way == Way::Once))
    }

    fn address(&self, pinned: bool) -> Address {
        Address { family: self.arena.id(), place: self.place, pinned }
    }

    /// Reads a handle of an object of `kind`.
    pub(crate) fn deserialize_as<'de, D: Deserializer<'de>>(
        kind: Kind,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let arriving = Arriving::deserialize(deserializer)?;
        if arriving.kind() != kind {
            return Err(de::Error::custom(Error::Malformed { what: "kind of a handle" }));
        }
        arriving.arrive().map_err(de::Error::custom)
    }

    fn arrive(address: &Address) -> Result<Self> {
        if travel::way() == Way::Barred {
            return Err(travel::bar());
        }
        let (arena, place) = (arena()?, address.place);
        if arena.id() != address.family {
            return Err(Error::ForeignFamily { what: place.kind.name() });
        }
        if codec::is_checking() {
            return Self::to(arena, place, Held::Nothing);
        }
        let one = adopt(arena, place, address.pinned)?;
        Self::to(arena, place, Held::Counted { _one: Arc::new(one) })
    }
}

impl Arriving {
    fn kind(&self) -> Kind {
        match self {
            Self::Family(address) => address.place.kind,
            Self::Foreign(kind, _) => *kind,
        }
    }

    fn arrive(self) -> Result<Handle> {
        match self {
            Self::Family(address) => Handle::arrive(&address),
            Self::Foreign(kind, file) => Handle::to_foreign(Foreign::arrive(file.into_owned(), kind)?, kind),
        }
    }
}

/// Takes up a handle of `place`.
fn adopt(arena: &'static Arena, place: Place, was_pinned: bool) -> Result<One> {
    let own = arena.own()?;
    let passage = gate::enter(COUNTING);
    let mut holdings = holdings();
    let gone = Err(Error::Gone { what: place.kind.name() });
    let held = holdings.at(place.index);
    if held.is_some_and(|held| held != place) {
        // Another object is there. Our bit is for that one.
        return gone;
    }
    if arena.cells().adopt(place, own, was_pinned) {
        holdings.add(place);
        if was_pinned {
            travel::note_arrival(place);
        }
        return Ok(One { arena, place });
    }
    let ended = if held.is_none() { arena.cells().leave(place.index, own) } else { None };
    drop((holdings, passage));
    arena.bury(ended).give_back();
    gone
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.place, f)
    }
}

impl Serialize for Handle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let departing = match &self.held {
            Held::Foreign(foreign) => Departing::Foreign(self.place.kind, foreign.as_fd()),
            _ if codec::is_checking() => Departing::Family(self.address(false)),
            _ => Departing::Family(self.depart().map_err(ser::Error::custom)?),
        };
        departing.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Handle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Arriving::deserialize(deserializer)?.arrive().map_err(de::Error::custom)
    }
}

/// A handle on its way keeps its object alive. Dropped, it takes its pin off: the handle will never arrive.
pub(crate) struct Pin {
    place: Place,
    by: ProcessId,
    is_left: bool,
}

impl Pin {
    fn new(place: Place, by: ProcessId) -> Self {
        Self { place, by, is_left: false }
    }

    /// The handle has left: whoever takes it up takes the pin off.
    pub(crate) fn leave(mut self) {
        self.is_left = true;
    }

    /// What is pinned.
    pub(crate) fn place(&self) -> Place {
        self.place
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if !self.is_left {
            take_off(&[self.place], Some(self.by)).give_back();
        }
    }
}

/// Takes pins off that nobody will take up, in the process `by`: in a copy of it by fork, they are the parent's. The tickets are
/// those in messages of queues that so have ended.
pub(crate) fn take_off(places: &[Place], by: Option<ProcessId>) -> Tickets {
    let mut tickets = Tickets::default();
    let Ok(arena) = arena() else { return tickets };
    let Some(own) = arena.inside().filter(|own| Some(*own) == by) else { return tickets };
    for place in places {
        let passage = gate::enter(COUNTING);
        let ended = unpin(arena.cells(), *place, own);
        drop(passage);
        tickets.append(arena.bury(ended));
    }
    tickets
}

/// Takes one off, and looks whether that was the last that kept the object. The caller is inside the gate.
pub(super) fn unpin(cells: &Cells, place: Place, own: ProcessId) -> Option<Clearing> {
    let _holdings = holdings();
    cells.unpin(place);
    cells.examine(place.index, own)
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pin").field(&self.place).finish()
    }
}

/// This process has handles of these objects: from now on, so has the slot `to`.
pub(super) fn lend(arena: &Arena, places: &[Place], own: ProcessId, to: ProcessId) {
    let _holdings = holdings();
    for place in places {
        // What has ended, whoever is given a handle of it learns then.
        let _ = arena.cells().share(*place, own) && arena.cells().adopt(*place, to, false);
    }
}

/// In a process that has just got its id: what it holds already, it has as a copy by fork.
pub(super) fn adopt_inherited(arena: &Arena, own: ProcessId) {
    let mut holdings = holdings();
    let mut ended = Vec::new();
    for place in holdings.all() {
        if !arena.cells().adopt(place, own, false) {
            // It is gone, or its maker has never let it go: somebody else's fork, of which nobody knew.
            holdings.0.remove(&place.index);
            ended.push(arena.cells().leave(place.index, own));
        }
    }
    drop(holdings);
    ended.into_iter().for_each(|ended| arena.bury(ended).give_back());
}

/// What a sweep does with a cell for the process `gone`: gives its handles up, and ends what it has not ended to its end.
pub(super) fn give_up(arena: &Arena, index: u32, gone: ProcessId, own: ProcessId) -> Tickets {
    let passage = gate::enter("giving up the handles of a process that is gone");
    let holdings = holdings();
    let ended = arena.cells().sweep(index, gone, own, || arena.has_slot(gone));
    drop((holdings, passage));
    arena.bury(ended)
}
