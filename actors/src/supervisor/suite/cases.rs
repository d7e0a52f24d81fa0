//! Restart types, strategies, escalation, and restarts that hang.

use super::world::{
    Abnormal, Normal, OneForAll, OneForOne, Permanent, RestForOne, Restarting, Running, Stopped, Temporary,
    Transient, World, flags, worker,
};
use crate::supervisor::spec::{ChildKind, Restart, Rules};
use crate::supervisor::strategy::Refusal;

const AB: [(&str, Restart); 2] = [("a", Permanent), ("b", Permanent)];
const ABC: [(&str, Restart); 3] = [("a", Permanent), ("b", Permanent), ("c", Permanent)];

pub(super) fn permanent() {
    for end in [Normal, Abnormal] {
        let mut world = World::of(OneForOne, &[("a", Permanent)]);
        world.dies("a", end);
        assert_eq!((world.which(), world.counts()), (vec![("a", Running)], [1, 1, 0, 1]), "{end:?}");
    }
}

pub(super) fn transient_normal() {
    let mut world = World::of(OneForOne, &[("a", Transient)]);
    world.dies("a", Normal);
    assert_eq!((world.which(), world.counts()), (vec![("a", Stopped)], [1, 0, 0, 1]));
    world.restart_child("a").unwrap();
    world.dies("a", Normal);
    assert_eq!((world.which(), world.counts()), (vec![("a", Stopped)], [1, 0, 0, 1]));
}

pub(super) fn transient_abnormal() {
    let mut world = World::of(OneForOne, &[("a", Transient)]);
    world.dies("a", Abnormal);
    assert_eq!((world.which(), world.counts()), (vec![("a", Running)], [1, 1, 0, 1]));
}

pub(super) fn temporary() {
    for end in [Normal, Abnormal] {
        let mut world = World::of(OneForOne, &[("a", Temporary)]);
        world.dies("a", end);
        assert_eq!((world.which(), world.counts()), (vec![], [0; 4]), "{end:?}");
        world.start_child("a", worker(Temporary)).unwrap();
        world.dies("a", end);
        assert_eq!((world.which(), world.counts()), (vec![], [0; 4]), "{end:?}");
    }
}

pub(super) fn temporary_children_are_forgotten() {
    for strategy in [OneForOne, OneForAll, RestForOne] {
        for end in [Normal, Abnormal] {
            let mut world = World::of(strategy, &[("a", Permanent), ("b", Transient), ("c", Temporary)]);
            world.dies("c", end);
            assert!(world.roster.get("c").is_none() && world.roster.get("b").is_some());
        }
    }
}

pub(super) fn which_specs_are_kept() {
    for strategy in [OneForOne, OneForAll, RestForOne] {
        for (restart, end, kept) in [
            (Permanent, Normal, Err(Refusal::Is(Running))),
            (Permanent, Abnormal, Err(Refusal::Is(Running))),
            (Transient, Normal, Err(Refusal::Is(Stopped))),
            (Transient, Abnormal, Err(Refusal::Is(Running))),
            (Temporary, Normal, Ok(())),
            (Temporary, Abnormal, Ok(())),
        ] {
            let mut world = World::of(strategy, &[]);
            world.start_child("a", worker(restart)).unwrap();
            world.dies("a", end);
            assert_eq!(world.start_child("a", worker(restart)), kept, "{strategy:?} {restart:?} {end:?}");
        }
        for (restart, kept) in [
            (Permanent, Err(Refusal::Is(Stopped))),
            (Transient, Err(Refusal::Is(Stopped))),
            (Temporary, Ok(())),
        ] {
            let mut world = World::of(strategy, &[]);
            world.start_child("a", worker(restart)).unwrap();
            world.terminate_child("a").unwrap();
            assert_eq!(world.start_child("a", worker(restart)), kept, "{strategy:?} {restart:?} terminated");
        }
    }
}

pub(super) fn temporary_bystander() {
    for strategy in [OneForAll, RestForOne] {
        let mut world = World::of(strategy, &[("a", Permanent), ("b", Temporary)]);
        world.log();
        world.dies("a", Normal);
        assert_eq!((world.log().as_str(), world.which()), ("-b +a", vec![("a", Running)]), "{strategy:?}");
    }
}

pub(super) fn multiple_restarts() {
    let mut world = World::with(flags(OneForOne, 1, 1), &[("a", Permanent)]);
    for _ in 0..4 {
        world.dies("a", Abnormal);
        world.pass(2);
    }
    assert_eq!((world.which(), &world.ending), (vec![("a", Running)], &None));
}

