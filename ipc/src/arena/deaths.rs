//! Objects whose holders are killed at every point: none ends while somebody has a handle or one is on its way, and each ends
//! with its last handle, unless a message was lost with the dead.
//!
//! A death is an unwinding out of the point at which it happens; then others sweep, and they may be killed as well.

use super::cell::{Cell, Cells, Header, Kind, Mark, Place};
use crate::liveness::ProcessId;
use crate::shm::Region;
use crate::sys::memory::{Map, sparse_memory};
use proptest::prelude::*;
use std::cell::Cell as Local;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Processes that hold things, and the one that only sweeps.
const PROCESSES: usize = 3;
const SWEEPER: u32 = 9;
const CELLS: usize = 8;

thread_local! {
    /// After how many points the process dies; 0: not.
    static FUSE: Local<u32> = const { Local::new(0) };
}

/// What unwinds.
struct Killed;

/// A point at which a process may be killed.
pub(super) fn may_die() {
    match FUSE.get() {
        0 => {}
        1 => {
            FUSE.set(0);
            resume_unwind(Box::new(Killed));
        }
        left => FUSE.set(left - 1),
    }
}

/// Runs `body` as a process that is killed after so many points. `None`: it was.
pub(super) fn mortal<R>(fuse: u32, body: impl FnOnce() -> R) -> Option<R> {
    FUSE.set(fuse);
    let done = catch_unwind(AssertUnwindSafe(body));
    FUSE.set(0);
    match done {
        Ok(result) => Some(result),
        Err(end) => {
            assert!(end.is::<Killed>(), "a panic");
            None
        }
    }
}

/// Cells of their own.
pub(super) fn cells() -> (Cells, Region) {
    let region = Region::new(Map::new(sparse_memory(64 << 10).unwrap().as_fd()).unwrap());
    let words = region.views(8 << 10, CELLS * super::cell::HOLDER_WORDS).unwrap();
    let header = region.view::<Header>(0).unwrap();
    (Cells::new(header, region.views::<Cell>(1024, CELLS).unwrap(), words), region)
}

/// What a process does, with the objects and messages of these numbers, taken modulo how many there are.
#[derive(Debug, Clone)]
enum Act {
    Make,
    /// Encodes a handle into a message that is decoded once.
    Send(usize),
    /// Gives a message up that was not sent.
    TakeBack(usize),
    /// Decodes a message.
    Receive(usize),
    /// Encodes a handle for somebody who decodes it while this process has its own.
    Lend(usize, usize),
    /// Starts a process with a handle.
    Start(usize, usize),
    Drop(usize),
}

#[derive(Debug, Clone)]
struct Step {
    process: usize,
    act: Act,
    /// Of the process, and of those that sweep for it.
    fuses: [u32; 3],
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = || 0_usize..CELLS;
    let act = prop_oneof![
        Just(Act::Make),
        which().prop_map(Act::Send),
        which().prop_map(Act::Receive),
        which().prop_map(Act::Receive),
        which().prop_map(Act::TakeBack),
        (which(), 0..PROCESSES).prop_map(|(which, to)| Act::Lend(which, to)),
        (which(), 0..PROCESSES).prop_map(|(which, to)| Act::Start(which, to)),
        which().prop_map(Act::Drop),
        which().prop_map(Act::Drop),
    ];
    let fuses = [0_u32..12, 0_u32..60, 0_u32..60];
    let step = (0..PROCESSES, act, fuses).prop_map(|(process, act, fuses)| Step { process, act, fuses });
    prop::collection::vec(step, 1..60)
}

/// What should be there.
struct World {
    cells: Cells,
    generations: [u32; PROCESSES],
    /// What each process has handles of.
    held: [BTreeMap<u32, Place>; PROCESSES],
    /// Handles on their way.
    messages: Vec<Place>,
    /// Objects with a pin that nobody will take off.
    lost: Vec<Place>,
    /// All that were ever made.
    made: Vec<Place>,
    deaths: u32,
}

impl World {
    fn new() -> Self {
        let (cells, _region) = cells();
        let held = [const { BTreeMap::new() }; PROCESSES];
        let (messages, lost, made) = (Vec::new(), Vec::new(), Vec::new());
        Self { cells, generations: [1; PROCESSES], held, messages, lost, made, deaths: 0 }
    }

    fn id(&self, process: usize) -> ProcessId {
        ProcessId::new(process as u32 + 1, self.generations[process]).unwrap()
    }

    fn held(&self, process: usize, which: usize) -> Option<Place> {
        let held = &self.held[process];
        held.values().nth(which.checked_rem(held.len())?).copied()
    }

