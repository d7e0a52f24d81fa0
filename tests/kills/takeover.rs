//! An end of a queue is taken over from a dead process by one that is killed too, at every point: the next one repairs what
//! both have left.

use procession::prelude::*;
use procession_ipc::usage;

use crate::points::{Scene, kill_after, kill_after_each_change, kill_everywhere};
use crate::queue::{Case, FIFTH, LARGE, Queued, SMALL, options, words};
use crate::support::{Chance, amount, eventually, isolated_with};

/// Two processes, one behind the other, on one end of a queue.
struct Twice {
    queued: Queued,
    /// After how many changes of shared memory the first one is killed.
    changes: u64,
    /// What the second one puts, or that it gets.
    second: Option<usize>,
    processes: usize,
}

impl Twice {
    fn new(case: Case, second: Option<usize>, words: u64, changes: u64) -> Self {
        let queued = Queued::new(case, words);
        Self { queued, changes, second, processes: usage().unwrap().processes }
    }

    /// The first one acts, and is killed. How many changes it has made, and whether it was done; `None`: as for
    /// [`kill_after`].
    fn begin(&mut self) -> Option<u64> {
        self.queued.prepare();
        let first = self.queued.start_act(self.queued.case.act);
        let killed = kill_after(first, self.words(), self.changes);
        // Its lock is marked by then.
        eventually("it was swept for", || usage().unwrap().processes == self.processes);
        self.queued.killed(self.queued.case.act, killed.is_some_and(|(_, is_done)| is_done));
        killed.map(|(changes, _)| changes)
    }
}

impl Scene for Twice {
    fn words(&self) -> u64 {
        self.queued.words()
    }

    fn start(&mut self) -> (Process<()>, Connection) {
        self.begin();
        self.queued.start_act(self.second)
    }

    fn check(&mut self, is_done: bool) {
        self.queued.killed(self.second, is_done);
        self.queued.go_on();
    }
}

fn kill_both(case: Case, second: Option<usize>) {
    let words = words();
    let mut whole = Twice::new(case, second, words, u64::MAX);
    let Some(changes) = whole.begin() else { return };
    whole.queued.go_on();
    let scene = |first| {
        let name = format!("{} after change {first} of {changes}", case.name);
        (name, Twice::new(case, second, words, first))
    };
    // The long form has all pairs of changes, and the instructions of the second one for one change of the first.
    for first in 0..amount(0, changes) {
        let (name, mut scene) = scene(first + 1);
        kill_after_each_change(&name, &mut scene);
    }
    let (name, mut scene) = scene(1 + Chance::new().below(changes));
    kill_everywhere(&name, &mut scene);
}

#[test]
fn a_process_is_killed_anywhere_in_repairing_a_first_put() {
    isolated_with(options(), || kill_both(Case::FIRST_PUT, Some(SMALL)));
}

#[test]
fn a_process_is_killed_anywhere_in_repairing_a_put_at_the_end_of_a_segment() {
    let case = Case::put("put at the end of a segment", &[FIFTH; 4], SMALL);
    isolated_with(options(), || kill_both(case, Some(SMALL)));
}

#[test]
fn a_process_is_killed_anywhere_in_repairing_a_large_put() {
    let case = Case::put("put of 600 KiB", &[SMALL], LARGE);
    isolated_with(options(), || kill_both(case, Some(SMALL)));
}

#[test]
fn a_process_is_killed_anywhere_in_repairing_a_get_at_the_end_of_a_segment() {
    let case = Case::get("get at the end of a segment", &[FIFTH, FIFTH, FIFTH, FIFTH, SMALL, SMALL], 4);
    isolated_with(options(), || kill_both(case, None));
}

#[test]
fn a_process_is_killed_anywhere_in_repairing_a_large_get() {
    let case = Case::get("get of 600 KiB", &[LARGE, SMALL, SMALL], 0);
    isolated_with(options(), || kill_both(case, None));
}
