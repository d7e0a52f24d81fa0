//! Supervisors over real processes. Each case has the name of OTP's `supervisor_SUITE` that it is modelled on; all of them run
//! against the pure functions in `actors/src/supervisor/suite.rs`.

use std::{fs, time::Duration};

use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::{SigSet, Signal},
};
use procession::{
    AutoShutdown, ChildInfo, ChildKind, ChildSpec, ChildState, Connection, Context, ErrorKind, Restart,
    Shutdown, Strategy, Supervisor, SupervisorBuilder, pipe,
};
use serde::{Deserialize, Serialize};

use crate::family::{Death, contexts, die, park_forever};
use crate::support::{eventually, fd_count, is_gone, isolated, kill9};

pub const HOUR: Duration = Duration::from_secs(3600);

/// As OTP's suite has it: two restarts in an hour.
pub fn builder(context: &Context) -> SupervisorBuilder {
    Supervisor::builder().intensity(2, HOUR).context(context)
}

pub fn worker(id: &str) -> ChildSpec {
    ChildSpec::process(id, park_forever, ())
}

/// How a process ends when it is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum End {
    Return,
    Die(Death),
}

/// Ends as it is told. All incarnations listen at the same connection.
fn obey(orders: Connection) {
    if let End::Die(how) = orders.recv().unwrap() {
        die(how);
    }
}

/// Does not care for SIGTERM.
pub fn stubborn() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block().unwrap();
    park_forever();
}

#[track_caller]
pub fn child(tree: &Supervisor, id: &str) -> ChildInfo {
    let children = tree.which_children().unwrap();
    children.into_iter().find(|child| child.id == id).unwrap_or_else(|| panic!("no child {id}"))
}

#[track_caller]
pub fn pid(tree: &Supervisor, id: &str) -> i32 {
    child(tree, id).pid.unwrap().try_into().unwrap()
}

/// Process ids of all children that have one, in the order of the children.
pub fn pids(children: &[ChildInfo]) -> Vec<i32> {
    children.iter().filter_map(|child| child.pid).map(|pid| pid.try_into().unwrap()).collect()
}

pub fn all_pids(tree: &Supervisor) -> Vec<i32> {
    pids(&tree.which_children().unwrap())
}

/// Kills the child's process from outside, and waits for the next one.
#[track_caller]
pub fn kill_and_wait(tree: &Supervisor, id: &str) {
    let old = pid(tree, id);
    kill9(old);
    eventually("there is a new process", || child(tree, id).pid.is_some_and(|pid| pid != old.unsigned_abs()));
}

/// Each process was made after those before it. Process ids grow, and may begin anew once.
#[track_caller]
fn assert_started_in_order(pids: &[i32]) {
    assert!(pids.windows(2).filter(|pair| pair[0] > pair[1]).count() <= 1, "{pids:?}");
}

/// Watches the processes while `stop` runs: whenever one is gone, so are all after it.
fn assert_stopped_in_order(pids: &[i32], stop: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(stop);
        eventually("all are gone", || {
            let gone: Vec<bool> = pids.iter().map(|&pid| is_gone(pid)).collect();
            assert!(gone.is_sorted(), "{gone:?}");
            gone[0]
        });
    });
}

#[track_caller]
pub fn assert_gone(pids: &[i32]) {
    for &pid in pids {
        assert!(is_gone(pid), "process {pid} is left");
    }
}

/// `permanent_normal`, `permanent_abnormal`, `transient_normal`, `transient_abnormal`, `temporary_normal`,
/// `temporary_abnormal`; and `_shutdown`, as a SIGTERM that the supervisor knows nothing of.
#[test]
fn child_is_restarted_by_its_type_and_its_end() {
    let ends = [
        (End::Return, true),
        (End::Die(Death::Exit(0)), true),
        (End::Die(Death::Exit(3)), false),
        (End::Die(Death::Panic), false),
        (End::Die(Death::KILL), false),
        (End::Die(Death::Signal(15)), false),
    ];
    isolated(move || {
        for context in contexts() {
            for (end, is_normal) in ends {
                for restart in [Restart::Permanent, Restart::Transient, Restart::Temporary] {
                    let (orders, theirs) = pipe().unwrap();
                    let spec = ChildSpec::process("a", obey, (theirs,)).restart(restart);
                    let tree = builder(&context).child(spec).start().unwrap();
                    let old = child(&tree, "a").pid;
                    orders.send(&end).unwrap();
                    match (restart, is_normal) {
                        (Restart::Temporary, _) => {
                            eventually("it is forgotten", || tree.which_children().unwrap().is_empty());
                        }
                        (Restart::Transient, true) => {
                            eventually("it is stopped", || child(&tree, "a").state == ChildState::Stopped);
                            assert_eq!(child(&tree, "a").pid, None);
                        }
                        _ => eventually("it is back", || {
                            let new = child(&tree, "a");
                            new.state == ChildState::Running && new.pid != old
                        }),
                    }
                    assert!(!tree.join_timeout(Duration::ZERO).unwrap(), "{end:?} {restart:?}");
                }
            }
        }
    });
}