    /// Takes a message out.
    fn message(&mut self, which: usize) -> Option<Place> {
        let which = which.checked_rem(self.messages.len())?;
        Some(self.messages.swap_remove(which))
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        let (process, own, cells) = (step.process, self.id(step.process), self.cells);
        let fuse = step.fuses[0];
        let end = |ended: Option<_>| ended.into_iter().for_each(|clearing| cells.free(clearing));
        let survives = match step.act {
            Act::Make => {
                let made = mortal(fuse, || cells.make(Kind::Lock, own));
                if let Some(place) = made.flatten() {
                    self.made.push(place);
                    self.held[process].insert(place.index, place);
                }
                made.is_some()
            }
            Act::Send(which) => {
                let Some(place) = self.held(process, which) else { return Ok(()) };
                let sent = mortal(fuse, || assert!(cells.pin(place, own)));
                let lost_or_sent = if sent.is_some() { &mut self.messages } else { &mut self.lost };
                lost_or_sent.push(place);
                sent.is_some()
            }
            Act::TakeBack(which) => {
                let Some(place) = self.message(which) else { return Ok(()) };
                let taken = mortal(fuse, || {
                    cells.unpin(place);
                    end(cells.examine(place.index, own));
                });
                if taken.is_none() {
                    self.lost.push(place);
                }
                taken.is_some()
            }
            Act::Receive(which) => {
                let Some(place) = self.message(which) else { return Ok(()) };
                self.receive(process, place, fuse)?
            }
            Act::Lend(which, to) => return self.lend(process, which, to, fuse, &step.fuses[1..]),
            Act::Start(which, to) => return self.start(process, which, to, fuse, &step.fuses[1..]),
            Act::Drop(which) => {
                let Some(place) = self.held(process, which) else { return Ok(()) };
                let dropped = mortal(fuse, || end(cells.leave(place.index, own)));
                self.held[process].remove(&place.index);
                dropped.is_some()
            }
        };
        if !survives {
            self.bury(process, &step.fuses[1..])?;
        }
        self.check()
    }

