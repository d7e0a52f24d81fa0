//! Pools whose workers die: what was in a worker's hands is known, everything else goes on.

use std::{collections::HashSet, fs};

use procession::{AsyncResult, ErrorKind, ExitStatus, Pool};

use crate::family::{Death, Memory, contexts, die, is_first, leave_mark};
use crate::support::{eventually, is_gone, isolated, kill9};

fn pools(processes: usize) -> impl Iterator<Item = Pool> {
    contexts()
        .into_iter()
        .map(move |context| Pool::builder().processes(processes).context(&context).start().unwrap())
}

fn square(x: u64) -> u64 {
    x * x
}

/// The pool has all its workers, and they work.
#[track_caller]
fn assert_whole(pool: &Pool, processes: usize) {
    eventually("the pool has all its workers again", || pool.worker_pids().len() == processes);
    assert_eq!(pool.map(square, 0..100).unwrap(), (0..100).map(square).collect::<Vec<_>>());
    pool.close();
    pool.join().unwrap();
}

fn killed() -> ExitStatus {
    ExitStatus::Signaled { signal: 9, core_dumped: false }
}

/// FA1.
#[test]
fn idle_worker_that_is_killed_is_replaced() {
    isolated(|| {
        for processes in [1, 3] {
            for pool in pools(processes) {
                assert_eq!(pool.map(square, 0..10).unwrap().len(), 10);
                for _ in 0..5 {
                    let before: HashSet<u32> = pool.worker_pids().into_iter().collect();
                    let victim = *before.iter().next().unwrap();
                    kill9(victim.cast_signed());
                    eventually("another worker is there", || {
                        let now = pool.worker_pids();
                        now.len() == processes && !now.contains(&victim)
                    });
                    assert!(is_gone(victim.cast_signed()));
                    assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
                    assert_eq!(pool.apply_async(square, (4,)).unwrap().get().unwrap(), 16);
                }
                assert_whole(&pool, processes);
            }
        }
    });
}

/// Death wherever an idle worker is killed right before a task is given to it: the task is fine or named.
#[test]
fn task_given_to_a_worker_that_has_just_died_is_not_forgotten() {
    isolated(|| {
        for pool in pools(1) {
            for x in 0..30_u64 {
                pool.worker_pids().first().iter().for_each(|pid| kill9(pid.cast_signed()));
                match pool.apply(square, (x,)) {
                    Ok(value) => assert_eq!(value, x * x),
                    Err(error) => {
                        assert_eq!(error.kind(), &ErrorKind::WorkerLost { status: killed() }, "{error}")
                    }
                }
            }
            assert_eq!(pool.options().retries(9).apply(square, (5,)).unwrap(), 25);
            assert_whole(&pool, 1);
        }
    });
}

/// What a task does: dies when it is told to.
fn risky(item: (u64, Option<Death>)) -> u64 {
    item.1.map_or_else(|| square(item.0), die)
}

/// How tasks may end a worker, and the status that its error has.
fn deaths() -> [(Death, ExitStatus); 7] {
    let signaled = |signal| ExitStatus::Signaled { signal, core_dumped: false };
    [
        (Death::KILL, signaled(9)),
        (Death::SEGV, signaled(11)),
        (Death::Signal(7), signaled(7)),
        (Death::Abort, signaled(6)),
        (Death::Signal(15), signaled(15)),
        (Death::Exit(0), ExitStatus::Exited(0)),
        (Death::Exit(42), ExitStatus::Exited(42)),
    ]
}

/// FA2, FA3, FA6: by `apply` and `apply_async`.
#[test]
fn task_that_ends_its_worker_is_lost_and_no_other() {
    isolated(|| {
        for processes in [1, 2, 5] {
            for pool in pools(processes) {
                for (death, status) in deaths() {
                    let error = pool.apply(risky, ((1, Some(death)),)).unwrap_err();
                    assert_eq!(error.kind(), &ErrorKind::WorkerLost { status }, "{death:?}");
                    assert!(
                        error.task().is_some_and(|task| task.ends_with("risky")) && error.pid().is_some()
                    );
                    let results: Vec<AsyncResult<u64>> = (0..40)
                        .map(|x| pool.apply_async(risky, ((x, (x == 13).then_some(death)),)).unwrap())
                        .collect();
                    for (x, result) in (0..).zip(results) {
                        match result.get() {
                            Ok(value) => assert!(value == x * x && x != 13),
                            Err(error) => {
                                assert_eq!(x, 13, "{death:?} {processes}: {error}");
                                assert_eq!(error.kind(), &ErrorKind::WorkerLost { status });
                            }
                        }
                    }
                }
                assert_whole(&pool, processes);
            }
        }
    });
}

