//! How much of the arena is in use, counted from the states themselves: for tests of leaks, and for people who look for one.

use super::arena;
use crate::Result;

/// What is in use in the memory that the family shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Processes that use it, and dead ones for which nobody has swept yet.
    pub processes: usize,
    /// Locks, queues and other objects.
    pub objects: usize,
    /// Bytes of the segments that queues and messages have.
    pub segments: u64,
}

/// Counts what is in use; others may change it meanwhile.
///
/// # Errors
///
/// [`Error::NoSharedMemory`](crate::Error::NoSharedMemory).
pub fn usage() -> Result<Usage> {
    let arena = arena()?;
    let segments = arena.annexes.segments().in_use();
    Ok(Usage { processes: arena.table.count(), objects: arena.cells.count(), segments })
}

/// Says, a line for each, which processes use the memory and which objects are there, with the slots of those who have handles.
///
/// # Errors
///
/// [`Error::NoSharedMemory`](crate::Error::NoSharedMemory).
pub fn census() -> Result<String> {
    let arena = arena()?;
    let processes = arena.table.describe();
    let objects = arena.cells.all().filter_map(|index| arena.cells.describe(index));
    Ok(processes.chain(objects).collect::<Vec<_>>().join("\n"))
}