/// `one_for_one`, `one_for_all`, `rest_for_one`, `order_of_children`.
#[test]
fn strategy_says_who_is_restarted() {
    let cases = [
        (Strategy::OneForOne, [false, true, false, false]),
        (Strategy::OneForAll, [true, true, true, true]),
        (Strategy::RestForOne, [false, true, true, true]),
    ];
    isolated(move || {
        for context in contexts() {
            for (strategy, restarted) in cases {
                let tree = ["a", "b", "c", "d"].into_iter().map(worker);
                let tree = tree.fold(builder(&context).strategy(strategy), SupervisorBuilder::child);
                let tree = tree.start().unwrap();
                let before = all_pids(&tree);
                assert_started_in_order(&before);
                kill_and_wait(&tree, "b");
                eventually("all run", || all_pids(&tree).len() == 4);
                let after = all_pids(&tree);
                let changed: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a != b).collect();
                assert_eq!(changed, restarted, "{strategy:?}");
                let (new, _): (Vec<i32>, Vec<i32>) = after.iter().partition(|pid| !before.contains(pid));
                assert_started_in_order(&new);
                let (old, _): (Vec<i32>, Vec<i32>) = before.iter().partition(|pid| !after.contains(pid));
                assert_gone(&old);
            }
        }
    });
}

/// `sup_stop_timeout`, `sup_stop_brutal_kill`, `sup_stop_infinity`, `order_of_children`.
#[test]
fn children_are_stopped_from_the_last_to_the_first() {
    isolated(|| {
        for context in contexts() {
            let tree = builder(&context)
                .child(worker("polite").shutdown(Shutdown::Unlimited))
                .child(ChildSpec::process("killed", stubborn, ()).shutdown(Shutdown::Kill))
                .child(worker("patient"))
                .child(ChildSpec::process("late", stubborn, ()).shutdown(Duration::from_millis(200)))
                .start()
                .unwrap();
            let pids = all_pids(&tree);
            eventually("the stubborn ones block SIGTERM", || {
                blocks_sigterm(pids[1]) && blocks_sigterm(pids[3])
            });
            assert_stopped_in_order(&pids, || tree.stop().unwrap());
            assert_gone(&pids);
            assert_eq!(tree.which_children().unwrap_err().kind(), &ErrorKind::SupervisorEnded);
            tree.stop().unwrap();
            assert!(tree.join_timeout(Duration::ZERO).unwrap());
        }
    });
}

pub fn blocks_sigterm(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t"));
    blocked.is_some_and(|mask| u64::from_str_radix(mask, 16).unwrap() & (1 << 14) != 0)
}

/// `child_adm`, `which_children`.
#[test]
fn children_can_be_added_terminated_restarted_and_deleted() {
    isolated(|| {
        for context in contexts() {
            let tree = builder(&context).child(worker("a")).start().unwrap();
            let kind = |error: procession::Error| error.kind().clone();
            let is = |id: &str, state| ErrorKind::ChildIs { id: id.to_owned(), state };
            let none = |id: &str| ErrorKind::NoSuchChild { id: id.to_owned() };

            assert_eq!(kind(tree.start_child(worker("a")).unwrap_err()), is("a", ChildState::Running));
            assert_eq!(kind(tree.restart_child("a").unwrap_err()), is("a", ChildState::Running));
            assert_eq!(kind(tree.delete_child("a").unwrap_err()), is("a", ChildState::Running));
            assert_eq!(kind(tree.terminate_child("x").unwrap_err()), none("x"));
            assert_eq!(kind(tree.restart_child("x").unwrap_err()), none("x"));
            assert_eq!(kind(tree.delete_child("x").unwrap_err()), none("x"));
            assert_eq!(kind(tree.terminate_child("a/x").unwrap_err()), none("a"), "a worker has no children");

            let old = pid(&tree, "a");
            tree.terminate_child("a").unwrap();
            assert_gone(&[old]);
            tree.terminate_child("a").unwrap();
            assert_eq!((child(&tree, "a").state, child(&tree, "a").pid), (ChildState::Stopped, None));
            assert_eq!(kind(tree.start_child(worker("a")).unwrap_err()), is("a", ChildState::Stopped));
            let new = tree.restart_child("a").unwrap();
            assert_eq!((new.state, new.pid.is_some()), (ChildState::Running, true));
            kill_and_wait(&tree, "a");

            let added = tree.start_child(worker("b").restart(Restart::Temporary)).unwrap();
            assert_eq!((added.id.as_str(), added.kind), ("b", ChildKind::Worker));
            let counts = tree.count_children().unwrap();
            assert_eq!((counts.specs, counts.active, counts.workers, counts.supervisors), (2, 2, 2, 0));
            tree.terminate_child("b").unwrap();
            assert_eq!(tree.count_children().unwrap().specs, 1, "a temporary child is forgotten");
            tree.terminate_child("a").unwrap();
            tree.delete_child("a").unwrap();
            assert!(tree.which_children().unwrap().is_empty());
        }
    });
}

