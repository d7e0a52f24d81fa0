//! The ring, used by processes that are killed at every point: nothing is stuck, corrupt, doubled or leaked, and a killed
//! consumer costs at most the message in its hands.
//!
//! A death is an unwinding out of the point at which it happens. What the process holds stays held; then its locks are marked,
//! as a sweep does it, and the next process goes on.

use super::memory::{Alone, Killed, Memory};
use super::ring::{Actor, GetError, PutError, Ring};
use crate::atomic::Ordering;
use crate::liveness::ProcessId;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

const SEGMENTS: u32 = 8;
const ROOM: u32 = 40;

/// What one process does, and after how many points it is killed; 0: not.
#[derive(Debug, Clone)]
struct Step {
    act: Act,
    fuse: u32,
}

#[derive(Debug, Clone)]
enum Act {
    Put(Vec<u8>),
    Get,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let act = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..32).prop_map(Act::Put),
        prop::collection::vec(any::<u8>(), 0..32).prop_map(Act::Put),
        Just(Act::Get),
    ];
    prop::collection::vec((act, 0_u32..24).prop_map(|(act, fuse)| Step { act, fuse }), 1..80)
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
        let actor = Actor { queue: 3, own, segments: &self.memory, park: &Alone, deadline: None };
        let before = self.ring.len();
        self.memory.fuse.store(step.fuse, Ordering::Relaxed);
        let mut out = Vec::new();
        let done = catch_unwind(AssertUnwindSafe(|| match &step.act {
            Act::Put(payload) => self.ring.put(&actor, u32::MAX, &[payload]).map_err(|e| format!("{e:?}")),
            Act::Get => self.ring.get(&actor, &mut [], &mut out).map(drop).map_err(|e| format!("{e:?}")),
        }));
        self.memory.fuse.store(0, Ordering::Relaxed);
        let has_moved = self.ring.len() != before;
        match done {
            Ok(Ok(())) if !has_moved => return Err("it is done and nothing has changed".to_owned()),
            Ok(Ok(())) => {}
            Ok(Err(error)) if has_moved => return Err(format!("{error}, and yet something has changed")),
            Ok(Err(error)) => return self.assert_expected(&step.act, &error),
            Err(end) => {
                assert!(end.is::<Killed>(), "a panic");
                self.deaths += 1;
                self.generation += 1;
                self.ring.locks().iter().for_each(|lock| lock.abandon(own, &Alone));
            }
        }
        match &step.act {
            _ if !has_moved => {}
            Act::Put(payload) => self.model.push_back(payload.clone()),
            Act::Get => {
                let lost_or_got = self.model.pop_front();
                if !out.is_empty() && lost_or_got.as_ref() != Some(&out) {
                    return Err(format!("got {out:?} in place of {lost_or_got:?}"));
                }
            }
        }
        if self.ring.len() as usize == self.model.len() { Ok(()) } else { Err("wrong length".to_owned()) }
    }

    fn assert_expected(&self, act: &Act, error: &str) -> Result<(), String> {
        let expected = match act {
            Act::Get => error == format!("{:?}", GetError::Empty) && self.model.is_empty(),
            Act::Put(_) => {
                error == format!("{:?}", PutError::NoSpace) && self.memory.in_use() == SEGMENTS as usize
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
            self.step(&Step { act, fuse: 0 })?;
        }
        match (self.ring.len(), self.memory.in_use()) {
            (0, 0 | 1) => Ok(self.deaths),
            (left, used) => Err(format!("{left} messages and {used} segments are left")),
        }
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

/// Each point of each kind of act, one after the other.
#[test]
fn every_point_is_survived() {
    let put = |length: usize| Act::Put(vec![5; length]);
    let table = [
        ("the first put", vec![], put(3)),
        ("a put", vec![put(3)], put(3)),
        ("a put that takes a segment", vec![put(30)], put(20)),
        ("a put that ends a segment", vec![put(3)], put(30)),
        ("the first get", vec![put(3), put(3)], Act::Get),
        ("a get that leaves a segment", vec![put(30), put(30), Act::Get], Act::Get),
        ("the last get", vec![put(30), put(3), Act::Get], Act::Get),
    ];
    for (name, before, act) in table {
        let before: Vec<_> = before.into_iter().map(|act| Step { act, fuse: 0 }).collect();
        for fuse in 1.. {
            let steps: Vec<_> = before.iter().cloned().chain([Step { act: act.clone(), fuse }]).collect();
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