pub(super) fn one_for_one() {
    let mut world = World::of(OneForOne, &AB);
    world.log();
    world.dies("a", Abnormal);
    assert_eq!((world.log().as_str(), world.counts()), ("+a", [2, 2, 0, 2]));
    world.dies("b", Abnormal);
    assert_eq!(world.log(), "+b");
    world.dies("b", Abnormal);
    assert_eq!(world.log(), "-a", "the third restart is one too many");
    assert!(world.gave_up_at("b"));
}

pub(super) fn dynamic_one_for_one() {
    let mut world = World::of(OneForOne, &[]);
    for id in ["a", "b"] {
        world.start_child(id, worker(Permanent)).unwrap();
    }
    world.log();
    for (id, log) in [("a", "+a"), ("b", "+b"), ("a", "-b")] {
        world.dies(id, Abnormal);
        assert_eq!(world.log(), log);
    }
    assert!(world.gave_up_at("a"));
}

/// A child that can never be started again: each try counts.
pub(super) fn one_for_one_escalation() {
    let mut world = World::with(flags(OneForOne, 4, 3600), &AB);
    world.broken.insert("a");
    world.log();
    world.dies("a", Abnormal);
    while world.turn() {}
    assert_eq!(world.log(), "!a !a !a !a -b");
    assert!(world.gave_up_at("a"));
}

pub(super) fn one_for_all() {
    let mut world = World::of(OneForAll, &AB);
    world.log();
    world.dies("a", Abnormal);
    assert_eq!((world.log().as_str(), world.counts()), ("-b +a +b", [2, 2, 0, 2]));
    world.dies("b", Abnormal);
    assert_eq!(world.log(), "-a +a +b");
    world.dies("b", Abnormal);
    assert_eq!(world.log(), "-a");
    assert!(world.gave_up_at("b"));
}

pub(super) fn one_for_all_escalation() {
    let mut world = World::with(flags(OneForAll, 4, 3600), &AB);
    world.broken.insert("b");
    world.log();
    world.dies("a", Abnormal);
    while world.turn() {}
    assert_eq!(world.log(), "-b +a !b -a +a !b -a +a !b -a +a !b -a");
    assert!(world.gave_up_at("b"));
}

pub(super) fn one_for_all_other_child_fails_restart() {
    let mut world = World::with(flags(OneForAll, 3, 3600), &AB);
    world.broken.insert("b");
    world.log();
    world.dies("a", Abnormal);
    assert_eq!(world.which(), [("a", Running), ("b", Restarting)]);
    world.broken.clear();
    world.turn();
    assert_eq!(world.log(), "-b +a !b -a +a +b", "the one that was restarted already is stopped again");
}

pub(super) fn rest_for_one() {
    let mut world = World::of(RestForOne, &ABC);
    world.log();
    world.dies("b", Abnormal);
    assert_eq!((world.log().as_str(), world.counts()), ("-c +b +c", [3, 3, 0, 3]));
    world.dies("c", Abnormal);
    assert_eq!(world.log(), "+c");
    world.dies("b", Abnormal);
    assert_eq!(world.log(), "-c -a");
    assert!(world.gave_up_at("b"));
}

pub(super) fn rest_for_one_escalation() {
    let mut world = World::with(flags(RestForOne, 4, 3600), &AB);
    world.broken.insert("b");
    world.log();
    world.dies("a", Abnormal);
    while world.turn() {}
    assert_eq!(world.log(), "-b +a !b !b !b !b -a");
    assert!(world.gave_up_at("b"));
}

pub(super) fn rest_for_one_other_child_fails_restart() {
    let mut world = World::with(flags(RestForOne, 3, 3600), &AB);
    world.broken.insert("b");
    world.log();
    world.dies("a", Abnormal);
    world.broken.clear();
    world.turn();
    assert_eq!(world.log(), "-b +a !b +b", "the one before it is left alone");
}

/// The part of a tree that one supervisor sees: the others are its children.
pub(super) fn tree() {
    let supervisor = Rules::new(ChildKind::Supervisor);
    let transient = Rules { restart: Transient, ..supervisor };
    let mut world = World::with(flags(OneForAll, 4, 3600), &[]);
    for (id, rules) in [("x", supervisor), ("y", supervisor), ("z", transient)] {
        world.start_child(id, rules).unwrap();
    }
    world.terminate_child("z").unwrap();
    assert_eq!(world.counts(), [3, 2, 3, 0]);
    world.log();
    world.dies("y", Abnormal);
    assert_eq!(world.log(), "-x +x +y +z", "all are restarted, also the one that was terminated");
    assert_eq!(world.counts(), [3, 3, 3, 0]);
}

/// A supervisor with one child which is a supervisor with one child: each sees only its own.
pub(super) fn worker_below_a_worker() {
    for end in [Normal, Abnormal] {
        let mut world = World::with(flags(OneForAll, 3, 60), &[("child", Permanent)]);
        world.dies("child", end);
        assert_eq!(world.which(), [("child", Running)]);
        world.terminate_child("child").unwrap();
        assert_eq!(world.restart_child("child"), Ok(true));
    }
}

