//! Foreign arenas: memory files beside that of the family, each of which has one object, a queue that is isolated.
//!
//! Whoever is given such an object is given the file, by the descriptor; so who has nothing else has no memory of the family to write
//! to by mistake. Nobody counts handles in it, since the kernel does: the file is gone when the last process has neither a descriptor
//! nor a mapping of it, whoever is killed, and whatever is on its way.
//!
//! States of an arena, in each process:
//!
//! ```text
//! unknown -> mapped     with the first handle; all handles in this process share one Foreign
//! outside -> inside     with the first use, as for the family's: a slot, and a keeper
//! mapped  -> left       with the last handle: the slot is given back, the keeper told to end, the memory no longer kept
//! left    -> unknown    when the keeper has ended: the addresses show the next foreign arena that is as long
//! ```
//!
//! Invariants:
//! - addresses are never given back, since what points to them does not end with a handle; so there are about as many as there were foreign
//!   arenas of one length at the same time, and each has its [`Arena`] for good;
//! - what a left one shows is a file of its own, empty: nobody reads or writes there but a keeper that has not noticed yet, and the thread
//!   that waits for tasks, which wakes somebody in vain at most;
//! - addresses show nothing else before that keeper has ended: what it does in the name of a process of the old arena is not done in the next one;
//! - a copy by fork has all that is mapped, and no keepers; it is outside of all arenas, and what is left is unknown to it;
//! - of a file that comes from elsewhere, everything is checked: [`is_fixed_memory`], its length, its header, its object;
//! - whoever uses the object borrows a handle meanwhile, so none is the last one while another thread waits with it;
//! - all this is done inside the gate and under one lock, so a fork finds it whole. Only the last handle is one no more before that: a copy that
//!   is made just then has descriptor and addresses for as long as it lives.

use super::cell::{Cell, Kind, Mark, Place};
use super::{Arena, Header, Layout, Role};
use crate::gate;
use crate::sys::fd::beyond_standard_streams;
use crate::sys::memory::{is_fixed_memory, sparse_memory};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// What somebody who is here is to a fork that waits.
const MAPPING: &str = "mapping the memory of an isolated queue";

/// For errors.
const WHAT: &str = "memory of an isolated queue";

/// Device and inode number: what tells files from each other, whatever is in them and however they were opened.
type Name = (u64, u64);

/// The foreign arenas of this process.
struct Known {
    mapped: BTreeMap<Name, Weak<Foreign>>,
    left: Vec<&'static Arena>,
}

static KNOWN: Mutex<Known> = Mutex::new(Known { mapped: BTreeMap::new(), left: Vec::new() });

/// Every change is complete between two statements, so a panic does not spoil it.
fn known() -> MutexGuard<'static, Known> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A foreign arena, as long as this process has handles of its object.
#[derive(Debug)]
pub(super) struct Foreign {
    arena: &'static Arena,
    file: File,
    name: Name,
}

impl Foreign {
    /// Makes one, with an object of this kind whose words are all zero.
    pub(super) fn make(kind: Kind) -> Result<Arc<Self>> {
        let _passage = gate::enter(MAPPING);
        let foreign = Self::of(super::make()?.into())?;
        let place = foreign.arena.cells().make_lasting(kind);
        // In a new one, the first cell is free.
        if place == Some(Self::place(kind)) { Ok(foreign) } else { Err(Error::Malformed { what: WHAT }) }
    }

    /// The one behind a descriptor that came from elsewhere.
    pub(super) fn arrive(file: OwnedFd, kind: Kind) -> Result<Arc<Self>> {
        let _passage = gate::enter(MAPPING);
        let doing = |e| Error::os("look at the memory of an isolated queue", e);
        let file = beyond_standard_streams(file).map_err(doing)?;
        if !is_fixed_memory(file.as_fd()).map_err(doing)? {
            return Err(Error::Malformed { what: WHAT });
        }
        let file = File::from(file);
        let (length, mut start) = (file.metadata().map_err(doing)?.len(), [0; Header::LENGTH]);
        let layout = usize::try_from(length).ok().and_then(Layout::of);
        if layout.is_none() || file.read_exact_at(&mut start, 0).is_err() || !Header::is_one(&start) {
            return Err(Error::Malformed { what: WHAT });
        }
        let foreign = Self::of(file)?;
        let Place { index, generation, kind } = Self::place(kind);
        let has_object = |cell: &Cell| cell.has(Mark::new(generation, kind));
        if foreign.arena.cells().cell(index).is_some_and(has_object) {
            Ok(foreign)
        } else {
            Err(Error::Malformed { what: WHAT })
        }
    }

    fn of(file: File) -> Result<Arc<Self>> {
        let doing = |e| Error::os("map the memory of an isolated queue (is RLIMIT_AS low?)", e);
        let facts = file.metadata().map_err(doing)?;
        let name = (facts.dev(), facts.ino());
        let mut known = known();
        if let Some(foreign) = known.mapped.get(&name).and_then(Weak::upgrade) {
            return Ok(foreign);
        }
        let arena = known.addresses(&file, facts.len())?;
        let foreign = Arc::new(Self { arena, file, name });
        known.mapped.insert(name, Arc::downgrade(&foreign));
        Ok(foreign)
    }

    /// Where the object of each of them is.
    pub(super) fn place(kind: Kind) -> Place {
        Place { index: 0, generation: 0, kind }
    }

    pub(super) fn arena(&self) -> &'static Arena {
        self.arena
    }
}

impl AsFd for Foreign {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _passage = gate::enter(MAPPING);
        let mut known = known();
        // The file may have come once more meanwhile.
        if known.mapped.get(&self.name).is_some_and(|other| other.strong_count() == 0) {
            known.mapped.remove(&self.name);
        }
        self.arena.leave();
        // Without a descriptor to be had, the memory is kept until the addresses show something else.
        let _ = self.arena.forget();
        known.left.push(self.arena);
    }
}

impl Known {
    /// Addresses that show this file.
    fn addresses(&mut self, file: &File, length: u64) -> Result<&'static Arena> {
        let is_fit = |arena: &'static Arena| arena.is_free() && arena.region.length() as u64 == length;
        let Some(at) = self.left.iter().position(|arena| is_fit(arena)) else {
            return Ok(Box::leak(Box::new(Arena::map(file.as_fd(), Role::Foreign)?)));
        };
        let arena = self.left[at];
        arena
            .region
            .replace(file.as_fd())
            .map_err(|e| Error::os("map the memory of an isolated queue", e))?;
        self.left.swap_remove(at);
        Ok(arena)
    }
}

impl Arena {
    /// Whether no keeper is there any more.
    fn is_free(&self) -> bool {
        // Acquire pairs with the Release of a keeper that ends.
        self.keeper.load(Ordering::Acquire) == 0
    }

    /// Keeps the memory no longer: what is seen from now on is empty.
    fn forget(&self) -> io::Result<()> {
        self.region.replace(sparse_memory(self.region.length() as u64)?.as_fd())
    }
}

#[cfg(test)]
mod tests;
