//! Large messages: put and got by two processes at the same time, and by one that dies in the middle while another one goes on.
//!
//! Whoever dies is swept for by the same thread, once it has stopped: what orders the two is the end of the process.

use super::{Memory, Shared, Yield, model};
use crate::atomic::{AtomicU32, AtomicU64};
use crate::liveness::ProcessId;
use crate::mailbox::chain::{Chain, free_all};
use crate::mailbox::ring::{Actor, GetError, PutError};
use crate::mailbox::segment::{NoSpace, Owner, Segment, Segments};
use loom::sync::Arc;
use loom::thread;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Numbers in a large message: two segments hold them.
const LENGTH: usize = 4;

/// The memory, seen by a process that dies at the `fuse`th point at which it may.
struct Mortal<'a> {
    memory: &'a Memory,
    fuse: Cell<u32>,
}

/// What unwinds.
struct Killed;

impl Segments for Mortal<'_> {
    fn room(&self) -> u32 {
        self.memory.room()
    }

    fn used(&self) -> u32 {
        self.memory.used()
    }

    fn state(&self, segment: Segment) -> Option<&AtomicU64> {
        self.memory.state(segment)
    }

    fn link(&self, segment: Segment) -> Option<&AtomicU32> {
        self.memory.link(segment)
    }

    fn find_free(&self) -> Option<Segment> {
        self.memory.find_free()
    }

    fn back(&self, segment: Segment, end: u32) -> Result<(), NoSpace> {
        self.memory.back(segment, end)
    }

    fn write(&self, segment: Segment, at: u32, bytes: &[u8]) {
        self.memory.write(segment, at, bytes);
    }

    fn read(&self, segment: Segment, at: u32, into: &mut [u8]) -> Option<()> {
        self.memory.read(segment, at, into)
    }

    fn append(&self, segment: Segment, at: u32, length: u32, out: &mut Vec<u8>) -> Option<()> {
        self.memory.append(segment, at, length, out)
    }

    fn may_die(&self) {
        self.memory.may_die();
        match self.fuse.get() {
            1 => resume_unwind(Box::new(Killed)),
            left => self.fuse.set(left.saturating_sub(1)),
        }
    }
}

/// A process that puts and gets large messages.
struct Process<'a, S> {
    shared: &'a Shared,
    segments: &'a S,
    own: ProcessId,
}

impl<S: Segments> Process<'_, S> {
    fn actor(&self) -> Actor<'_, S, Yield> {
        Actor { queue: 1, own: self.own, segments: self.segments, park: &Yield, deadline: None }
    }

    /// Whether there was memory for it.
    fn put(&self, number: u64) -> bool {
        let bytes = number.to_ne_bytes().repeat(LENGTH);
        let chain = Chain::write(self.segments, self.own, 0, &[&bytes]);
        let put = chain.and_then(|chain| {
            let put = self.shared.ring.put_large(&self.actor(), u32::MAX, &chain);
            put.inspect_err(|_| chain.free(self.segments, self.own))
        });
        match put {
            Ok(()) => true,
            Err(PutError::NoSpace) => false,
            Err(other) => panic!("{other:?}"),
        }
    }

    /// Looks once.
    fn get(&self) -> Option<u64> {
        let mut out = Vec::new();
        match self.shared.ring.get(&self.actor(), &mut [], &mut out) {
            Ok(_) => {
                let number = out.first_chunk().copied().map(u64::from_ne_bytes).unwrap();
                assert_eq!(out, number.to_ne_bytes().repeat(out.len() / size_of::<u64>()), "not whole");
                Some(number)
            }
            Err(GetError::Empty) => None,
            Err(other) => panic!("{other:?}"),
        }
    }
}