pub(super) fn count_children() {
    for kind in [ChildKind::Worker, ChildKind::Supervisor] {
        let mut world = World::of(OneForOne, &[]);
        let ids: Vec<&'static str> = (0..300).map(|n| &*n.to_string().leak()).collect();
        for &id in &ids {
            world.start_child(id, Rules { restart: Temporary, ..Rules::new(kind) }).unwrap();
        }
        let expected = if kind == ChildKind::Worker { [300, 300, 0, 300] } else { [300, 300, 300, 0] };
        assert_eq!(world.counts(), expected);
        for id in ids {
            world.dies(id, Abnormal);
        }
        assert_eq!((world.counts(), &world.ending), ([0; 4], &None));
    }
}

pub(super) fn count_restarting_children() {
    let mut world = World::with(flags(OneForOne, 20, 10), &ABC);
    for id in ["a", "b", "c"] {
        world.dies(id, Abnormal);
    }
    assert_eq!(world.counts(), [3, 3, 0, 3]);
    world.broken.extend(["a", "b"]);
    world.dies("a", Abnormal);
    world.dies("b", Abnormal);
    world.turn();
    assert_eq!(world.counts(), [3, 1, 0, 3]);
    world.broken.clear();
    while world.turn() {}
    assert_eq!(world.counts(), [3, 3, 0, 3]);
}

pub(super) fn many_children() {
    let mut world = World::of(OneForOne, &[]);
    let ids: Vec<&'static str> = (0..2000).map(|n| &*n.to_string().leak()).collect();
    for &id in &ids {
        world.start_child(id, worker(Temporary)).unwrap();
    }
    for id in ids {
        world.terminate_child(id).unwrap();
    }
    assert_eq!(world.counts(), [0; 4]);
}

pub(super) fn hanging_restart_loop() {
    let mut world = World::with(flags(OneForOne, 8, 10), &[]);
    world.start_child("a", worker(Permanent)).unwrap();
    world.broken.insert("a");
    world.dies("a", Abnormal);
    world.turn();
    assert_eq!(world.start_child("a", worker(Permanent)), Err(Refusal::Is(Restarting)));
    assert_eq!(world.restart_child("a"), Err(Refusal::Is(Restarting)));
    assert_eq!(world.roster.delete("a"), Err(Refusal::Is(Restarting)));
    assert_eq!((world.which(), world.counts()), (vec![("a", Restarting)], [1, 0, 0, 1]));

    world.terminate_child("a").unwrap();
    assert_eq!(world.which(), [("a", Stopped)]);
    world.broken.clear();
    assert!(world.turn(), "the retry comes, but nobody waits for it any more");
    assert_eq!(world.which(), [("a", Stopped)]);
    assert_eq!(world.restart_child("a"), Ok(true));

    world.broken.insert("a");
    world.dies("a", Abnormal);
    world.turn();
    world.log();
    world.stop();
    assert_eq!(world.log(), "", "a supervisor is stopped in the middle of it");
    assert!(world.ending.is_some());
}

pub(super) fn hanging_restart_loop_rest_for_one() {
    let mut world = World::with(flags(RestForOne, 8, 10), &ABC);
    world.broken.insert("b");
    world.dies("b", Abnormal);
    world.turn();
    assert_eq!(world.start_child("b", worker(Permanent)), Err(Refusal::Is(Restarting)));
    assert_eq!(world.restart_child("b"), Err(Refusal::Is(Restarting)));
    assert_eq!(world.roster.delete("b"), Err(Refusal::Is(Restarting)));
    assert_eq!(world.which(), [("a", Running), ("b", Restarting), ("c", Stopped)]);
    assert_eq!(world.counts(), [3, 1, 0, 3]);

    world.terminate_child("b").unwrap();
    assert_eq!(world.which(), [("a", Running), ("b", Stopped), ("c", Stopped)]);
    world.broken.clear();
    assert_eq!(world.restart_child("b"), Ok(true));
    world.broken.insert("b");
    world.dies("b", Abnormal);
    world.log();
    world.stop();
    assert_eq!(world.log(), "-a");
}

pub(super) fn order_of_children() {
    let ids = ["ch7", "ch3", "ch10", "ch2", "ch5"];
    let mut world = World::of(RestForOne, &ids.map(|id| (id, Permanent)));
    assert_eq!(world.log(), "+ch7 +ch3 +ch10 +ch2 +ch5");
    world.dies("ch10", Abnormal);
    assert_eq!(world.log(), "-ch5 -ch2 +ch10 +ch2 +ch5");
    world.stop();
    assert_eq!(world.log(), "-ch5 -ch2 -ch10 -ch3 -ch7");
}