/// FA2, FA3, FA6: by the verbs with chunks of one.
#[test]
fn item_that_ends_its_worker_is_lost_and_no_other() {
    isolated(|| {
        for processes in [1, 2, 5] {
            for pool in pools(processes) {
                for (death, status) in deaths() {
                    let items = || (0..40).map(|x| (x, (x % 20 == 7).then_some(death)));
                    let call = || pool.options().chunksize(1);
                    let error = call().map(risky, items()).unwrap_err();
                    assert_eq!(error.kind(), &ErrorKind::WorkerLost { status }, "{death:?}");
                    assert_eq!(error.index(), Some(7));
                    let ordered: Vec<_> = call().imap(risky, items()).unwrap().collect();
                    for (x, result) in (0..).zip(&ordered) {
                        assert_eq!(
                            result.as_ref().ok().copied(),
                            (x % 20 != 7).then(|| x * x),
                            "{x} {death:?}"
                        );
                    }
                    let unordered: Vec<_> = call().imap_unordered(risky, items()).unwrap().collect();
                    let lost = unordered.iter().filter_map(|r| r.as_ref().err()?.index());
                    assert_eq!(lost.collect::<HashSet<u64>>(), HashSet::from([7, 27]));
                    assert_eq!(unordered.len(), 40);
                }
                assert_whole(&pool, processes);
            }
        }
    });
}

/// Ends its worker the first time that it is called with this number, if it is told to.
fn risky_once((memory, x, is_risky): (String, u64, bool)) -> u64 {
    if is_risky && is_first(&memory, x) {
        die(Death::KILL);
    }
    square(x)
}

#[test]
fn with_retries_nothing_is_lost() {
    isolated(|| {
        for processes in [1, 2, 5] {
            for pool in pools(processes) {
                let memories = ["a", "b", "c", "d"].map(Memory::new);
                let items = |n: usize| {
                    let path = memories[n].path();
                    (0..60).map(move |x| (path.clone(), x, x % 12 == 5))
                };
                let call = || pool.options().retries(1).chunksize(1);
                let expected: Vec<u64> = (0..60).map(square).collect();
                assert_eq!(call().map(risky_once, items(0)).unwrap(), expected);
                let ordered: Result<Vec<u64>, _> = call().imap(risky_once, items(1)).unwrap().collect();
                assert_eq!(ordered.unwrap(), expected);
                let unordered: Result<HashSet<u64>, _> =
                    call().imap_unordered(risky_once, items(2)).unwrap().collect();
                assert_eq!(unordered.unwrap(), expected.iter().copied().collect());
                for (x, item) in (0..).zip(items(3)) {
                    let result = call().apply_async(risky_once, (item.clone(),)).unwrap();
                    assert_eq!(result.get().unwrap(), x * x);
                    fs::remove_file(format!("{}/{x}", memories[3].path())).ok();
                    assert_eq!(call().apply(risky_once, (item,)).unwrap(), x * x);
                }
                assert_whole(&pool, processes);
            }
        }
    });
}

/// Marks that it ran, and ends its worker each time.
fn poison(memory: String) -> u64 {
    leave_mark(&memory);
    die(Death::KILL)
}

#[test]
fn task_that_always_ends_its_worker_is_given_up_after_its_retries() {
    isolated(|| {
        for pool in pools(2) {
            let memory = Memory::new("poison");
            let error = pool.options().retries(2).apply(poison, (memory.path(),)).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::WorkerLost { status: killed() });
            assert_eq!(memory.marks(), 3);
            let error = pool.options().retries(2).apply_async(poison, (memory.path(),)).unwrap().get();
            assert_eq!(error.unwrap_err().kind(), &ErrorKind::WorkerLost { status: killed() });
            assert_eq!(memory.marks(), 6);
            let all = [memory.path(), memory.path()];
            let lost: Vec<_> = pool.options().retries(3).imap(poison, all).unwrap().collect();
            assert!(lost.iter().all(Result::is_err));
            assert_eq!(memory.marks(), 14);
            assert_whole(&pool, 2);
        }
    });
}

#[test]
fn without_retries_a_task_runs_at_most_once() {
    isolated(|| {
        for pool in pools(2) {
            let memory = Memory::new("once");
            let path = memory.path();
            let results: Vec<_> = pool.imap(poison, (0..10).map(|_| path.clone())).unwrap().collect();
            for result in results {
                assert_eq!(result.unwrap_err().kind(), &ErrorKind::WorkerLost { status: killed() });
            }
            assert_eq!(memory.marks(), 10);
            assert_whole(&pool, 2);
        }
    });
}

/// A worker's own children may hold its sockets open after it is dead.
#[test]
fn worker_whose_children_live_on_is_still_seen_to_be_dead() {
    use std::process::{Command, Stdio};
    fn leave_a_child_and_die() -> u64 {
        // The child of the worker is a process of its own, and outlives it.
        let null = Stdio::null;
        let child = Command::new("sleep").arg("1000").stdin(null()).stdout(null()).stderr(null()).spawn();
        fs::write(std::env::temp_dir().join("child"), child.unwrap().id().to_string()).unwrap();
        die(Death::KILL)
    }
    isolated(|| {
        for pool in pools(1) {
            let error = pool.apply(leave_a_child_and_die, ()).unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::WorkerLost { status: killed() });
            let file = std::env::temp_dir().join("child");
            let child: i32 = fs::read_to_string(&file).unwrap().parse().unwrap();
            assert!(!is_gone(child));
            kill9(child);
            fs::remove_file(file).unwrap();
            assert_whole(&pool, 1);
        }
    });
}
