//! Loom's models of the queue: the product's file, every order of its steps.
//!
//! Each ordering between two who live was seen to be needed: with one of them weakened a model fails. The others order the
//! journals of the dead. The command is in `README.md`.
//!
//! Loom tries another order only where two threads touch the same word, and of those who read it looks at the last one alone.
//! A thread that reads a word again before it writes it hides who read it before. So each point at which a process may die
//! touches one word for all of them, without any ordering.

mod chains;

use super::ring::{Actor, GetError, PutError, Ring};
use super::segment::{NoSpace, Segment, Segments, State};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::liveness::ProcessId;
use crate::shm::Word;
use crate::sync::{Park, Parked};
use loom::sync::Arc;
use loom::thread;
use std::time::Instant;

/// Room for one record with a payload of 8 bytes, and the end: each message needs a segment of its own.
const ROOM: u32 = 24;

/// A segment: state, link and bytes.
type Parts = (AtomicU64, AtomicU32, [Word; 3]);

struct Memory {
    segments: Vec<Parts>,
    steps: AtomicU32,
}

impl Memory {
    fn new(segments: usize) -> Self {
        let segment = || (AtomicU64::new(0), AtomicU32::new(0), [(); 3].map(|()| Word::new()));
        Self { segments: (0..segments).map(|_| segment()).collect(), steps: AtomicU32::new(0) }
    }

    /// How many belong to somebody.
    fn in_use(&self) -> usize {
        let states = self.segments.iter().map(|(state, ..)| State::from_word(state.load(Ordering::Relaxed)));
        states.filter(|state| !state.unwrap().is_free()).count()
    }

    fn get(&self, segment: Segment) -> Option<&Parts> {
        self.segments.get(segment.number() as usize - 1)
    }

    fn words(&self, segment: Segment, at: u32, length: usize) -> Option<&[Word]> {
        self.get(segment)?.2.get(at as usize / 8..)?.get(..length.div_ceil(8))
    }
}

impl Segments for Memory {
    fn room(&self) -> u32 {
        ROOM
    }

    fn used(&self) -> u32 {
        self.segments.len() as u32
    }

    fn state(&self, segment: Segment) -> Option<&AtomicU64> {
        self.get(segment).map(|segment| &segment.0)
    }

    fn link(&self, segment: Segment) -> Option<&AtomicU32> {
        self.get(segment).map(|segment| &segment.1)
    }

    fn find_free(&self) -> Option<Segment> {
        let is_free = |word: &AtomicU64| State::from_word(word.load(Ordering::Relaxed)).unwrap().is_free();
        let index = self.segments.iter().position(|(state, ..)| is_free(state))?;
        Segment::new(index as u32 + 1)
    }

    fn back(&self, _segment: Segment, _end: u32) -> Result<(), NoSpace> {
        Ok(())
    }

    fn write(&self, segment: Segment, at: u32, bytes: &[u8]) {
        for (word, bytes) in self.words(segment, at, bytes.len()).unwrap().iter().zip(bytes.chunks(8)) {
            word.write(u64::from_ne_bytes(bytes.try_into().unwrap()));
        }
    }

    fn read(&self, segment: Segment, at: u32, into: &mut [u8]) -> Option<()> {
        for (word, into) in self.words(segment, at, into.len())?.iter().zip(into.chunks_mut(8)) {
            into.copy_from_slice(&word.read().to_ne_bytes());
        }
        Some(())
    }

    fn append(&self, segment: Segment, at: u32, length: u32, out: &mut Vec<u8>) -> Option<()> {
        let end = out.len();
        out.resize(end + length as usize, 0);
        self.read(segment, at, &mut out[end..])
    }

    fn may_die(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
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

    /// Whether there was memory for it.
    fn put(&self, slot: u32, number: u64) -> bool {
        match self.ring.put(&self.actor(slot), u32::MAX, 0, &[&number.to_ne_bytes()]) {
            Ok(()) => true,
            Err(PutError::NoSpace) => false,
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Looks once.
    fn get(&self, slot: u32) -> Option<u64> {
        let mut out = Vec::new();
        match self.ring.get(&self.actor(slot), &mut [], &mut out) {
            Ok(_) => Some(u64::from_ne_bytes(out.try_into().unwrap())),
            Err(GetError::Empty) => None,
            Err(other) => panic!("{other:?}"),
        }
    }

    fn get_all(&self, slot: u32) -> impl Iterator<Item = u64> {
        std::iter::from_fn(move || self.get(slot))
    }
}

fn model(threads: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(threads);
}

/// A producer and a consumer; a segment that the consumer gave back is used again while he goes on.
#[test]
fn messages_arrive_whole_and_in_order() {
    model(|| {
        let shared = Shared::new(2);
        let consumer = thread::spawn({
            let shared = Arc::clone(&shared);
            move || (0..2).filter_map(|_| shared.get(2)).collect::<Vec<_>>()
        });
        let put: Vec<_> = (10..13).filter(|number| shared.put(1, *number)).collect();
        let mut got = consumer.join().unwrap();
        got.extend(shared.get_all(2));
        assert_eq!(got, put);
        assert_eq!(shared.ring.len(), 0);
    });
}

/// Two producers and a consumer; each message once.
#[test]
fn nothing_is_lost_or_doubled_between_producers() {
    model(|| {
        let shared = Shared::new(3);
        let producer = |slot| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || assert!(shared.put(slot, u64::from(slot))))
        };
        let producers = [1, 2].map(producer);
        let mut got: Vec<_> = shared.get(3).into_iter().collect();
        producers.into_iter().for_each(|thread| thread.join().unwrap());
        got.extend(shared.get_all(3));
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
        assert_eq!(shared.ring.len(), 0);
    });
}

/// Two consumers; each message once, and each segment given back once.
#[test]
fn nothing_is_lost_or_doubled_between_consumers() {
    model(|| {
        let shared = Shared::new(2);
        let consumer = |slot| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.get(slot))
        };
        let consumers = [1, 2].map(consumer);
        assert!(shared.put(3, 10) && shared.put(3, 11));
        let mut got: Vec<_> = consumers.into_iter().filter_map(|thread| thread.join().unwrap()).collect();
        got.extend(shared.get_all(3));
        got.sort_unstable();
        assert_eq!(got, [10, 11]);
        // The last one taken keeps its segment until the next one is.
        assert!(shared.put(3, 12) && !shared.put(3, 13));
    });
}

/// Whoever looks in between sees what was there at some moment.
#[test]
fn a_length_is_never_more_than_was_put() {
    model(|| {
        let shared = Shared::new(1);
        let act = |act: fn(&Shared)| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || act(&shared))
        };
        let observer = act(|shared| assert!(shared.ring.len() <= 1));
        let consumer = act(|shared| drop(shared.get(2)));
        assert!(shared.put(1, 10));
        for thread in [observer, consumer] {
            thread.join().unwrap();
        }
    });
}