impl Shared {
    fn process(&self, slot: u32) -> Process<'_, Memory> {
        Process { shared: self, segments: &self.memory, own: ProcessId::new(slot, 0).unwrap() }
    }

    /// Runs a process until it dies, and sweeps for it. `None`: it did not die.
    fn mortal<T>(&self, slot: u32, fuse: u32, life: impl FnOnce(&Process<'_, Mortal<'_>>) -> T) -> Option<T> {
        let segments = Mortal { memory: &self.memory, fuse: Cell::new(fuse) };
        let process = Process { shared: self, segments: &segments, own: ProcessId::new(slot, 0).unwrap() };
        let done = catch_unwind(AssertUnwindSafe(|| life(&process)));
        let died = done.as_ref().is_err_and(|end| end.is::<Killed>());
        if died {
            free_all(&self.memory, Owner::Process(process.own));
            self.ring.locks().iter().for_each(|lock| lock.abandon(process.own, &Yield));
            return None;
        }
        Some(done.unwrap_or_else(|end| resume_unwind(end)))
    }

    /// What is still there. Each end is repaired by whoever uses it next; then but the last segment of the queue is in use.
    fn drain(&self) -> Vec<u64> {
        let last = self.process(9);
        let got: Vec<_> = std::iter::from_fn(|| last.get()).collect();
        assert!(self.put(9, 99));
        assert_eq!((last.get(), last.get()), (Some(99), None));
        assert_eq!(self.memory.in_use(), 1, "leaked");
        got
    }
}

/// Fails with Relaxed in `change`: then a segment is written while the last one who had it still reads.
#[test]
fn large_messages_arrive_whole_and_their_segments_go_back() {
    model(|| {
        let shared = Shared::new(4);
        let consumer = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let own = shared.process(2);
                (0..2).filter_map(|_| own.get()).collect::<Vec<_>>()
            }
        });
        let own = shared.process(1);
        let put: Vec<_> = (10..12).filter(|number| own.put(*number)).collect();
        let mut got = consumer.join().unwrap();
        got.extend(shared.drain());
        assert_eq!(got, put);
    });
}

/// Runs a model for each point at which the victim may die, until it does not in any order of steps. The model says whether it did.
fn at_each_point(run: impl Fn(u32) -> bool + Send + Sync + Copy + 'static) {
    for fuse in 1.. {
        // Outlives the model, of which it is no part.
        let has_died = std::sync::Arc::new(std::sync::Mutex::new(false));
        let tell = std::sync::Arc::clone(&has_died);
        model(move || *tell.lock().unwrap() |= run(fuse));
        if !*has_died.lock().unwrap() {
            assert!(fuse > 5, "it has but {fuse} points");
            break;
        }
    }
}

/// Another one puts meanwhile, and so takes the end of the queue over. Fails with Relaxed in `change`: then both write a segment;
/// and without `take_back` in the repair.
#[test]
fn a_large_message_whose_putter_dies_is_whole_or_not_there() {
    at_each_point(|fuse| {
        let shared = Shared::new(5);
        let victim = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.mortal(1, fuse, |own| assert!(own.put(10)))
        });
        assert!(shared.put(2, 20));
        let done = victim.join().unwrap();
        let mut got = shared.drain();
        got.sort_unstable();
        assert!(got == [10, 20] || (done.is_none() && got == [20]), "{got:?}");
        done.is_none()
    });
}

/// Another one gets meanwhile. Fails without `take_back` in the repair.
#[test]
fn a_large_message_whose_getter_dies_is_got_once_or_lost_with_it() {
    at_each_point(|fuse| {
        let shared = Shared::new(5);
        assert!(shared.process(3).put(10) && shared.put(3, 11));
        let victim = thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.mortal(1, fuse, |own| own.get())
        });
        let mut got: Vec<_> = shared.process(2).get().into_iter().collect();
        let done = victim.join().unwrap();
        got.extend(done.flatten());
        got.extend(shared.drain());
        got.sort_unstable();
        assert!(got == [10, 11] || (done.is_none() && got.len() == 1), "{got:?}");
        done.is_none()
    });
}