/// `child_specs`, `sup_flags`, `sup_start_map_faulty_specs`.
#[test]
fn what_cannot_work_is_told_before_anything_starts() {
    isolated(|| {
        let bad = |builder: SupervisorBuilder| builder.start().unwrap_err().kind().clone();
        let twice = Supervisor::builder().child(worker("a")).child(worker("a"));
        assert!(matches!(bad(twice), ErrorKind::BadChild { id, .. } if id == "a"));
        let path = Supervisor::builder().child(worker("a/b"));
        assert!(matches!(bad(path), ErrorKind::BadChild { id, .. } if id == "a/b"));
        let inner = Supervisor::builder().child(worker(""));
        let outer = Supervisor::builder().child(worker("a")).child(ChildSpec::supervisor("inner", inner));
        assert!(matches!(bad(outer), ErrorKind::BadChild { id, .. } if id.is_empty()));
        let zero = Supervisor::builder().intensity(1, Duration::ZERO);
        assert!(matches!(bad(zero), ErrorKind::Zero { .. }));
        let odd = ChildSpec::process("odd", |_: serde_json::Value| (), (serde_json::json!([1]),));
        assert!(matches!(bad(Supervisor::builder().child(odd)), ErrorKind::NotRoundTrip { .. }));
        let tree = Supervisor::builder().start().unwrap();
        let added = tree.start_child(worker("a").restart(Restart::Transient).significant(true));
        assert!(matches!(added.unwrap_err().kind(), ErrorKind::BadChild { id, .. } if id == "a"));
    });
}

/// `one_for_one_escalation`, `multiple_restarts`.
#[test]
fn one_restart_too_many_ends_the_supervisor_with_the_story() {
    isolated(|| {
        for context in contexts() {
            let tree = builder(&context).child(worker("a")).child(worker("b")).start().unwrap();
            let other = pid(&tree, "a");
            kill_and_wait(&tree, "b");
            kill_and_wait(&tree, "b");
            kill9(pid(&tree, "b"));
            let error = tree.join().unwrap_err();
            let ErrorKind::IntensityExceeded { child, restarts, period, last } = error.kind() else {
                panic!("{error}")
            };
            assert_eq!((child.as_str(), *restarts, *period), ("b", 2, HOUR));
            assert!(last.contains("SIGKILL"), "{last}");
            assert_gone(&[other]);
            assert_eq!(tree.start_child(worker("c")).unwrap_err().kind(), &ErrorKind::SupervisorEnded);
        }
    });
}

#[test]
fn story_of_a_panic_is_its_message() {
    isolated(|| {
        for context in contexts() {
            let (orders, theirs) = pipe().unwrap();
            let tree = Supervisor::builder().intensity(0, HOUR).context(&context);
            let tree = tree.child(ChildSpec::process("a", obey, (theirs,))).start().unwrap();
            orders.send(&End::Die(Death::Panic)).unwrap();
            let error = tree.join().unwrap_err();
            assert!(error.to_string().contains("as it was told"), "{error}");
        }
    });
}

