//! Which processes of the family use shared memory, and which of them are gone.
//!
//! - [`table`]: a slot per process, claimed by one store that says who it is;
//! - [`presence`]: whether a process is gone, the only place that knows;
//! - [`keeper`]: the thread of each process that learns of deaths and sweeps.
//!
//! States of a slot: *free* -> *claimed* (a process, no keeper yet) -> *alive* (the keeper's id in the words that the kernel
//! marks) -> *dying* (marked) -> *gone* (its pidfd is readable, or cannot be opened) -> swept, and free again. A claimed process
//! may also be gone at once. Everybody but the process itself acts on what is gone only: dying is not dead. A process that is done
//! with an arena [leaves](Table::leave) it: *alive* -> *free*.
//!
//! `mailbox/README.md`, 3, says why nobody is forgotten.

mod id;
#[cfg(not(all(test, loom)))]
mod keeper;
#[cfg(not(all(test, loom)))]
mod presence;
#[cfg(not(all(test, loom)))]
mod table;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;

pub(crate) use id::{ProcessId, SLOTS};
#[cfg(not(all(test, loom)))]
pub(crate) use keeper::{Keeper, Tenure, presence as presence_of};
#[cfg(not(all(test, loom)))]
pub(crate) use presence::Identity;
#[cfg(not(all(test, loom)))]
pub(crate) use table::{Header, Marks, Slot, Table};

/// How many processes can use the memory of a family at the same time.
#[cfg(not(all(test, loom)))]
pub(crate) const MOST_PROCESSES: usize = id::SLOTS as usize - 1;
