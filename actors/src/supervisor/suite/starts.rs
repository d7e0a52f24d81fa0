//! Starting and stopping a supervisor, its flags and specs, and the requests.

use super::world::{
    Abnormal, Normal, OneForOne, Permanent, Restarting, Running, Stopped, Temporary, Transient, World, flags,
    worker,
};
use crate::Error;
use crate::supervisor::spec::{AutoShutdown, ChildKind, Flags, Restart, Rules, Shutdown, Strategy};
use crate::supervisor::strategy::{Ending, Refusal};
use std::time::Duration;

pub(super) fn normal() {
    let mut world = World::of(OneForOne, &[]);
    assert_eq!((world.counts(), &world.ending), ([0; 4], &None));
    world.stop();
    assert_eq!(world.ending, Some(Ending::Stopped));
}

pub(super) fn fail() {
    let children = ["a", "b", "c"].map(|id| (id, worker(Permanent)));
    let mut world = World::made(flags(OneForOne, 9, 9), &children, ["c"]);
    assert_eq!(world.log(), "+a +b !c -b -a");
    assert_eq!(world.ending, Some(Ending::StartFailed { child: "c".to_owned() }));
}

pub(super) fn child_returns_error() {
    let mut world = World::of(OneForOne, &[]);
    world.broken.insert("a");
    world.start_child("a", worker(Permanent)).unwrap();
    assert!(world.which().is_empty() && !world.turn(), "what never ran is neither kept nor retried");
}

pub(super) fn restart_child_returns_error() {
    let mut world = World::of(OneForOne, &[("a", Permanent)]);
    world.broken.insert("a");
    world.terminate_child("a").unwrap();
    assert_eq!(world.restart_child("a"), Ok(false));
    assert_eq!(world.which(), [("a", Stopped)]);
    assert!(!world.turn(), "a request is not retried");
}

pub(super) fn defaults() {
    let Flags { strategy, intensity, auto_shutdown } = Flags::default();
    assert_eq!((strategy, auto_shutdown), (Strategy::OneForOne, AutoShutdown::Never));
    assert_eq!((intensity.restarts, intensity.period), (1, Duration::from_secs(5)));
    let worker = Rules::new(ChildKind::Worker);
    assert_eq!((worker.restart, worker.significant), (Restart::Permanent, false));
    assert_eq!(worker.shutdown, Shutdown::After(Duration::from_secs(5)));
    assert_eq!(Rules::new(ChildKind::Supervisor).shutdown, Shutdown::Unlimited);
}

pub(super) fn faulty_specs() {
    let never = Flags::default();
    let any = Flags { auto_shutdown: AutoShutdown::AnySignificant, ..never };
    let plain = worker(Permanent);
    let significant = |restart| Rules { significant: true, ..worker(restart) };
    let good = [
        (never, "a", plain),
        (any, "a", plain),
        (any, "a", significant(Transient)),
        (any, "a", significant(Temporary)),
    ];
    for (flags, id, rules) in good {
        assert!(flags.check_child(id, &rules).is_ok(), "{flags:?} {id} {rules:?}");
    }
    let bad = [
        (never, "", plain),
        (never, "a/b", plain),
        (never, "a", significant(Transient)),
        (any, "a", significant(Permanent)),
    ];
    for (flags, id, rules) in bad {
        assert!(matches!(flags.check_child(id, &rules), Err(Error::BadChild { .. })), "{flags:?} {id:?}");
    }
    let twice = never.check_children([("a", &plain), ("b", &plain), ("a", &plain)]);
    assert!(matches!(twice, Err(Error::BadChild { id, .. }) if id == "a"));
}

pub(super) fn flags_are_checked() {
    assert!(flags(OneForOne, 0, 1).check().is_ok());
    assert!(matches!(flags(OneForOne, 2, 0).check(), Err(Error::Zero { .. })));
}

