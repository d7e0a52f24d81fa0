//! Killing a process at every point of one act.
//!
//! What a death leaves to others is what the words of shared memory say at that moment. So the short form kills after each
//! *change* of them, which is every state that others can find, and at two steps in between. The long form kills after each
//! *instruction*. Where an act has very many, as one that spins has, both kill after every second, third, ...

use procession::{Connection, Process};

use crate::shared::Shared;
use crate::support::{Chance, amount};
use crate::trace::{Stepped, Traced};

/// Most steps for one act, all kills together: it is stepped through from the beginning for each.
const SHORT: u64 = 800_000;
const LONG: u64 = 4_000_000;

/// An act, and what the survivors must find.
pub trait Scene {
    /// Where the words end that say what others see; the bytes of messages lie behind them.
    fn words(&self) -> u64 {
        u64::MAX
    }

    /// Starts the process that will act, with the other end of its line; it runs `between_marks`.
    fn start(&mut self) -> (Process<()>, Connection);

    /// The process is about to act. If it will sleep, somebody else must wake it.
    fn prepared(&mut self, _pid: i32) {}

    /// The process was killed, before the end of the act or behind it. Fails if anything is wrong.
    fn check(&mut self, is_done: bool);
}

/// What every scene is: something to step through, and to look at afterwards.
pub trait Trial {
    /// As for [`Scene::words`].
    fn words(&self) -> u64;

    /// Begins, up to the first step. `None`: processes may not be traced here.
    fn begin(&mut self) -> Option<Traced>;

    /// As for [`Scene::check`].
    fn check(&mut self, is_done: bool);
}

impl<S: Scene> Trial for S {
    fn words(&self) -> u64 {
        Scene::words(self)
    }

    fn begin(&mut self) -> Option<Traced> {
        let (process, line) = self.start();
        Traced::new(process, &line, |pid| self.prepared(pid))
    }

    fn check(&mut self, is_done: bool) {
        Scene::check(self, is_done);
    }
}

/// Where a process is killed: that many steps, or changes of shared memory, into the act.
#[derive(Debug, Clone, Copy)]
enum Point {
    Step(u64),
    Change(u64),
}

/// How far a process has come in its act.
#[derive(Debug, Clone, Copy, Default)]
struct Way {
    steps: u64,
    changes: u64,
    is_done: bool,
}

impl Way {
    fn is_at(self, point: Option<Point>) -> bool {
        match point {
            Some(Point::Step(step)) => self.steps == step,
            Some(Point::Change(change)) => self.changes == change,
            None => false,
        }
    }
}

/// Kills at every point of the act, if processes may be traced here.
pub fn kill_everywhere(name: &str, scene: &mut impl Trial) {
    kill_at(name, scene, LONG);
}

/// Kills after every change of shared memory, also in the long form.
pub fn kill_after_each_change(name: &str, scene: &mut impl Trial) {
    kill_at(name, scene, 0);
}

/// `most`: steps that kills after steps may take in the long form.
fn kill_at(name: &str, scene: &mut impl Trial, most: u64) {
    let Some(Way { steps, changes, .. }) = run(scene, None) else { return };
    let mut chance = Chance::new();
    // Each kill takes half of all steps to come to.
    let mut every = |count: u64, most: u64| {
        let stride = (count * steps / 2).div_ceil(most).max(1);
        (chance.below(stride)..count).step_by(stride as usize).collect::<Vec<_>>()
    };
    let points = every(changes, amount(SHORT, LONG)).into_iter().map(|change| Point::Change(change + 1));
    let between = if most > 0 { every(steps, amount(steps, most)) } else { Vec::new() };
    let points: Vec<_> = points.chain(between.into_iter().map(Point::Step)).collect();
    for &point in &points {
        eprintln!("{name}: {point:?}");
        run(scene, Some(point)).unwrap();
    }
    eprintln!("{name}: {} kills, {steps} steps, {changes} changes of shared memory", points.len());
}

/// Runs the act up to a point, or to its end. `None`: processes may not be traced here.
fn run(scene: &mut impl Trial, until: Option<Point>) -> Option<Way> {
    let traced = scene.begin()?;
    let way = walk(&traced, scene.words(), until);
    traced.kill();
    scene.check(way.is_done);
    Some(way)
}

/// Kills a process, which runs `between_marks`, after so many changes of the words that lie before `words`. How many it has made,
/// and whether it was done; `None`: processes may not be traced here.
pub fn kill_after(act: (Process<()>, Connection), words: u64, changes: u64) -> Option<(u64, bool)> {
    let (traced, way) = stop(act, words, changes)?;
    traced.kill();
    Some((way.changes, way.is_done))
}

/// As [`kill_after`], and leaves it there, inside its act.
pub fn stop_after(act: (Process<()>, Connection), words: u64, changes: u64) -> Option<Traced> {
    let (traced, way) = stop(act, words, changes)?;
    assert!(!way.is_done, "it is done after {} changes", way.changes);
    Some(traced)
}

fn stop((process, line): (Process<()>, Connection), words: u64, changes: u64) -> Option<(Traced, Way)> {
    let traced = Traced::new(process, &line, |_| {})?;
    let way = walk(&traced, words, Some(Point::Change(changes)));
    Some((traced, way))
}

fn walk(traced: &Traced, words: u64, until: Option<Point>) -> Way {
    let mut shared = (!matches!(until, Some(Point::Step(_)))).then(|| Shared::up_to(words));
    let mut way = Way::default();
    while !way.is_at(until) && !way.is_done {
        way.is_done = traced.step() == Stepped::Behind;
        way.steps += 1;
        way.changes += u64::from(shared.as_mut().is_some_and(Shared::has_changed));
    }
    way
}
