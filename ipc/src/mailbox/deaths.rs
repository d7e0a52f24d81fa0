//! The ring, used by processes that are killed at every point: nothing is stuck, corrupt, doubled or leaked, and a killed
//! consumer costs at most the message in its hands.
//!
//! A death is an unwinding out of the point at which it happens. What the process holds stays held; then a sweep frees what it
//! had and marks its locks, itself killed in the middle and done again, and the next process goes on.

use super::chain::{Chain, free_all};
use super::memory::{Alone, Killed, Memory};
use super::ring::{Actor, GetError, Got, PutError, Ring};
use super::segment::Owner;
use crate::atomic::Ordering;
use crate::liveness::ProcessId;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

const SEGMENTS: u32 = 12;
const ROOM: u32 = 40;

/// What one process does, after how many points it is killed, and after how many the first one that sweeps for it; 0: not.
#[derive(Debug, Clone)]
struct Step {
    act: Act,
    fuse: u32,
    sweep: u32,
}

impl Step {
    fn new(act: Act) -> Self {
        Self { act, fuse: 0, sweep: 0 }
    }
}

#[derive(Debug, Clone)]
enum Act {
    Put(Vec<u8>),
    /// In segments of its own.
    PutLarge(Vec<u8>),
    Get,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let act = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..32).prop_map(Act::Put),
        prop::collection::vec(any::<u8>(), 0..32).prop_map(Act::Put),
        prop::collection::vec(any::<u8>(), 0..100).prop_map(Act::PutLarge),
        Just(Act::Get),
        Just(Act::Get),
    ];
    let step = (act, 0_u32..24, 0_u32..5).prop_map(|(act, fuse, sweep)| Step { act, fuse, sweep });
    prop::collection::vec(step, 1..80)
}

/// How much of a message is its manifest.
fn manifest(message: &[u8]) -> usize {
    message.len() / 3
}

/// A queue, what should be in it, and who uses it now.
struct Run<const JOURNALS: bool> {
    ring: Ring,
    memory: Memory<JOURNALS>,
    model: VecDeque<Vec<u8>>,
    generation: u32,
    deaths: u32,
}

impl<const JOURNALS: bool> Run<JOURNALS> {
    fn new() -> Self {
        let memory = Memory::new(SEGMENTS, ROOM);
        Self { ring: Ring::new(), memory, model: VecDeque::new(), generation: 1, deaths: 0 }
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        let own = ProcessId::new(1, self.generation).unwrap();
        let before = self.ring.len();
        let mut out = Vec::new();
        let done = self.until_killed(step.fuse, |run| run.act(own, &step.act, &mut out));
        let has_moved = self.ring.len() != before;
        match done {
            Some(Ok(())) if !has_moved => return Err("it is done and nothing has changed".to_owned()),
            Some(Err(error)) if has_moved => return Err(format!("{error}, and yet something has changed")),
            Some(Err(error)) => return self.assert_expected(&step.act, &error),
            Some(Ok(())) => {}
            None => {
                self.deaths += 1;
                self.generation += 1;
                let sweep = |run: &Self| free_all(&run.memory, Owner::Process(own));
                self.until_killed(step.sweep, sweep);
                sweep(self);
                self.ring.locks().iter().for_each(|lock| lock.abandon(own, &Alone));
            }
        }
        match &step.act {
            _ if !has_moved => {}
            Act::Put(payload) | Act::PutLarge(payload) => self.model.push_back(payload.clone()),
            Act::Get => {
                let lost_or_got = self.model.pop_front();
                if done.is_some() && lost_or_got.as_ref() != Some(&out) {
                    return Err(format!("got {out:?} in place of {lost_or_got:?}"));
                }
            }
        }
        if self.ring.len() as usize == self.model.len() { Ok(()) } else { Err("wrong length".to_owned()) }
    }

    /// `None`: killed.
    fn until_killed<T>(&self, fuse: u32, act: impl FnOnce(&Self) -> T) -> Option<T> {
        self.memory.fuse.store(fuse, Ordering::Relaxed);
        let done = catch_unwind(AssertUnwindSafe(|| act(self)));
        self.memory.fuse.store(0, Ordering::Relaxed);
        done.inspect_err(|end| assert!(end.is::<Killed>(), "a panic")).ok()
    }

    fn act(&self, own: ProcessId, act: &Act, out: &mut Vec<u8>) -> Result<(), String> {
        let actor = Actor { queue: 3, own, segments: &self.memory, park: &Alone, deadline: None };
        let done = match act {
            Act::Put(payload) => self.ring.put(&actor, u32::MAX, manifest(payload), &[payload]),
            Act::PutLarge(payload) => Chain::write(&self.memory, own, manifest(payload), &[payload])
                .and_then(|chain| {
                    let put = self.ring.put_large(&actor, u32::MAX, &chain);
                    put.inspect_err(|_| chain.free(&self.memory, own))
                }),
            Act::Get => {
                let got = self.ring.get(&actor, &mut [], out).map_err(|error| format!("{error:?}"))?;
                assert_eq!(got, Got { length: out.len(), manifest: manifest(out) });
                return Ok(());
            }
        };
        done.map_err(|error| format!("{error:?}"))
    }

