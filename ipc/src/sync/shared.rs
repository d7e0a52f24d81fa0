//! A lock of the family: a cell of the arena, and handles of it that travel.

use super::Futex;
use super::lock::{Acquired, Lock, NotHeld};
use crate::arena::cell::{Cell, Kind, Mark, Place};
use crate::arena::{Arena, arena};
use crate::liveness::ProcessId;
use crate::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

/// How a lock was found by whoever acquired it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nobody held it.
    Free,
    /// Its holder ended without releasing it.
    Abandoned,
}

/// A handle of a lock that processes share. Handles may be encoded and decoded anywhere in the family.
#[derive(Clone)]
pub struct SharedLock {
    arena: &'static Arena,
    lock: &'static Lock,
    /// Where the lock is.
    cell: &'static Cell,
    /// What the cell says as long as it is.
    mark: Mark,
    place: Place,
    /// In the process that made the lock: what ends it with the last handle.
    _made: Option<Arc<Made>>,
}

/// Held by the handles of the process that made a lock.
struct Made {
    arena: &'static Arena,
    place: Place,
    maker: ProcessId,
}

impl Drop for Made {
    fn drop(&mut self) {
        // A copy by fork is another process, and has made nothing.
        if self.arena.inside() == Some(self.maker) {
            self.arena.cells().abandon(self.place, Kind::Lock, self.maker);
        }
    }
}

/// Who holds a lock: in a copy of the process by fork, it is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder(ProcessId);

impl SharedLock {
    /// Makes a lock that nobody holds.
    ///
    /// # Errors
    ///
    /// [`Error::NoSharedMemory`], [`Error::TooManyProcesses`], [`Error::TooManyObjects`].
    pub fn new() -> Result<Self> {
        let arena = arena()?;
        let maker = arena.own()?;
        let place = arena.cells().make(Kind::Lock, maker).ok_or(Error::TooManyObjects)?;
        let made = Made { arena, place, maker };
        Self::at(arena, place, Some(Arc::new(made)))
    }

    fn at(arena: &'static Arena, place: Place, made: Option<Arc<Made>>) -> Result<Self> {
        let mark = Mark::new(place.generation, Kind::Lock);
        let cell = arena.cells().cell(place.index).filter(|cell| cell.has(mark));
        let (Some(cell), Some(lock)) = (cell, arena.lock(place.index)) else {
            return Err(Error::Gone { what: "lock" });
        };
        Ok(Self { arena, lock, cell, mark, place, _made: made })
    }

    /// Acquires it, and waits while it is held; `None` as deadline waits without bound. `None`: the deadline came first.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`]; those of a process that uses shared memory for the first time, as for [`new`](Self::new).
    #[inline]
    pub fn acquire(&self, deadline: Option<Instant>) -> Result<Option<(Found, Holder)>> {
        let own = self.own()?;
        Ok(self.lock.acquire(own, &Futex, deadline).map(|acquired| (found(acquired), Holder(own))))
    }

    /// Acquires it if that needs no waiting.
    ///
    /// # Errors
    ///
    /// As for [`acquire`](Self::acquire).
    #[inline]
    pub fn try_acquire(&self) -> Result<Option<(Found, Holder)>> {
        let own = self.own()?;
        Ok(self.lock.try_acquire(own).map(|acquired| (found(acquired), Holder(own))))
    }

    #[inline]
    fn own(&self) -> Result<ProcessId> {
        self.assert_there()?;
        self.arena.own()
    }

    /// A copy by fork has handles of which the maker does not know.
    #[inline]
    fn assert_there(&self) -> Result<()> {
        if self.cell.has(self.mark) { Ok(()) } else { Err(Error::Gone { what: "lock" }) }
    }

    /// Releases it, whoever holds it.
    ///
    /// # Errors
    ///
    /// [`Error::NotHeld`], [`Error::Gone`].
    pub fn release(&self) -> Result<()> {
        self.assert_there()?;
        self.lock.release(&Futex).map_err(|NotHeld| Error::NotHeld)
    }

    /// Releases it for a holder that is done; in a copy of the holder by fork, which holds nothing, it does nothing.
    #[inline]
    pub fn release_by(&self, holder: Holder) {
        if self.arena.inside() == Some(holder.0) {
            // Somebody else may have released it meanwhile.
            let _ = self.lock.release(&Futex);
        }
    }

    /// Whether somebody holds it now, or ended with it.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.lock.holder().is_some()
    }
}

fn found(acquired: Acquired) -> Found {
    match acquired {
        Acquired::Released => Found::Free,
        Acquired::TakenOver(_) => Found::Abandoned,
    }
}

impl fmt::Debug for SharedLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLock")
            .field("place", &self.place)
            .field("lock", self.lock)
            .finish_non_exhaustive()
    }
}

/// Family, cell, generation.
impl Serialize for SharedLock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.arena.cells().share(self.place, Kind::Lock) {
            return Err(ser::Error::custom(Error::Gone { what: "lock" }));
        }
        (self.arena.id(), self.place.index, self.place.generation).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedLock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (id, index, generation) = <(u64, u32, u32)>::deserialize(deserializer)?;
        let arena = arena().map_err(de::Error::custom)?;
        if arena.id() != id {
            return Err(de::Error::custom(Error::ForeignFamily { what: "lock" }));
        }
        Self::at(arena, Place { index, generation }, None).map_err(de::Error::custom)
    }
}
