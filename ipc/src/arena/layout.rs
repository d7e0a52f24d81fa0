//! What lies where in an arena.
//!
//! All parts but the first three grow with the arena, so a small one (RLIMIT_AS, RLIMIT_FSIZE) works like a large one.

use super::annex::Annexes;
use super::cell::{Cell, Cells, HOLDER_WORDS};
use super::segments::{self, SegmentTable};
use crate::atomic::{AtomicU64, Ordering};
use crate::liveness::{self, MOST_PROCESSES, Marks, Slot, Table};
use crate::mailbox::ring::Ring;
use crate::shm::Region;
use crate::sys::memory::{address_limit, file_size_limit};
use std::io;

/// Length of an arena where nothing forbids it: addresses, not memory.
const LENGTH: usize = 64 << 30;

/// The smallest that is of use.
const LEAST: usize = 8 << 20;

/// Arenas end at a multiple of this.
const GRAIN: usize = 256 << 10;

/// The process table: a slot for each, and marks for each.
const TABLE: usize = 64 << 10;
const MARKS: usize = 512 << 10;

/// The cells: one byte in a thousand of the arena. Behind them, a ring for each; who has handles of it, 1 KiB
/// of addresses for each, of which a family of up to 31 processes uses 8 bytes; the segment table; segments.
const CELLS: usize = 5 << 20;
const BYTES_PER_CELL_BYTE: usize = 1024;

/// "processn", so that nobody takes anything else for an arena.
const MAGIC: u64 = u64::from_be_bytes(*b"processn");

/// The first words of an arena. Written before anybody else has it, and never again, but for those that hold counts.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Header {
    magic: AtomicU64,
    /// Random: handles of another family are told by it.
    id: AtomicU64,
    /// Those of the root: a number made of their inodes.
    namespaces: AtomicU64,
    /// Words of the process table.
    processes: liveness::Header,
    /// Words of the cells.
    cells: super::cell::Header,
    /// Words of the segments.
    segments: segments::Header,
}

impl Header {
    /// How much of it is written before anybody else has it.
    pub(super) const LENGTH: usize = 24;

    /// The header of a new arena.
    pub(super) fn bytes(id: u64, namespaces: u64) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        for (to, word) in bytes.chunks_exact_mut(8).zip([MAGIC, id, namespaces]) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }

    /// Whether a file that begins so is an arena.
    pub(super) fn is_one(start: &[u8; Self::LENGTH]) -> bool {
        start.starts_with(&MAGIC.to_ne_bytes())
    }

    /// Id and namespaces; `None`: this is no arena.
    pub(super) fn family(&self) -> Option<(u64, u64)> {
        let read = |word: &AtomicU64| word.load(Ordering::Relaxed);
        (read(&self.magic) == MAGIC).then(|| (read(&self.id), read(&self.namespaces)))
    }
}

/// Where things are in an arena of some length.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    length: usize,
}

impl Layout {
    /// For an arena of `length` bytes.
    pub(super) fn of(length: usize) -> Option<Self> {
        (length >= LEAST && length.is_multiple_of(GRAIN)).then_some(Self { length })
    }

    /// For as large an arena as this process may have. Other mappings need addresses too.
    pub(super) fn for_this_machine() -> io::Result<Self> {
        let fits = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
        let length = LENGTH.min(fits(file_size_limit()?)).min(fits(address_limit()? / 4));
        Self::of(length / GRAIN * GRAIN).ok_or_else(|| {
            io::Error::new(io::ErrorKind::OutOfMemory, format!("limits leave {length} bytes, too few"))
        })
    }

    pub(super) fn length(self) -> usize {
        self.length
    }

    pub(super) fn header(self, region: &Region) -> Option<&'static Header> {
        region.view(0)
    }

    pub(super) fn table(self, region: &Region) -> Option<Table> {
        let slots = region.views::<Slot>(TABLE, MOST_PROCESSES + 1)?;
        let marks = region.views::<Marks>(MARKS, MOST_PROCESSES + 1)?;
        Some(Table::new(&self.header(region)?.processes, slots, marks))
    }

    pub(super) fn cells(self, region: &Region) -> Option<Cells> {
        let count = self.count_of_cells();
        let cells = region.views::<Cell>(CELLS, count)?;
        let holders = region.views::<AtomicU64>(self.holders(), count * HOLDER_WORDS)?;
        Some(Cells::new(&self.header(region)?.cells, cells, holders))
    }

    pub(super) fn annexes(self, region: &Region) -> Option<Annexes> {
        let rings = region.views::<Ring>(self.rings(), self.count_of_cells())?;
        let (start, count) = self.segments();
        let entries = region.views::<segments::Entry>(self.segment_table(), count)?;
        let segments = SegmentTable::new(&self.header(region)?.segments, entries, *region, start);
        Some(Annexes::new(rings, segments))
    }

    fn rings(self) -> usize {
        CELLS + self.count_of_cells() * size_of::<Cell>()
    }

    fn holders(self) -> usize {
        self.rings() + self.count_of_cells() * size_of::<Ring>()
    }

    fn segment_table(self) -> usize {
        self.holders() + self.count_of_cells() * HOLDER_WORDS * size_of::<AtomicU64>()
    }

    /// Where segments begin, and how many there are.
    fn segments(self) -> (usize, usize) {
        let table = self.segment_table();
        let entries = (self.length - table) / (segments::SIZE + size_of::<segments::Entry>());
        let start = (table + entries * size_of::<segments::Entry>()).next_multiple_of(GRAIN);
        (start, self.length.saturating_sub(start) / segments::SIZE)
    }

    fn count_of_cells(self) -> usize {
        self.length / BYTES_PER_CELL_BYTE / size_of::<Cell>()
    }

    /// Where the object in a cell is.
    pub(super) fn body_of(self, index: u32) -> Option<usize> {
        let index = usize::try_from(index).ok().filter(|index| *index < self.count_of_cells())?;
        Some(CELLS + index * size_of::<Cell>() + Cell::BODY)
    }
}

const _: () = assert!(size_of::<Header>() <= TABLE);
const _: () = assert!(TABLE + (MOST_PROCESSES + 1) * size_of::<Slot>() <= MARKS);
const _: () = assert!(MARKS + (MOST_PROCESSES + 1) * size_of::<Marks>() <= CELLS);
const _: () = assert!(CELLS + 20 * (LEAST / BYTES_PER_CELL_BYTE) + segments::SIZE <= LEAST);
