//! Loom's models of the queue: the product's file, every order of its steps.
//!
//! They are weaker than those of the locks: with a weakened ordering at `tail`, `head`, `give_back` or `claim` they still pass,
//! so what they show is the logic and not the orderings. The command is in `README.md`.

use super::ring::{Actor, GetError, Ring};
use super::segment::{NoSpace, Segment, Segments, State};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::liveness::ProcessId;
use crate::sync::{Park, Parked};
use loom::sync::Arc;
use loom::thread;
use std::time::Instant;

/// Room for one record with a payload of 8 bytes, and the end: each message needs a segment of its own.
const ROOM: u32 = 24;

/// Bytes as words of eight. They are read and written without any order of their own, so whoever reads them without having
/// seen the store that publishes them may read what was there before.
struct Memory(Vec<(AtomicU64, AtomicU32, [AtomicU64; 3])>);

impl Memory {
    fn new(segments: usize) -> Self {
        let segment = || (AtomicU64::new(0), AtomicU32::new(0), [0; 3].map(AtomicU64::new));
        Self((0..segments).map(|_| segment()).collect())
    }

    fn cells(&self, segment: Segment, at: u32, length: usize) -> Option<&[AtomicU64]> {
        let cells = &self.0.get(segment.number() as usize - 1)?.2;
        cells.get(at as usize / 8..)?.get(..length.div_ceil(8))
    }
}

impl Segments for Memory {
    fn room(&self) -> u32 {
        ROOM
    }

    fn state(&self, segment: Segment) -> Option<&AtomicU64> {
        self.0.get(segment.number() as usize - 1).map(|segment| &segment.0)
    }

    fn link(&self, segment: Segment) -> Option<&AtomicU32> {
        self.0.get(segment.number() as usize - 1).map(|segment| &segment.1)
    }

    fn find_free(&self) -> Option<Segment> {
        let is_free =
            |word: &AtomicU64| State::from_word(word.load(Ordering::Relaxed)).unwrap().queue.is_none();
        let index = self.0.iter().position(|(state, ..)| is_free(state))?;
        Segment::new(index as u32 + 1)
    }

    fn back(&self, _segment: Segment, _end: u32) -> Result<(), NoSpace> {
        Ok(())
    }

    fn write(&self, segment: Segment, at: u32, bytes: &[u8]) {
        for (cell, bytes) in self.cells(segment, at, bytes.len()).unwrap().iter().zip(bytes.chunks(8)) {
            let mut word = cell.load(Ordering::Relaxed).to_ne_bytes();
            word[..bytes.len()].copy_from_slice(bytes);
            cell.store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
    }

    fn read(&self, segment: Segment, at: u32, into: &mut [u8]) -> Option<()> {
        for (cell, into) in self.cells(segment, at, into.len())?.iter().zip(into.chunks_mut(8)) {
            let length = into.len();
            into.copy_from_slice(&cell.load(Ordering::Relaxed).to_ne_bytes()[..length]);
        }
        Some(())
    }

    fn append(&self, segment: Segment, at: u32, length: u32, out: &mut Vec<u8>) -> Option<()> {
        let end = out.len();
        out.resize(end + length as usize, 0);
        self.read(segment, at, &mut out[end..])
    }
}

/// Those who wait look again: a lock of a queue is held for a moment.
struct Yield;

impl Park for Yield {
    fn park(&self, _word: &AtomicU32, _expected: u32, _deadline: Option<Instant>) -> Parked {
        thread::yield_now();
        Parked::Awake
    }

    fn wake(&self, _word: &AtomicU32, _count: u32) {}
}

struct Shared {
    ring: Ring,
    memory: Memory,
}

impl Shared {
    fn new(segments: usize) -> Arc<Self> {
        Arc::new(Self { ring: Ring::new(), memory: Memory::new(segments) })
    }

    fn actor(&self, slot: u32) -> Actor<'_, Memory, Yield> {
        let own = ProcessId::new(slot, 0).unwrap();
        Actor { queue: 1, own, segments: &self.memory, park: &Yield, deadline: None }
    }

    fn put(&self, slot: u32, number: u64) {
        self.ring.put(&self.actor(slot), u32::MAX, &number.to_ne_bytes()).unwrap();
    }

    /// Looks once.
    fn get(&self, slot: u32) -> Option<u64> {
        let mut out = Vec::new();
        match self.ring.get(&self.actor(slot), &mut out) {
            Ok(()) => Some(u64::from_ne_bytes(out.try_into().unwrap())),
            Err(GetError::Empty) => None,
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn model(threads: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(threads);
}

/// A producer and a consumer; a segment is used again.
#[test]
fn messages_arrive_whole_and_in_order() {
    model(|| {
        let shared = Shared::new(2);
        let producer = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                shared.put(1, 10);
                shared.put(1, 11);
            }
        });
        let early: Vec<_> = (0..2).filter_map(|_| shared.get(2)).collect();
        producer.join().unwrap();
        // The segment of a message that was taken is used again.
        let room = early.len();
        (0..room).for_each(|number| shared.put(1, 12 + number as u64));
        let late: Vec<_> = std::iter::from_fn(|| shared.get(2)).collect();
        let all: Vec<_> = early.into_iter().chain(late).collect();
        assert_eq!(all, (10..12 + room as u64).collect::<Vec<_>>());
    });
}

/// Two producers and a consumer; each message once.
#[test]
fn nothing_is_lost_or_doubled_between_producers() {
    model(|| {
        let shared = Shared::new(3);
        let producers = [1, 2].map(|slot| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.put(slot, u64::from(slot)))
        });
        let early = shared.get(3);
        producers.into_iter().for_each(|thread| thread.join().unwrap());
        let mut all: Vec<_> = early.into_iter().chain(std::iter::from_fn(|| shared.get(3))).collect();
        all.sort_unstable();
        assert_eq!(all, [1, 2]);
        assert_eq!(shared.ring.len(), 0);
    });
}
