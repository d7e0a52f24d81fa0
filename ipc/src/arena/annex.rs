//! What a queue has outside of its cell: its ring, and the segments of its messages.
//!
//! The ring of the queue in a cell lies in a row of rings, at the number of the cell. A ring of a cell that holds no queue is
//! all zero and takes no memory, so nobody may even look at it.

use super::cell::{Clearing, Kind, Place};
use super::segments::SegmentTable;
use crate::codec;
use crate::liveness::ProcessId;
use crate::mailbox::chain::free_all;
use crate::mailbox::ring::{Actor, Ring};
use crate::mailbox::segment::Owner;
use crate::sync::Futex;
use crate::travel::Manifest;

/// All rings and segments of an arena.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Annexes {
    rings: &'static [Ring],
    segments: SegmentTable,
}

impl Annexes {
    /// The annexes made of these.
    pub(crate) fn new(rings: &'static [Ring], segments: SegmentTable) -> Self {
        Self { rings, segments }
    }

    /// The ring of the queue in this cell.
    pub(crate) fn ring(&self, index: u32) -> Option<&'static Ring> {
        self.rings.get(usize::try_from(index).ok()?)
    }

    /// All segments.
    pub(crate) fn segments(&self) -> &SegmentTable {
        &self.segments
    }

    /// What a process that is gone has here becomes free: messages that it wrote or read. As for [`clear`](Self::clear).
    pub(crate) fn sweep(&self, gone: ProcessId) {
        free_all(&self.segments, Owner::Process(gone));
    }

    /// What the next message that carries anything has carried, of a queue that ends. Nobody gets it twice; if it is cut off, what
    /// one message has carried is kept by nobody. `None`: there is none left.
    pub(crate) fn give_up(&self, Clearing { place, by }: &Clearing) -> Option<Manifest> {
        let ring = self.ring(place.index).filter(|_| place.kind == Kind::Queue)?;
        let segments = &self.segments;
        let actor = Actor { queue: place.index, own: *by, segments, park: &Futex, deadline: None };
        // What is no manifest was written by somebody whose memory it is not.
        std::iter::from_fn(|| ring.give_up(&actor)).find_map(|bytes| codec::decode(&bytes).ok())
    }

    /// The object in a cell ends: what it has here is given back. May be cut off anywhere and be done again.
    pub(crate) fn clear(&self, Clearing { place: Place { index, kind, .. }, .. }: &Clearing) {
        let index = *index;
        if *kind != Kind::Queue {
            return;
        }
        free_all(&self.segments, Owner::Queue(index));
        if let Some(ring) = self.ring(index) {
            ring.clear();
        }
    }
}
