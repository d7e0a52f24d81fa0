//! Killing a process at every point of one act.
//!
//! What a death leaves to others is what the words of shared memory say at that moment. So the short form kills after each
//! *change* of them, which is every state that others can find, and at some steps in between. The long form kills after each *instruction*;
//! where an act has very many, as one that spins has, after every second, third, ...

use procession::{Connection, Process};

use crate::shared::Shared;
use crate::support::{Chance, amount};
use crate::trace::{Stepped, Traced};

/// Kills at steps in between, in the short form.
const SHORT: u64 = 2;

/// Most steps for one act in the long form, all kills together: it is stepped through from the beginning for each.
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

/// Where a process is killed: that many steps, or changes of shared memory, into the act.
#[derive(Debug, Clone, Copy)]
enum Point {
    Step(u64),
    Change(u64),
}

/// Kills at every point of the act. Whether that was possible.
pub fn kill_everywhere(name: &str, scene: &mut impl Scene) {
    let Some((steps, changes)) = run(scene, None) else { return };
    let mut chance = Chance::new();
    let stride = (steps * steps / 2).div_ceil(LONG).max(1);
    let every_step: Vec<_> = (chance.below(stride)..steps).step_by(stride as usize).collect();
    let some_steps: Vec<_> = (0..SHORT).map(|_| chance.below(steps)).collect();
    let chosen = amount(some_steps, every_step).into_iter().map(Point::Step);
    let points: Vec<_> = (1..=changes).map(Point::Change).chain(chosen).collect();
    for &point in &points {
        eprintln!("{name}: {point:?}");
        run(scene, Some(point)).unwrap();
    }
    eprintln!("{name}: {} kills, {steps} steps, {changes} changes of shared memory", points.len());
}

/// Runs the act up to a point, or to its end, and gives the numbers of steps and changes until then. `None`: processes may
/// not be traced here.
fn run(scene: &mut impl Scene, until: Option<Point>) -> Option<(u64, u64)> {
    let (process, line) = scene.start();
    let traced = Traced::new(process, &line, |pid| scene.prepared(pid))?;
    let mut shared = (!matches!(until, Some(Point::Step(_)))).then(|| Shared::up_to(scene.words()));
    let (mut steps, mut changes) = (0, 0);
    let is_reached = |steps, changes| match until {
        Some(Point::Step(step)) => steps == step,
        Some(Point::Change(change)) => changes == change,
        None => false,
    };
    let mut is_done = false;
    while !is_reached(steps, changes) && !is_done {
        is_done = traced.step() == Stepped::Behind;
        steps += 1;
        changes += u64::from(shared.as_mut().is_some_and(Shared::has_changed));
    }
    traced.kill();
    scene.check(is_done);
    Some((steps, changes))
}
