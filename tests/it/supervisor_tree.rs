//! Supervisors over real processes, as trees: nested ones, and what is left when one is dropped, or killed, or its process
//! ends. As in `supervisor`, each case has the name of OTP's that it is modelled on.

use procession::{
    AutoShutdown, ChildInfo, ChildKind, ChildSpec, ChildState, Connection, Context, ErrorKind, Process,
    Restart, Shutdown, Supervisor, pipe,
};

use crate::family::{Death, contexts, die, leave, park_forever};
use crate::supervisor::{
    HOUR, all_pids, assert_gone, blocks_sigterm, builder, child, kill_and_wait, pid, pids, stubborn, worker,
};
use crate::support::{eventually, is_gone, isolated, kill9};

/// `sup_stop_infinity` and all others: dropping is stopping.
#[test]
fn dropped_supervisor_leaves_nothing() {
    isolated(|| {
        for context in contexts() {
            let inner = builder(&context).child(worker("x")).child(worker("y"));
            let tree = builder(&context).child(worker("a")).child(ChildSpec::supervisor("inner", inner));
            let tree = tree.start().unwrap();
            let mut all = all_pids(&tree);
            all.extend(pids(&tree.which_children_of("inner").unwrap()));
            assert_eq!(all.len(), 4);
            drop(tree);
            assert_gone(&all);
        }
    });
}

/// A child that will not end costs a drop its patience, and is killed then.
#[test]
fn drop_does_not_wait_for_a_child_with_all_the_time_of_the_world() {
    isolated(|| {
        let spec = ChildSpec::process("a", stubborn, ()).shutdown(Shutdown::Unlimited);
        let tree = Supervisor::builder().child(spec).start().unwrap();
        let victim = pid(&tree, "a");
        eventually("it blocks SIGTERM", || blocks_sigterm(victim));
        drop(tree);
        assert_gone(&[victim]);
    });
}

fn two_levels(context: &Context) -> Supervisor {
    let inner = builder(context).child(worker("x")).child(worker("y"));
    let tree = builder(context).child(worker("a")).child(ChildSpec::supervisor("inner", inner));
    tree.start().unwrap()
}

#[track_caller]
fn inner(tree: &Supervisor) -> Vec<ChildInfo> {
    let mut children = Vec::new();
    // It may be on its way back.
    eventually("the inner supervisor answers", || {
        tree.which_children_of("inner").is_ok_and(|found| {
            children = found;
            children.iter().all(|child| child.state == ChildState::Running)
        })
    });
    children
}

/// `tree`, `simple_global_supervisor` (kill_worker).
#[test]
fn nested_supervisor_looks_after_its_own_children() {
    isolated(|| {
        for context in contexts() {
            let tree = two_levels(&context);
            let info = child(&tree, "inner");
            assert_eq!((info.kind, info.state), (ChildKind::Supervisor, ChildState::Running));
            let counts = tree.count_children().unwrap();
            assert_eq!((counts.workers, counts.supervisors), (1, 1));

            let (outer, before) = (all_pids(&tree), pids(&inner(&tree)));
            kill9(before[0]);
            eventually("x is back", || pids(&inner(&tree)).iter().all(|&pid| pid != before[0]));
            assert_eq!(
                (all_pids(&tree), pids(&inner(&tree))[1]),
                (outer.clone(), before[1]),
                "nobody else noticed"
            );

            tree.terminate_child("inner/x").unwrap();
            assert_eq!(tree.which_children_of("inner").unwrap()[0].state, ChildState::Stopped);
            tree.restart_child("inner/x").unwrap();
            let error = tree.delete_child("inner/x").unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ChildIs { id, .. } if id == "x"), "{error}");
            let error = tree.terminate_child("inner/none").unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NoSuchChild { id } if id == "none"), "{error}");
            let error = tree.which_children_of("outer").unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NoSuchChild { id } if id == "outer"), "{error}");

            let added = tree.start_child_of("inner", worker("z")).unwrap();
            assert_eq!(inner(&tree)[2], added);
            assert_eq!(all_pids(&tree), outer);
        }
    });
}

