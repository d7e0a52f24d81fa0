//! Pools under many deaths: initializers that fail, a share of all tasks, killers from outside.

use std::{
    thread,
    time::{Duration, Instant},
};

use procession::{ErrorKind, Pool};

use crate::family::{Death, Memory, contexts, die, is_first, leave_mark};
use crate::support::{Options, isolated, isolated_with, kill9};

fn pools(processes: usize) -> impl Iterator<Item = Pool> {
    contexts()
        .into_iter()
        .map(move |context| Pool::builder().processes(processes).context(&context).start().unwrap())
}

fn square(x: u64) -> u64 {
    x * x
}

/// A machine under load needs time for thousands of processes.
fn patient() -> Options {
    Options { watchdog: Duration::from_secs(150), ..Options::default() }
}

fn fail_to_prepare(memory: &String, how: Death) {
    leave_mark(memory);
    die(how);
}

/// FA14, D16.
#[test]
fn initializer_that_always_fails_breaks_the_pool_and_says_why() {
    let cases = [
        (Death::Panic, "as it was told"),
        (Death::Exit(3), "exited with code 3"),
        (Death::Exit(0), "exited with code 0"),
        (Death::KILL, "SIGKILL"),
        (Death::SEGV, "SIGSEGV"),
    ];
    isolated(|| {
        for context in &contexts() {
            for (death, text) in cases {
                for processes in [1, 4] {
                    let memory = Memory::new("attempts");
                    let builder = Pool::builder().processes(processes).context(context);
                    let pool = builder.initializer(fail_to_prepare, (&memory.path(), death)).start().unwrap();
                    let errors = [
                        pool.apply(square, (1,)).unwrap_err(),
                        pool.map(square, 0..10).unwrap_err(),
                        pool.apply_async(square, (1,)).and_then(|result| result.get()).unwrap_err(),
                        pool.imap(square, 0..3).and_then(|mut all| all.next().unwrap()).unwrap_err(),
                    ];
                    for error in errors {
                        let ErrorKind::PoolBroken { last, .. } = error.kind() else {
                            panic!("{death:?}: {error:?}")
                        };
                        assert!(last.contains(text), "{death:?}: {last}");
                        assert!(error.to_string().contains(text), "{error}");
                    }
                    pool.join().unwrap();
                    assert!(pool.worker_pids().is_empty());
                    assert!(memory.marks() < 50, "{} attempts", memory.marks());
                }
            }
        }
    });
}

/// Too slow for the restart intensity, and still no hang.
#[test]
fn initializer_that_fails_slowly_breaks_the_pool_too() {
    fn fail_slowly() {
        let end = Instant::now() + Duration::from_millis(600);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            thread::park_timeout(left);
        }
        die(Death::Exit(3));
    }
    isolated(|| {
        let pool = Pool::builder().processes(1).initializer(fail_slowly, ()).start().unwrap();
        let error = pool.apply(square, (1,)).unwrap_err();
        let ErrorKind::PoolBroken { restarts, last, .. } = error.kind() else { panic!("{error:?}") };
        assert_eq!(*restarts, 11);
        assert!(last.contains("exited with code 3"), "{last}");
    });
}

/// The story of a worker that cannot prepare itself ends well when the second one can.
#[test]
fn initializer_that_fails_at_first_costs_nothing() {
    fn fail_once(memory: &String) {
        assert!(!is_first(memory, 0), "the first one fails");
    }
    isolated(|| {
        for context in &contexts() {
            let memory = Memory::new("first");
            let builder = Pool::builder().processes(2).context(context);
            let pool = builder.initializer(fail_once, (&memory.path(),)).start().unwrap();
            assert_eq!(pool.map(square, 0..100).unwrap(), (0..100).map(square).collect::<Vec<_>>());
            assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
            pool.close();
            pool.join().unwrap();
        }
    });
}

fn risky_once((memory, x, is_risky): (String, u64, bool)) -> u64 {
    if is_risky && is_first(&memory, x) {
        die(Death::KILL);
    }
    square(x)
}

/// FA12.
#[test]
fn one_task_in_twenty_kills_its_worker_and_all_results_come_in_order() {
    isolated_with(patient(), || {
        for pool in pools(4) {
            for chunksize in [1, 10] {
                let memory = Memory::new("storm");
                let path = memory.path();
                let items = (0..2000).map(|x| (path.clone(), x, x % 20 == 3));
                let call = pool.options().retries(if chunksize == 1 { 5 } else { 10 }).chunksize(chunksize);
                let results = call.map(risky_once, items).unwrap();
                assert!(results.into_iter().eq((0..2000).map(square)));
                assert_eq!(memory.marks(), 100);
            }
            pool.close();
            pool.join().unwrap();
        }
    });
}

