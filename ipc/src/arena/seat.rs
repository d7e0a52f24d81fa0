//! Seats: a process that is started with handles has a slot, and bits for them, before it runs.
//!
//! ```text
//! the parent                                              holder of the slot
//! ---------------------------------------------------     -----------------------------
//! makes the process, which waits to be told what to do
//! claims a slot in its own name                           the parent
//! sets a bit there for each object that it will send      the parent, with handles of its own
//! hands the slot over: one store                          the child
//! tells the child which slot it has                       the child
//! the child begins to use shared memory there             the child, with a keeper
//! ```
//!
//! So at each point all bits of the slot belong to the one who holds it, and the sweep gives them up with it: the parent's, if it is
//! killed before the store; the child's, if it is killed at any time after it, also before it knows of anything. Nothing is
//! counted beside the bits.
//!
//! The slot cannot be claimed in the child's name at once: the child may be gone already, and a sweep that comes between
//! the claim and the last bit would free a slot that still gets bits.

use super::cell::Place;
use super::{Arena, arena, handle};
use crate::liveness::{self, Identity, ProcessId};
use crate::{Error, Result};

impl Arena {
    /// Claims a slot for the process `pid`, a child that nobody has reaped, with a bit for each of these objects, of which this
    /// process has handles. `Disconnected`: there is no such process any more.
    fn seat(&'static self, pid: i32, places: &[Place]) -> Result<ProcessId> {
        let own = self.own()?;
        let child = Identity::of(pid).ok_or(Error::Disconnected)?;
        let limit = liveness::MOST_PROCESSES;
        let claimed = self.table.claim_quietly(Identity::own()?).ok_or(Error::TooManyProcesses { limit })?;
        handle::lend(self, places, own, claimed);
        self.table.hand_over(claimed, child);
        Ok(claimed)
    }
}

/// Gives a child that waits handles of these objects. The number to [take](take) them by; 0: there are none.
///
/// The caller is inside the gate, or has closed it.
pub(crate) fn seat(pid: i32, places: &[Place]) -> Result<u32> {
    if places.is_empty() { Ok(0) } else { arena()?.seat(pid, places).map(ProcessId::bits) }
}

/// In the child: begins to use shared memory in the slot that it was given, if it was.
///
/// # Errors
///
/// As for each process that begins to use it. The slot is given up with this process.
#[inline]
pub(crate) fn take(seat: u32) -> Result<()> {
    if seat == 0 { Ok(()) } else { take_there(seat) }
}

fn take_there(seat: u32) -> Result<()> {
    let seat = ProcessId::from_bits(seat).ok_or(Error::Malformed { what: "number of a slot" })?;
    arena()?.join(Some(seat)).map(drop)
}