/// `simple_global_supervisor` (kill_supervisor), `tree`: dynamic children are not restarted with their supervisor.
#[test]
fn killed_nested_supervisor_takes_its_children_along_and_comes_back_with_new_ones() {
    isolated(|| {
        for context in contexts() {
            let tree = two_levels(&context);
            let old = inner(&tree);
            let added = tree.start_child_of("inner", worker("z")).unwrap();
            let other = pid(&tree, "a");
            kill_and_wait(&tree, "inner");
            let mut gone = pids(&old);
            gone.extend(pids(&[added]));
            eventually("its children died with it", || gone.iter().all(|&pid| is_gone(pid)));
            let new = inner(&tree);
            assert_eq!(new.iter().map(|child| child.id.as_str()).collect::<Vec<_>>(), ["x", "y"]);
            assert_eq!(pid(&tree, "a"), other);
        }
    });
}

/// `one_for_one_escalation` and `tree`, through two levels.
#[test]
fn inner_supervisor_that_gives_up_is_a_child_that_failed() {
    isolated(|| {
        for context in contexts() {
            let hopeless = ChildSpec::process("x", die, (Death::Exit(7),));
            let inner = Supervisor::builder().intensity(1, HOUR).child(hopeless).child(worker("y"));
            let inner = ChildSpec::supervisor("inner", inner).restart(Restart::Transient);
            let tree = builder(&context).child(worker("a")).child(inner).start().unwrap();
            let other = pid(&tree, "a");
            let error = tree.join().unwrap_err();
            let ErrorKind::IntensityExceeded { child, last, .. } = error.kind() else { panic!("{error}") };
            assert_eq!((child.as_str(), last.contains("code 1")), ("inner", true), "{last}");
            assert_gone(&[other]);
        }
    });
}

/// `significant_escalation`.
#[test]
fn inner_supervisor_whose_work_is_done_has_ended_well() {
    isolated(|| {
        for context in contexts() {
            let job = ChildSpec::process("job", || (), ()).restart(Restart::Transient).significant(true);
            let inner = builder(&context).auto_shutdown(AutoShutdown::AllSignificant).child(job);
            let inner = ChildSpec::supervisor("inner", inner).restart(Restart::Transient).significant(true);
            let tree = builder(&context).auto_shutdown(AutoShutdown::AllSignificant);
            tree.child(worker("a")).child(inner).start().unwrap().join().unwrap();
        }
    });
}

/// FB1, FE11: the process of the supervisor is killed.
#[test]
fn killed_process_takes_its_tree_along() {
    fn host(line: Connection) {
        let tree = two_levels(&Context::new(procession::start_method()));
        let mut all = all_pids(&tree);
        all.extend(pids(&inner(&tree)));
        line.send(&all).unwrap();
        park_forever();
    }
    isolated(|| {
        for context in contexts() {
            let (line, theirs) = pipe().unwrap();
            let process = Process::builder(host).args((theirs,)).context(&context).start().unwrap();
            let tree: Vec<i32> = line.recv().unwrap();
            assert_eq!(tree.len(), 4);
            process.kill().unwrap();
            process.join().unwrap();
            eventually("all are gone", || tree.iter().all(|&pid| is_gone(pid)));
        }
    });
}

/// A program that ends while it supervises does not wait for its children, nor leave them.
#[test]
fn process_that_ends_takes_its_tree_along() {
    fn host(line: Connection) {
        let tree = two_levels(&Context::new(procession::start_method()));
        let mut all = all_pids(&tree);
        all.extend(pids(&inner(&tree)));
        line.send(&all).unwrap();
        leave(0);
    }
    isolated(|| {
        for context in contexts() {
            let (line, theirs) = pipe().unwrap();
            let process = Process::builder(host).args((theirs,)).context(&context).start().unwrap();
            let tree: Vec<i32> = line.recv().unwrap();
            process.join().unwrap();
            eventually("all are gone", || tree.iter().all(|&pid| is_gone(pid)));
        }
    });
}