pub(super) fn stop_all() {
    let mut world = World::of(OneForOne, &[("a", Permanent), ("b", Transient), ("c", Temporary)]);
    world.log();
    world.stop();
    assert_eq!(world.log(), "-c -b -a");
    assert_eq!(world.ending, Some(Ending::Stopped));
    world.stop();
    world.roster.retry("a", std::time::Instant::now());
    assert_eq!(world.roster.next_step(), None, "a supervisor that has left does nothing");
}

pub(super) fn stop_all_dynamic() {
    let mut world = World::of(OneForOne, &[]);
    for id in ["a", "b", "c"] {
        world.start_child(id, worker(Temporary)).unwrap();
    }
    world.log();
    world.stop();
    assert_eq!(world.log(), "-c -b -a");
}

/// Children that end by themselves while the others are stopped: their ends are told afterwards, or not at all.
pub(super) fn stop_race() {
    for restart in [Permanent, Transient, Temporary] {
        for end in [Normal, Abnormal] {
            let mut world = World::of(OneForOne, &[("a", restart), ("b", restart)]);
            world.roster.stop();
            world.roster.ended("b", end, std::time::Instant::now());
            world.log();
            world.act();
            assert_eq!(world.log(), "-b -a", "{restart:?} {end:?}");
            world.roster.ended("a", end, std::time::Instant::now());
            assert_eq!(world.roster.next_step(), None);
        }
    }
}

pub(super) fn child_adm() {
    let mut world = World::of(OneForOne, &[("a", Permanent)]);
    assert_eq!((world.which(), world.counts()), (vec![("a", Running)], [1, 1, 0, 1]));
    assert_eq!(world.start_child("a", worker(Permanent)), Err(Refusal::Is(Running)));

    assert_eq!(world.terminate_child("x"), Err(Refusal::NotFound));
    assert_eq!(world.terminate_child("a"), Ok(()));
    assert_eq!((world.which(), world.counts()), (vec![("a", Stopped)], [1, 0, 0, 1]));
    assert_eq!(world.terminate_child("a"), Ok(()), "once more is fine");
    assert_eq!(world.start_child("a", worker(Permanent)), Err(Refusal::Is(Stopped)));

    assert_eq!(world.restart_child("a"), Ok(true));
    assert_eq!((world.which(), world.counts()), (vec![("a", Running)], [1, 1, 0, 1]));
    assert_eq!(world.restart_child("a"), Err(Refusal::Is(Running)));
    assert_eq!(world.restart_child("x"), Err(Refusal::NotFound));

    assert_eq!(world.roster.delete("a"), Err(Refusal::Is(Running)));
    assert_eq!(world.roster.delete("x"), Err(Refusal::NotFound));
    world.terminate_child("a").unwrap();
    assert_eq!(world.roster.delete("a"), Ok(()));
    assert_eq!(world.restart_child("a"), Err(Refusal::NotFound));
    assert_eq!((world.which(), world.counts()), (vec![], [0; 4]));

    assert_eq!(world.start_child("a", worker(Permanent)), Ok(()));
    assert_eq!((world.which(), world.counts()), (vec![("a", Running)], [1, 1, 0, 1]));
    world.dies("a", Abnormal);
    assert_eq!(world.which(), [("a", Running)], "a dynamic child is restarted as any other");
}

pub(super) fn which_children() {
    let mut world = World::of(OneForOne, &[]);
    assert!(world.which().is_empty() && world.roster.get("a").is_none());
    for id in ["a", "b"] {
        world.start_child(id, worker(Permanent)).unwrap();
    }
    assert_eq!(world.which(), [("a", Running), ("b", Running)]);
    world.terminate_child("a").unwrap();
    assert_eq!(world.which(), [("a", Stopped), ("b", Running)]);
    assert_eq!(world.roster.get("a").map(|child| child.state), Some(Stopped));
    world.roster.delete("a").unwrap();
    assert_eq!(world.which(), [("b", Running)]);
    world.broken.insert("b");
    world.dies("b", Abnormal);
    assert_eq!(world.which(), [("b", Restarting)]);
}
