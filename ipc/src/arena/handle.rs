//! Handles of objects: where the object is, whether it still is, and how a handle travels.
//!
//! Each kind of object has a type of its own that holds one of these and views of the object's words.

use super::cell::{Cell, Kind, Mark, Place};
use super::{Arena, arena};
use crate::liveness::ProcessId;
use crate::shm::Shareable;
use crate::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};
use std::fmt;
use std::sync::Arc;

/// A handle of an object of this family. Clones are handles of the same object.
#[derive(Clone)]
pub(crate) struct Handle {
    arena: &'static Arena,
    /// Where the object is.
    cell: &'static Cell,
    /// What the cell says as long as it is.
    mark: Mark,
    place: Place,
    kind: Kind,
    /// In the process that made the object: what ends it with the last handle.
    _made: Option<Arc<Made>>,
}

/// Held by the handles of the process that made an object.
struct Made {
    arena: &'static Arena,
    place: Place,
    kind: Kind,
    maker: ProcessId,
}

impl Drop for Made {
    fn drop(&mut self) {
        // A copy by fork is another process, and has made nothing.
        if self.arena.inside() == Some(self.maker) {
            self.arena.cells().abandon(self.place, self.kind, self.maker);
        }
    }
}

impl Handle {
    /// Makes an object whose words are all zero.
    ///
    /// # Errors
    ///
    /// [`Error::NoSharedMemory`], [`Error::TooManyProcesses`], [`Error::TooManyObjects`].
    pub(crate) fn make(kind: Kind) -> Result<Self> {
        let arena = arena()?;
        let maker = arena.own()?;
        let place = arena.cells().make(kind, maker).ok_or(Error::TooManyObjects)?;
        let made = Made { arena, place, kind, maker };
        Self::at(arena, place, kind, Some(Arc::new(made)))
    }

    fn at(arena: &'static Arena, place: Place, kind: Kind, made: Option<Arc<Made>>) -> Result<Self> {
        let mark = Mark::new(place.generation, kind);
        let cell = arena.cells().cell(place.index).filter(|cell| cell.has(mark));
        let cell = cell.ok_or(Error::Gone { what: kind.name() })?;
        Ok(Self { arena, cell, mark, place, kind, _made: made })
    }

    /// Where it is, to look at its words.
    pub(crate) fn arena(&self) -> &'static Arena {
        self.arena
    }

    /// Its number among the objects that are.
    pub(crate) fn index(&self) -> u32 {
        self.place.index
    }

    /// Its words.
    pub(crate) fn words<T: Shareable>(&self) -> Option<&'static T> {
        self.arena.words(self.place.index)
    }

    /// The object does not have the words that it should have.
    pub(crate) fn gone(&self) -> Error {
        Error::Gone { what: self.kind.name() }
    }

    /// This process, which is about to use the object.
    #[inline]
    pub(crate) fn own(&self) -> Result<ProcessId> {
        self.assert_there()?;
        self.arena.own()
    }

    /// A copy by fork has handles of which the maker does not know.
    #[inline]
    pub(crate) fn assert_there(&self) -> Result<()> {
        if self.cell.has(self.mark) { Ok(()) } else { Err(self.gone()) }
    }

    /// Reads a handle of an object of `kind`.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        kind: Kind,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let (id, index, generation) = <(u64, u32, u32)>::deserialize(deserializer)?;
        let arena = arena().map_err(de::Error::custom)?;
        if arena.id() != id {
            return Err(de::Error::custom(Error::ForeignFamily { what: kind.name() }));
        }
        Self::at(arena, Place { index, generation }, kind, None).map_err(de::Error::custom)
    }
}

/// Family, cell, generation.
impl Serialize for Handle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.arena.cells().share(self.place, self.kind) {
            return Err(ser::Error::custom(self.gone()));
        }
        (self.arena.id(), self.place.index, self.place.generation).serialize(serializer)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}