    /// Whether the receiver survives.
    fn receive(&mut self, process: usize, place: Place, fuse: u32) -> Result<bool, String> {
        match mortal(fuse, || self.cells.adopt(place, self.id(process), true)) {
            Some(true) => drop(self.held[process].insert(place.index, place)),
            Some(false) => return Err(format!("{place:?} is gone, and a message was on its way")),
            None => {
                self.lost.push(place);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The lender is killed, or else the one who takes it.
    fn lend(
        &mut self,
        process: usize,
        which: usize,
        to: usize,
        fuse: u32,
        fuses: &[u32],
    ) -> Result<(), String> {
        let Some(place) = self.held(process, which) else { return Ok(()) };
        let (own, other) = (self.id(process), self.id(to));
        if mortal(fuse, || assert!(self.cells.share(place, own))).is_none() {
            self.bury(process, fuses)?;
            return self.check();
        }
        match mortal(fuse, || self.cells.adopt(place, other, false)) {
            Some(true) => drop(self.held[to].insert(place.index, place)),
            Some(false) => return Err(format!("{place:?} is gone, and it was lent")),
            None => self.bury(to, fuses)?,
        }
        self.check()
    }

    /// The slot of who is started is in the name of who starts it until the bit is set. Then it is the other's own, who may be
    /// killed before it knows of it, or as it takes it.
    fn start(
        &mut self,
        process: usize,
        which: usize,
        to: usize,
        fuse: u32,
        fuses: &[u32],
    ) -> Result<(), String> {
        let Some(place) = self.held(process, which).filter(|_| self.held[to].is_empty()) else {
            return Ok(());
        };
        let (own, child) = (self.id(process), self.id(to));
        let give = || assert!(self.cells.share(place, own) && self.cells.adopt(place, child, false));
        if mortal(fuse, give).is_none() {
            self.bury(process, fuses)?;
            self.bury(to, fuses)?;
            return self.check();
        }
        self.held[to].insert(place.index, place);
        self.check()?;
        if mortal(fuse / 2, || assert!(self.cells.adopt(place, child, false))).is_none() {
            self.bury(to, fuses)?;
        }
        self.check()
    }

    /// Sweeps for a process that was killed. All but the last one who sweeps may be killed too.
    fn bury(&mut self, process: usize, fuses: &[u32]) -> Result<(), String> {
        let (cells, gone) = (self.cells, self.id(process));
        let sweep = |own: ProcessId| {
            for index in cells.all() {
                let ended = cells.sweep(index, gone, own, || true);
                ended.into_iter().for_each(|clearing| cells.free(clearing));
            }
        };
        self.deaths += 1;
        self.held[process].clear();
        let mut left = Vec::new();
        for (number, fuse) in (SWEEPER..).zip(fuses) {
            let sweeper = ProcessId::new(number, 1).unwrap();
            if mortal(*fuse, || sweep(sweeper)).is_none() {
                left.push(sweeper);
            }
        }
        sweep(ProcessId::new(SWEEPER + 7, 1).unwrap());
        // Those that were killed as they swept are gone too.
        for gone in left {
            let own = ProcessId::new(SWEEPER + 7, 1).unwrap();
            for index in cells.all() {
                let ended = cells.sweep(index, gone, own, || true);
                ended.into_iter().for_each(|clearing| cells.free(clearing));
            }
        }
        self.generations[process] += 1;
        Ok(())
    }

    /// Nothing has ended too early, and nothing is left of what should have ended.
    fn check(&self) -> Result<(), String> {
        let needed: BTreeSet<_> = self.held.iter().flat_map(BTreeMap::values).chain(&self.messages).collect();
        for place in &self.made {
            let is_there = self.cells.cell(place.index).unwrap().has(Mark::new(place.generation, place.kind));
            match is_there {
                false if needed.contains(place) => return Err(format!("{place:?} has ended too early")),
                true if !needed.contains(place) && !self.lost.contains(place) => {
                    return Err(format!("{place:?} has no handle and has not ended"));
                }
                _ => {}
            }
        }
        let left = self.cells.all().filter(|index| self.cells.kind_of(*index).is_some()).count();
        let known = needed.into_iter().chain(&self.lost).collect::<BTreeSet<_>>().len();
        if left > known { Err(format!("{left} objects, of which {known} are known")) } else { Ok(()) }
    }
}

fn run(steps: &[Step]) -> Result<u32, String> {
    let mut world = World::new();
    for step in steps {
        world.step(step).map_err(|error| format!("{error}, after {step:?}"))?;
    }
    Ok(world.deaths)
}

proptest! {
    #[test]
    fn holders_are_killed_at_any_point(steps in steps()) {
        prop_assert!(run(&steps).is_ok(), "{:?}", run(&steps));
    }
}

/// Each point of each act, one after the other, and the same for the sweep after it.
#[test]
fn every_point_is_survived() {
    let quiet = |process, act| Step { process, act, fuses: [0; 3] };
    let table = [
        ("make", vec![], Act::Make),
        ("the first send", vec![quiet(0, Act::Make)], Act::Send(0)),
        ("a send", vec![quiet(0, Act::Make), quiet(0, Act::Send(0))], Act::Send(0)),
        ("taking back", vec![quiet(0, Act::Make), quiet(0, Act::Send(0))], Act::TakeBack(0)),
        ("receiving", vec![quiet(1, Act::Make), quiet(1, Act::Send(0))], Act::Receive(0)),
        (
            "receiving the last handle",
            vec![quiet(1, Act::Make), quiet(1, Act::Send(0)), quiet(1, Act::Drop(0))],
            Act::Receive(0),
        ),
        ("lending", vec![quiet(0, Act::Make)], Act::Lend(0, 1)),
        ("starting", vec![quiet(0, Act::Make)], Act::Start(0, 1)),
        (
            "starting with what another one has",
            vec![quiet(0, Act::Make), quiet(0, Act::Lend(0, 2))],
            Act::Start(0, 1),
        ),
        ("dropping what was never sent", vec![quiet(0, Act::Make)], Act::Drop(0)),
        ("dropping one of two", vec![quiet(0, Act::Make), quiet(0, Act::Lend(0, 1))], Act::Drop(0)),
        (
            "dropping the last",
            vec![quiet(0, Act::Make), quiet(0, Act::Lend(0, 1)), quiet(1, Act::Drop(0))],
            Act::Drop(0),
        ),
    ];
    for (name, before, act) in table {
        for fuse in 1.. {
            let mut deaths = 0;
            for sweeper in 0..40 {
                let step = Step { process: 0, act: act.clone(), fuses: [fuse, sweeper, sweeper / 2] };
                let steps: Vec<_> = before.iter().cloned().chain([step]).collect();
                deaths =
                    run(&steps).unwrap_or_else(|error| panic!("{name}, point {fuse}, {sweeper}: {error}"));
            }
            if deaths == 0 {
                assert!(fuse > 1 || name == "make", "{name} has no points");
                break;
            }
        }
    }
}
