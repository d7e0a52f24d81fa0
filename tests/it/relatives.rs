//! The processes around one: itself, its parent, its children.

use std::time::Duration;

use procession::{Connection, Pool, Process, active_children, current_process, parent_process, pipe};

use crate::family::{contexts, park_forever, run, start};
use crate::support::{children_of, eventually, is_gone, isolated, own_pid};

/// T2 (_TestProcess.test_current), T6 (test_parent_process_attributes).
#[test]
fn process_knows_itself_and_its_parent() {
    fn told() -> (String, u32, bool, Option<(String, u32, bool)>) {
        let own = current_process();
        let parent =
            parent_process().map(|parent| (parent.name().to_owned(), parent.pid(), parent.is_alive()));
        (own.name().to_owned(), own.pid(), own.is_daemon(), parent)
    }
    isolated(|| {
        let own = std::process::id();
        assert_eq!(told(), ("MainProcess".to_owned(), own, false, None));
        for context in &contexts() {
            for is_daemon in [false, true] {
                let process = context.builder(told).name("told").daemon(is_daemon).start().unwrap();
                let parent = Some(("MainProcess".to_owned(), own, true));
                let expected = ("told".to_owned(), process.pid(), is_daemon, parent);
                assert_eq!(process.result().unwrap(), expected);
            }
        }
    });
}

/// Tells that its parent is there, waits for its end, and tells that too.
fn orphan(connection: &Connection) {
    let parent = parent_process().unwrap();
    // Before it is told, after which the parent may be gone at any moment.
    assert!(!parent.join_timeout(Duration::ZERO).unwrap());
    connection.send(&(own_pid(), parent.name(), parent.is_alive())).unwrap();
    parent.join().unwrap();
    let again = parent_process().unwrap();
    let is_over = parent.join_timeout(Duration::ZERO).unwrap() && again.join_timeout(Duration::ZERO).unwrap();
    connection.send(&(is_over, parent.is_alive(), again.is_alive())).unwrap();
}

/// T7 (_TestProcess.test_parent_process).
#[test]
fn grandchild_sees_its_parent_end() {
    fn parent(connection: &Connection) {
        let _child: Process = Process::spawn(orphan, (connection,)).unwrap();
        park_forever();
    }
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let parent = context.builder(parent).args((&there,)).name("the parent").start().unwrap();
            let (pid, name, alive): (i32, String, bool) = here.recv().unwrap();
            assert_eq!((name.as_str(), alive), ("the parent", true));
            parent.terminate().unwrap();
            assert_eq!(here.recv::<(bool, bool, bool)>().unwrap(), (true, false, false));
            eventually("the grandchild is gone", || is_gone(pid));
            parent.join().unwrap();
        }
    });
}

fn active_pids() -> Vec<u32> {
    active_children().iter().map(Process::pid).collect()
}

/// T13 (_TestProcess.test_active_children), the end of T10 (test_terminate).
#[test]
fn active_children_are_those_that_run() {
    isolated(|| {
        for context in &contexts() {
            assert!(active_pids().is_empty());
            let processes = [(); 3].map(|()| start(context, park_forever, ()));
            let pids = processes.each_ref().map(Process::pid);
            assert_eq!(active_pids(), pids, "in the order of their start, and no helper among them");
            processes[1].terminate().unwrap();
            processes[1].join().unwrap();
            assert_eq!(active_pids(), [pids[0], pids[2]]);
            for child in active_children() {
                assert!(child.is_alive());
                child.kill().unwrap();
                child.join().unwrap();
                assert_eq!(child.exitcode(), Some(-9));
            }
            assert!(active_pids().is_empty());
            assert_eq!(processes.map(|process| process.exitcode()), [Some(-9), Some(-15), Some(-9)]);
        }
    });
}

#[test]
fn active_children_reaps_those_that_have_ended() {
    isolated(|| {
        for context in &contexts() {
            let pids: Vec<i32> = (0..5).map(|_| start(context, || (), ()).pid().cast_signed()).collect();
            eventually("they are reaped", || {
                active_pids().is_empty()
                    && !children_of(own_pid()).iter().any(|child| pids.contains(&child.pid))
            });
        }
    });
}

#[test]
fn workers_of_pools_are_active_children() {
    isolated(|| {
        for context in &contexts() {
            let pool: Pool = context.pool().processes(2).start().unwrap();
            let mut workers = pool.worker_pids();
            let mut active = active_pids();
            workers.sort_unstable();
            active.sort_unstable();
            assert_eq!(active, workers);
            drop(pool);
            eventually("they end with the pool", || active_pids().is_empty());
        }
    });
}

/// A child has none at first, whatever its parent has.
#[test]
fn children_are_counted_by_process() {
    fn nested() -> (usize, usize) {
        let before = active_children().len();
        let child: Process = Process::builder(park_forever).daemon(true).start().unwrap();
        let with_one = active_children().len();
        child.kill().unwrap();
        (before, with_one)
    }
    isolated(|| {
        for context in &contexts() {
            let process = start(context, park_forever, ());
            assert_eq!(run(context, nested, ()), (0, 1));
            process.kill().unwrap();
        }
    });
}

/// P17: as Python shows them.
#[test]
fn processes_show_what_they_are_and_how_they_ended() {
    fn shown() -> (String, String) {
        (format!("{:?}", current_process()), format!("{:?}", parent_process().unwrap()))
    }
    isolated(|| {
        let own = own_pid();
        assert_eq!(
            format!("{:?}", current_process()),
            format!("<Process name='MainProcess' pid={own} parent=None started>")
        );
        for context in &contexts() {
            let builder = context.builder(park_forever).name("p").daemon(true);
            assert_eq!(format!("{builder:?}"), format!("<Process name='p' parent={own} initial daemon>"));
            let process = builder.start().unwrap();
            let head = format!("<Process name='p' pid={} parent={own}", process.pid());
            assert_eq!(format!("{process:?}"), format!("{head} started daemon>"));
            assert_eq!(format!("{:?}", active_children()), format!("[{head} started daemon>]"));
            process.terminate().unwrap();
            process.join().unwrap();
            assert_eq!(format!("{process:?}"), format!("{head} stopped exitcode=-SIGTERM daemon>"));
            process.close().unwrap();
            assert_eq!(format!("{process:?}"), format!("{head} closed daemon>"));

            let process = context.builder(shown).name("q").start().unwrap();
            let pid = process.pid();
            let (child, parent) = process.result().unwrap();
            assert_eq!(child, format!("<Process name='q' pid={pid} parent={own} started>"));
            assert_eq!(parent, format!("<ParentProcess name='MainProcess' pid={own} started>"));
            assert_eq!(
                format!("{process:?}"),
                format!("<Process name='q' pid={pid} parent={own} stopped exitcode=0>")
            );
        }
    });
}