/// A worker is given many tiny tasks ahead; those that had not started when it died are not lost.
#[test]
fn worker_that_dies_with_many_tiny_tasks_in_hand_costs_one_of_them() {
    fn tiny(item: (u64, Option<String>)) -> u64 {
        if let (x, Some(memory)) = &item
            && is_first(memory, *x)
        {
            die(Death::SEGV);
        }
        item.0
    }
    isolated_with(patient(), || {
        for pool in pools(2) {
            for chunksize in [None, Some(1)] {
                let count = if chunksize.is_some() { 20_000 } else { 100_000 };
                let memory = Memory::new("tiny");
                let path = memory.path();
                let items = || (0..count).map(|x| (x, (x == count / 2).then(|| path.clone())));
                let call = |retries| {
                    let call = pool.options().retries(retries);
                    if let Some(items) = chunksize { call.chunksize(items) } else { call }
                };
                let results = call(1).map(tiny, items()).unwrap();
                assert!(results.into_iter().eq(0..count));
                let again = Memory::new("again");
                let path = again.path();
                let items = (0..count).map(|x| (x, (x == count / 2).then(|| path.clone())));
                let lost: Vec<u64> =
                    call(0).imap(tiny, items).unwrap().filter_map(|r| r.err()?.index()).collect();
                assert!(lost.contains(&(count / 2)), "{lost:?}");
                // The one in hand, and 64 whose replies may have been held back.
                assert!(lost.len() <= 65, "{} tasks were lost with one worker", lost.len());
            }
            pool.close();
            pool.join().unwrap();
        }
    });
}

/// Kills the worker that is there for the longest time: a pool whose *new* workers keep dying gives up, and rightly so.
fn kill_the_oldest(pool: &Pool) {
    if let Some(pid) = pool.worker_pids().iter().min() {
        kill9(pid.cast_signed());
    }
}

/// Kills workers now and then: fewer than make a pool give up, whatever they hit.
fn kill_some(pool: &Pool) {
    for _ in 0..10 {
        kill_the_oldest(pool);
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn workers_killed_from_outside_cost_nothing_with_retries() {
    isolated_with(patient(), || {
        for pool in pools(3) {
            let results = pool.options().retries(30).imap(square, 0..20_000).unwrap();
            for (x, result) in (0..).zip(results) {
                assert_eq!(result.unwrap(), x * x);
                if x % 400 == 399 {
                    kill_the_oldest(&pool);
                }
            }
            let unordered = pool.options().retries(30).imap_unordered(square, 0..20_000).unwrap();
            let mut seen = std::collections::HashSet::new();
            for result in unordered {
                assert!(seen.insert(result.unwrap()), "a result came twice");
                if seen.len() % 400 == 0 {
                    kill_the_oldest(&pool);
                }
            }
            assert_eq!(seen.len(), 20_000);
            thread::scope(|scope| {
                scope.spawn(|| kill_some(&pool));
                let mapped = pool.options().retries(30).chunksize(7).map(square, 0..20_000).unwrap();
                assert!(mapped.into_iter().eq((0..20_000).map(square)));
            });
            pool.close();
            pool.join().unwrap();
        }
    });
}

#[test]
fn close_and_join_while_workers_die_finish_all_tasks() {
    isolated_with(patient(), || {
        for pool in pools(2) {
            let results: Vec<_> =
                (0..2000).map(|x| pool.options().retries(30).apply_async(square, (x,)).unwrap()).collect();
            thread::scope(|scope| {
                scope.spawn(|| kill_some(&pool));
                pool.close();
                pool.join().unwrap();
            });
            assert!(results.iter().map(|r| r.get().unwrap()).eq((0..2000).map(square)));
        }
    });
}

#[test]
fn close_with_dead_workers_ends() {
    isolated(|| {
        for pool in pools(3) {
            pool.worker_pids().iter().for_each(|pid| kill9(pid.cast_signed()));
            pool.close();
            pool.join().unwrap();
            assert!(pool.worker_pids().is_empty());
        }
    });
}

#[test]
fn terminate_while_workers_die_settles_everything() {
    isolated_with(patient(), || {
        for _ in 0..10 {
            for pool in pools(3) {
                let results: Vec<_> = (0..500)
                    .map(|x| {
                        pool.apply_async(
                            |x: u64| if x.is_multiple_of(10) { die(Death::KILL) } else { x },
                            (x,),
                        )
                        .unwrap()
                    })
                    .collect();
                thread::scope(|scope| {
                    scope.spawn(|| kill_some(&pool));
                    pool.terminate();
                    pool.join().unwrap();
                });
                for (x, result) in (0..).zip(results) {
                    assert!(result.is_ready());
                    match result.get() {
                        Ok(value) => assert_eq!(value, x),
                        Err(error) => {
                            let kind = error.kind();
                            let told =
                                matches!(kind, ErrorKind::PoolTerminated | ErrorKind::WorkerLost { .. });
                            assert!(told, "{error:?}");
                        }
                    }
                }
            }
        }
    });
}

/// Tasks that nobody waits for any more are dropped, and do not keep a closed pool from ending.
#[test]
fn close_and_join_after_an_endless_imap_was_dropped() {
    isolated(|| {
        for _ in 0..30 {
            for pool in pools(2) {
                let firsts: Vec<u64> = pool.imap(square, 1..).unwrap().take(3).map(Result::unwrap).collect();
                assert_eq!(firsts, [1, 4, 9]);
                pool.close();
                pool.join().unwrap();
            }
        }
    });
}
