//! Supervisors that end when their significant children have.

use super::world::{
    Abnormal, Normal, OneForAll, OneForOne, Permanent, RestForOne, Stopped, Temporary, Transient, World,
    flags, worker,
};
use crate::supervisor::spec::{AutoShutdown, Flags, Restart, Rules, Strategy};
use crate::supervisor::strategy::{End, Ending};

use AutoShutdown::{AllSignificant, AnySignificant, Never};

/// Two significant children, `a` and `b`, and `c`, which is not.
fn three(strategy: Strategy, auto_shutdown: AutoShutdown, restart: Restart) -> World {
    let flags = Flags { auto_shutdown, ..flags(strategy, 5, 5) };
    let significant = Rules { significant: true, ..worker(restart) };
    World::made(flags, &[("a", significant), ("b", significant), ("c", worker(restart))], [])
}

#[track_caller]
fn assert_ended_by(world: &World, child: &str) {
    assert_eq!(world.ending, Some(Ending::Significant { child: child.to_owned() }));
}

fn plain(auto_shutdown: AutoShutdown, restart: Restart) -> World {
    let flags = Flags { auto_shutdown, ..flags(OneForOne, 5, 5) };
    World::made(flags, &[("a", worker(restart))], [])
}

pub(super) fn nonsignificant_temporary() {
    for auto_shutdown in [Never, AnySignificant, AllSignificant] {
        for end in [Normal, Abnormal] {
            let mut world = plain(auto_shutdown, Temporary);
            world.dies("a", end);
            assert_eq!((world.which(), &world.ending), (vec![], &None), "{auto_shutdown:?} {end:?}");
        }
        let mut world = plain(auto_shutdown, Temporary);
        world.terminate_child("a").unwrap();
        assert_eq!(world.ending, None);
    }
}

pub(super) fn nonsignificant_transient() {
    for auto_shutdown in [Never, AnySignificant, AllSignificant] {
        let mut world = plain(auto_shutdown, Transient);
        world.terminate_child("a").unwrap();
        world.restart_child("a").unwrap();
        world.dies("a", Abnormal);
        assert_eq!(world.counts(), [1, 1, 0, 1], "{auto_shutdown:?}");
        world.dies("a", Normal);
        assert_eq!((world.which(), &world.ending), (vec![("a", Stopped)], &None), "{auto_shutdown:?}");
    }
}

pub(super) fn significant_temporary() {
    for end in [Normal, Abnormal] {
        any_ends_it(Temporary, end);
        all_end_it(Temporary, end);
    }
}

pub(super) fn significant_transient() {
    let mut world = three(OneForOne, AnySignificant, Transient);
    world.dies("a", Abnormal);
    assert_eq!((world.counts(), &world.ending), ([3, 3, 0, 3], &None), "it is restarted");
    any_ends_it(Transient, Normal);
    all_end_it(Transient, Normal);
}

fn any_ends_it(restart: Restart, end: End) {
    let mut world = three(OneForOne, AnySignificant, restart);
    world.terminate_child("a").unwrap();
    assert_eq!(world.ending, None, "an end that was asked for is none");
    world.log();
    world.dies("b", end);
    assert_eq!(world.log(), "-c");
    assert_ended_by(&world, "b");
}

fn all_end_it(restart: Restart, end: End) {
    let mut world = three(OneForOne, AllSignificant, restart);
    world.dies("a", end);
    assert_eq!(world.ending, None);
    world.log();
    world.dies("b", end);
    assert_eq!(world.log(), "-c");
    assert_ended_by(&world, "b");
}

/// Significant children that are stopped because another one died do not end their supervisor.
pub(super) fn significant_bystander() {
    for strategy in [OneForOne, OneForAll, RestForOne] {
        for auto_shutdown in [AnySignificant, AllSignificant] {
            let flags = Flags { auto_shutdown, ..flags(strategy, 5, 5) };
            let significant = Rules { significant: true, ..worker(Transient) };
            let children = [("a", significant), ("b", worker(Transient)), ("c", significant)];
            let mut world = World::made(flags, &children, []);
            world.log();
            world.dies("b", Abnormal);
            let expected = match strategy {
                OneForOne => "+b",
                RestForOne => "-c +b +c",
                _ => "-c -a +a +b +c",
            };
            assert_eq!((world.log().as_str(), &world.ending), (expected, &None), "{auto_shutdown:?}");
        }
    }
}

/// A supervisor that ended by itself ended normally, which its own supervisor sees as the end of any child.
pub(super) fn significant_escalation() {
    for (is_significant, ends) in [(true, true), (false, false)] {
        let flags = Flags { auto_shutdown: AnySignificant, ..flags(OneForOne, 1, 5) };
        let inner = Rules { significant: is_significant, ..worker(Transient) };
        let mut world = World::made(flags, &[("inner", inner), ("other", worker(Permanent))], []);
        world.dies("inner", Normal);
        assert_eq!(world.ending.is_some(), ends);
    }
}