    fn assert_expected(&self, act: &Act, error: &str) -> Result<(), String> {
        let no_space = format!("{:?}", PutError::NoSpace);
        let free = SEGMENTS as usize - self.memory.in_use();
        let expected = match act {
            Act::Get => error == format!("{:?}", GetError::Empty) && self.model.is_empty(),
            Act::Put(_) => error == no_space && free == 0,
            Act::PutLarge(payload) => {
                error == no_space && free <= payload.len().div_ceil(ROOM as usize).max(1)
            }
        };
        if expected { Ok(()) } else { Err(error.to_owned()) }
    }

    /// Takes out what is there, and looks what is left.
    fn end(mut self) -> Result<u32, String> {
        let last = Act::Put(b"last".to_vec());
        // A full arena takes the last one after the first was taken out; both sides repair.
        let acts = self.model.iter().map(|_| Act::Get).collect::<Vec<_>>();
        for act in acts.into_iter().chain([last, Act::Get]) {
            self.step(&Step::new(act))?;
        }
        match (self.ring.len(), self.memory.in_use()) {
            (0, 0 | 1) => Ok(self.deaths),
            (left, used) => Err(format!("{left} messages and {used} segments are left")),
        }
    }
}

impl Run<true> {
    /// The queue ends, and so do those who clear it, after so many points; the last one does not. Nothing was repaired before.
    fn clear(self, fuses: &[u32]) -> Result<(), String> {
        let (own, queue) = (ProcessId::new(2, 1).unwrap(), 3);
        let actor = Actor { queue, own, segments: &self.memory, park: &Alone, deadline: None };
        let (mut given, mut deaths) = (Vec::new(), 0);
        for fuse in fuses.iter().copied().chain([0]) {
            let cleared = self.until_killed(fuse, |run| {
                given.extend(std::iter::from_fn(|| run.ring.give_up(&actor)));
                free_all(&run.memory, Owner::Queue(queue));
                run.ring.clear();
            });
            deaths += usize::from(cleared.is_none());
        }
        let expected = self.model.iter().map(|message| &message[..manifest(message)]);
        let mut expected: VecDeque<_> = expected.filter(|manifest| !manifest.is_empty()).collect();
        let most = expected.len();
        for manifest in &given {
            // In their order, with gaps.
            while expected.pop_front().ok_or("it was given before, or was never put")? != manifest {}
        }
        if given.len() + deaths < most {
            return Err(format!("{} of {most} were given, {deaths} deaths", given.len()));
        }
        if self.memory.in_use() > 0 { Err("segments are left".to_owned()) } else { Ok(()) }
    }
}

fn run<const JOURNALS: bool>(steps: &[Step]) -> Result<u32, String> {
    let mut run = Run::<JOURNALS>::new();
    for step in steps {
        run.step(step).map_err(|error| format!("{error} at {step:?}"))?;
    }
    run.end()
}

proptest! {
    #[test]
    fn processes_are_killed_at_any_point(steps in steps()) {
        prop_assert!(run::<true>(&steps).is_ok(), "{:?}", run::<true>(&steps));
    }
}

fn run_and_clear(steps: &[Step], fuses: &[u32]) -> Result<(), String> {
    let mut run = Run::new();
    for step in steps {
        run.step(step).map_err(|error| format!("{error} at {step:?}"))?;
    }
    run.clear(fuses)
}

proptest! {
    /// Whatever those who used it were killed in.
    #[test]
    fn what_is_left_in_a_queue_that_ends_is_given_up_once(
        steps in steps(),
        fuses in prop::collection::vec(1_u32..40, 0..4),
    ) {
        prop_assert!(run_and_clear(&steps, &fuses).is_ok(), "{:?}", run_and_clear(&steps, &fuses));
    }
}

/// Each point of each kind of act, one after the other.
#[test]
fn every_point_is_survived() {
    let put = |length: usize| Act::Put(vec![5; length]);
    let large = |length: usize| Act::PutLarge(vec![7; length]);
    let table = [
        ("the first put", vec![], put(3)),
        ("a put", vec![put(3)], put(3)),
        ("a put that takes a segment", vec![put(30)], put(20)),
        ("a put that ends a segment", vec![put(3)], put(30)),
        ("the first get", vec![put(3), put(3)], Act::Get),
        ("a get that leaves a segment", vec![put(30), put(30), Act::Get], Act::Get),
        ("the last get", vec![put(30), put(3), Act::Get], Act::Get),
        ("a large put", vec![put(3)], large(100)),
        ("a large put that takes a segment", vec![put(30)], large(60)),
        ("a large get", vec![put(3), large(100), put(3), Act::Get], Act::Get),
        ("a large get that leaves a segment", vec![put(30), large(60), Act::Get], Act::Get),
    ];
    for (name, before, act) in table {
        let before: Vec<_> = before.into_iter().map(Step::new).collect();
        for fuse in 1.. {
            let last = Step { act: act.clone(), fuse, sweep: fuse % 4 };
            let steps: Vec<_> = before.iter().cloned().chain([last]).collect();
            let deaths = run::<true>(&steps).unwrap_or_else(|error| panic!("{name}, point {fuse}: {error}"));
            if deaths == 0 {
                assert!(fuse > 4, "{name} has but {fuse} points");
                break;
            }
        }
    }
}

/// The checker is worth something: without journals it finds what leaks.
#[test]
fn without_journals_segments_leak() {
    let mut runner = TestRunner::deterministic();
    let has_failed = (0..256).any(|_| {
        let steps = steps().new_tree(&mut runner).unwrap().current();
        run::<false>(&steps).is_err()
    });
    assert!(has_failed);
}