/// Inside its intensity, a child comes back however often it is killed.
#[test]
fn child_killed_a_hundred_times_is_back_each_time() {
    isolated(|| {
        for context in contexts() {
            let tree = Supervisor::builder().intensity(100, HOUR).context(&context);
            let tree = tree.child(worker("a")).child(worker("b")).start().unwrap();
            let other = pid(&tree, "b");
            kill_and_wait(&tree, "a");
            let descriptors = fd_count();
            for _ in 1..100 {
                kill_and_wait(&tree, "a");
            }
            eventually("descriptors of old processes are closed", || fd_count() <= descriptors);
            assert_eq!(pid(&tree, "b"), other);
            kill9(pid(&tree, "a"));
            assert!(matches!(tree.join().unwrap_err().kind(), ErrorKind::IntensityExceeded { .. }));
        }
    });
}

/// Runs `body` while this process can have no descriptor with this number or a higher one.
fn with_descriptors_below<R>(limit: u64, body: impl FnOnce() -> R) -> R {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
    let result = body();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    result
}

/// Runs `body` while no process can be started: there are no descriptors for it.
fn without_starts<R>(body: impl FnOnce() -> R) -> R {
    with_descriptors_below(3, body)
}

/// `sup_start_fail`.
#[test]
fn supervisor_that_cannot_start_a_child_stops_those_before_it() {
    isolated(|| {
        for context in contexts() {
            // Everything that is made once is there.
            drop(builder(&context).child(worker("first")).start().unwrap());
            let (announced, theirs) = pipe().unwrap();
            let announce = |line: Connection| {
                line.send(&std::process::id()).unwrap();
                park_forever();
            };
            let first = ChildSpec::process("0", announce, (theirs,));
            let specs = (0..40).map(|n| first.clone().with_id(n.to_string()));
            let tree = specs.fold(builder(&context), SupervisorBuilder::child);
            let error = with_descriptors_below(60, || tree.start()).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ChildNotStarted { .. }), "{error}");
            drop(first);
            let mut started = 0;
            while let Ok(pid) = announced.recv::<i32>() {
                assert_gone(&[pid]);
                started += 1;
            }
            eprintln!("{started} children were there before one could not be started");
            // A process that was made and found no descriptor is reaped by the next start.
            drop(builder(&context).child(worker("last")).start().unwrap());
        }
    });
}

/// `hanging_restart_loop`, `hanging_restart_loop_rest_for_one`.
#[test]
fn supervisor_listens_while_a_restart_fails_again_and_again() {
    isolated(|| {
        for context in contexts() {
            let tree = Supervisor::builder().strategy(Strategy::RestForOne).intensity(u32::MAX, HOUR);
            let tree = tree.context(&context).child(worker("a")).child(worker("b")).child(worker("c"));
            let tree = tree.start().unwrap();
            let states =
                || tree.which_children().unwrap().iter().map(|child| child.state).collect::<Vec<_>>();
            let [old, victim] = [pid(&tree, "a"), pid(&tree, "b")];
            without_starts(|| {
                kill9(victim);
                eventually("it cannot be restarted", || child(&tree, "b").state == ChildState::Restarting);
                let error = tree.restart_child("b").unwrap_err();
                let expected = ErrorKind::ChildIs { id: "b".to_owned(), state: ChildState::Restarting };
                assert_eq!(error.kind(), &expected);
                assert_eq!(tree.delete_child("b").unwrap_err().kind(), &expected);
                tree.terminate_child("b").unwrap();
                assert_eq!(states(), [ChildState::Running, ChildState::Stopped, ChildState::Stopped]);
                let error = tree.restart_child("b").unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::ChildNotStarted { .. }), "{error}");
            });
            tree.restart_child("b").unwrap();
            assert_eq!(states(), [ChildState::Running, ChildState::Running, ChildState::Stopped]);
            assert_eq!(pid(&tree, "a"), old);
            without_starts(|| {
                kill9(pid(&tree, "b"));
                eventually("it cannot be restarted", || child(&tree, "b").state == ChildState::Restarting);
                tree.stop().unwrap();
            });
        }
    });
}

/// `significant_temporary`, `significant_transient`.
#[test]
fn supervisor_ends_well_when_its_significant_child_has() {
    isolated(|| {
        for context in contexts() {
            let (orders, theirs) = pipe().unwrap();
            let job =
                ChildSpec::process("job", obey, (theirs,)).restart(Restart::Transient).significant(true);
            let tree = builder(&context).auto_shutdown(AutoShutdown::AnySignificant);
            let tree = tree.child(job).child(worker("helper")).start().unwrap();
            let helper = pid(&tree, "helper");
            kill_and_wait(&tree, "job");
            orders.send(&End::Return).unwrap();
            tree.join().unwrap();
            assert_gone(&[helper]);
        }
    });
}
