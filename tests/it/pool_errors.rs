//! Pools: what goes wrong in a task costs that task, and what goes wrong in the order of calls is said.

use std::{collections::HashSet, thread};

use procession::{ErrorKind, Pool};
use serde::{Deserialize, Deserializer, Serialize};

use crate::family::{Memory, contexts, leave_mark, park_forever};
use crate::support::{isolated, isolated_with, thread_count};

fn pools(processes: usize) -> impl Iterator<Item = Pool> {
    contexts()
        .into_iter()
        .map(move |context| Pool::builder().processes(processes).context(&context).start().unwrap())
}

fn square(x: u64) -> u64 {
    x * x
}

fn picky(x: u64) -> u64 {
    assert!(x % 3 != 2, "{x} is not to my taste");
    x
}

fn pids(pool: &Pool) -> HashSet<u32> {
    pool.worker_pids().into_iter().collect()
}

/// T98 (_TestPool.test_traceback).
#[test]
fn panic_of_a_task_arrives_with_message_place_and_names() {
    isolated(|| {
        for pool in pools(2) {
            let before = pids(&pool);
            let errors = [
                pool.apply(picky, (2,)).unwrap_err(),
                pool.apply_async(picky, (2,)).unwrap().get().unwrap_err(),
                pool.map(picky, [0, 2, 5]).unwrap_err(),
                pool.imap(picky, [2]).unwrap().next().unwrap().unwrap_err(),
                pool.imap_unordered(picky, [2]).unwrap().next().unwrap().unwrap_err(),
            ];
            for error in errors {
                let ErrorKind::Panicked { message, location, .. } = error.kind() else { panic!("{error:?}") };
                assert_eq!(message, "2 is not to my taste");
                assert!(location.as_ref().is_some_and(|place| place.contains("pool_errors.rs:")));
                assert!(error.task().is_some_and(|task| task.ends_with("picky")), "{error:?}");
                assert!(before.contains(&error.pid().unwrap().unsigned_abs()));
                assert!(error.index().is_some());
                assert!(error.to_string().contains("picky"), "{error}");
            }
            assert_eq!(pids(&pool), before, "a panic costs no worker");
        }
    });
}

/// T100 (_TestPool.test_map_no_failfast).
#[test]
fn map_does_all_items_and_then_tells_the_first_error() {
    fn mark_and_fail(memory: &String, x: u64) -> String {
        leave_mark(memory);
        assert!(x % 10 != 7, "{x} {}", "!".repeat(1 << 20));
        memory.clone()
    }
    isolated(|| {
        for chunksize in [1, 4, 30] {
            for pool in pools(3) {
                let memory = Memory::new("map");
                let path = memory.path();
                let items = (0..30).map(|x| (path.clone(), x));
                let call = pool.options().chunksize(chunksize);
                let error =
                    call.map(|(memory, x): (String, u64)| mark_and_fail(&memory, x), items).unwrap_err();
                assert_eq!(error.index(), Some(7), "{chunksize}");
                let is_first = |message: &str| message.starts_with("7 !") && message.len() > 1 << 20;
                assert!(matches!(error.kind(), ErrorKind::Panicked { message, .. } if is_first(message)));
                assert_eq!(memory.marks(), 30, "all items ran");
                pool.close();
                pool.join().unwrap();
            }
        }
    });
}

#[test]
fn failing_item_costs_itself_only_in_a_chunk() {
    isolated(|| {
        for chunksize in [1, 4, 100] {
            for pool in pools(2) {
                let call = || pool.options().chunksize(chunksize);
                let ordered: Vec<_> = call().imap(picky, 0..100).unwrap().collect();
                let unordered: Vec<_> = call().imap_unordered(picky, 0..100).unwrap().collect();
                assert_eq!((ordered.len(), unordered.len()), (100, 100));
                for (x, result) in (0..).zip(&ordered) {
                    match result {
                        Ok(value) => assert!(*value == x && x % 3 != 2),
                        Err(error) => assert_eq!((error.index(), x % 3), (Some(x), 2)),
                    }
                }
                let failed: HashSet<u64> =
                    unordered.iter().filter_map(|r| r.as_ref().err()?.index()).collect();
                assert_eq!(failed, (0..100).filter(|x| x % 3 == 2).collect());
                let good: HashSet<u64> = unordered.iter().filter_map(|r| r.as_ref().ok().copied()).collect();
                assert_eq!(good.len() + failed.len(), 100);
            }
        }
    });
}

/// Serialises as a number and never comes back.
#[derive(Debug, Serialize)]
struct OneWay(u64);

impl<'de> Deserialize<'de> for OneWay {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("there is no way back"))
    }
}

/// A value whose `Serialize` fails when it is told to.
#[derive(Debug, Deserialize)]
struct Shy(bool);

impl Serialize for Shy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 { Err(serde::ser::Error::custom("too shy")) } else { serializer.serialize_bool(self.0) }
    }
}

/// T105 (_TestPoolWorkerErrors.test_unpickleable_result).
#[test]
fn result_that_cannot_travel_costs_no_worker() {
    isolated(|| {
        for pool in pools(2) {
            let before = pids(&pool);
            for _ in 0..20 {
                let error = pool.apply(|| Shy(true), ()).unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::BadResult { .. }), "{error:?}");
                assert!(error.to_string().contains("too shy"), "{error}");
                let error = pool.apply_async(OneWay, (1,)).unwrap().get().unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::BadResult { .. }), "{error:?}");
            }
            let mixed: Vec<_> = pool.imap(|x: u64| Shy(x == 3), 0..10).unwrap().collect();
            let failed: Vec<bool> = mixed.iter().map(Result::is_err).collect();
            assert_eq!(failed, (0..10).map(|x| x == 3).collect::<Vec<_>>());
            assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
            assert_eq!(pids(&pool), before);
        }
    });
}

/// T85 (_TestPool.test_map_unplicklable).
#[test]
fn argument_that_cannot_travel_is_an_error_of_the_caller() {
    isolated(|| {
        for pool in pools(2) {
            let asks = |value: serde_json::Value| value.is_null();
            let errors = [
                pool.apply(asks, (serde_json::json!(1),)).unwrap_err(),
                pool.apply_async(asks, (serde_json::json!(1),)).unwrap_err(),
                pool.map(asks, [serde_json::json!(1)]).unwrap_err(),
            ];
            for error in errors {
                assert!(matches!(error.kind(), ErrorKind::NotRoundTrip { .. }), "{error:?}");
            }
            let error = pool.map(|shy: Shy| shy.0, [Shy(false), Shy(true)]).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Codec { .. }), "{error:?}");
            let lazily: Vec<_> =
                pool.imap(|shy: Shy| shy.0, [Shy(false), Shy(true), Shy(false)]).unwrap().collect();
            assert_eq!(lazily.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
            assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
        }
    });
}

/// Panics wherever it is read.
#[derive(Debug, Serialize)]
struct Trap(u8);

impl<'de> Deserialize<'de> for Trap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let home = u8::deserialize(deserializer)?;
        assert!(home == 0, "trapped");
        Ok(Self(home))
    }
}

#[test]
fn argument_or_result_that_panics_when_it_is_read_costs_that_task() {
    isolated(|| {
        for pool in pools(1) {
            let before = pids(&pool);
            assert_eq!(pool.apply(|trap: Trap| trap.0, (Trap(0),)).unwrap(), 0);
            assert_eq!(pool.apply(Trap, (0,)).unwrap().0, 0);
            let error = pool.apply(|trap: Trap| trap.0, (Trap(1),)).unwrap_err();
            assert!(error.to_string().contains("trapped"), "{error}");
            let error = pool.apply(Trap, (1,)).unwrap_err();
            assert!(error.to_string().contains("trapped"), "{error}");
            assert_eq!(pool.apply(square, (3,)).unwrap(), 9);
            assert_eq!(pids(&pool), before);
        }
    });
}

/// T97 (_TestPool.test_context), T102 (test_enter).
#[test]
fn closed_and_terminated_pools_take_no_more_tasks() {
    isolated(|| {
        for (pool, is_terminate) in pools(1).zip([false, true]).chain(pools(1).zip([true, false])) {
            let error = pool.join().unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::PoolRunning);
            if is_terminate {
                pool.terminate()
            } else {
                pool.close()
            }
            for _ in 0..2 {
                let errors = [
                    pool.apply(square, (1,)).unwrap_err(),
                    pool.apply_async(square, (1,)).unwrap_err(),
                    pool.map(square, 0..3).unwrap_err(),
                ];
                for error in errors {
                    assert_eq!(error.kind(), &ErrorKind::PoolClosed, "{is_terminate}");
                }
                let lazily = pool.imap(square, 0..3).and_then(|mut all| all.next().unwrap());
                assert_eq!(lazily.unwrap_err().kind(), &ErrorKind::PoolClosed);
                pool.join().unwrap();
            }
            pool.close();
            pool.terminate();
            pool.join().unwrap();
        }
    });
}

#[test]
fn closed_pool_finishes_what_it_has_taken() {
    isolated(|| {
        for pool in pools(2) {
            let results: Vec<_> = (0..500).map(|x| pool.apply_async(square, (x,)).unwrap()).collect();
            pool.close();
            pool.join().unwrap();
            for (x, result) in (0..).zip(results) {
                assert!(result.is_ready());
                assert_eq!(result.get().unwrap(), x * x);
            }
        }
    });
}

#[test]
fn imap_of_a_pool_that_is_closed_meanwhile_ends() {
    isolated(|| {
        for pool in pools(2) {
            let ordered = pool.imap(square, 0..).unwrap();
            let unordered = pool.imap_unordered(square, 0..).unwrap();
            pool.close();
            for (name, results) in [("imap", ordered), ("imap_unordered", unordered)] {
                let results: Vec<_> = results.collect();
                let taken = results.iter().filter(|result| result.is_ok()).count();
                assert!(taken > 0 && taken < results.len(), "{name}: {taken} of {}", results.len());
                let refused = results.iter().filter_map(|result| result.as_ref().err());
                assert!(refused.into_iter().all(|error| *error.kind() == ErrorKind::PoolClosed), "{name}");
            }
        }
    });
}

/// T95 (_TestPool.test_terminate).
#[test]
fn terminate_settles_ten_thousand_outstanding_tasks() {
    isolated(|| {
        for pool in pools(3) {
            let results: Vec<_> = (0..10_000).map(|_| pool.apply_async(park_forever, ()).unwrap()).collect();
            pool.terminate();
            pool.join().unwrap();
            for result in results {
                assert!(result.is_ready());
                let error = result.get().unwrap_err();
                assert_eq!(error.kind(), &ErrorKind::PoolTerminated);
                assert!(error.task().is_some_and(|task| task.ends_with("park_forever")));
            }
        }
    });
}

#[test]
fn terminate_reaches_callers_that_wait() {
    isolated(|| {
        for pool in pools(2) {
            let pool = &pool;
            thread::scope(|scope| {
                let callers = [
                    scope.spawn(|| pool.apply(park_forever, ()).unwrap_err()),
                    scope.spawn(|| pool.map(|_: u64| park_forever(), 0..200_000).unwrap_err()),
                    scope.spawn(|| {
                        let lazily = pool.imap(|_: u64| park_forever(), 0..);
                        lazily.and_then(|mut all| all.next().unwrap()).unwrap_err()
                    }),
                ];
                // `join` on a running pool is an error, so this thread may only go on once it is stopped.
                crate::support::eventually("the pool is stopped", || {
                    pool.terminate();
                    pool.join().is_ok()
                });
                for caller in callers {
                    let error = caller.join().unwrap();
                    let kind = error.kind();
                    // A caller that came late sees a closed pool.
                    assert!(matches!(kind, ErrorKind::PoolTerminated | ErrorKind::PoolClosed), "{error:?}");
                }
            });
        }
    });
}

/// FB5.
#[test]
fn dropped_pool_with_work_leaves_nothing() {
    isolated(|| {
        Pool::new(1).unwrap();
        let threads = thread_count();
        for pool in pools(3) {
            let results: Vec<_> = (0..100).map(|_| pool.apply_async(park_forever, ()).unwrap()).collect();
            drop(pool);
            for result in results {
                assert_eq!(result.get().unwrap_err().kind(), &ErrorKind::PoolTerminated);
            }
        }
        crate::support::eventually("its thread has ended", || thread_count() <= threads);
    });
}

#[test]
fn imap_keeps_the_pool_alive() {
    fn lazily(pool: Pool) -> impl Iterator<Item = Result<u64, procession::Error>> {
        pool.imap(square, 0..1000).unwrap()
    }
    isolated(|| {
        for pool in pools(2) {
            let results: Vec<_> = lazily(pool).collect();
            assert_eq!(results.len(), 1000);
            let told = |r: &Result<u64, procession::Error>| match r {
                Ok(_) => true,
                Err(error) => *error.kind() == ErrorKind::PoolTerminated,
            };
            assert!(results.iter().all(told));
            assert!(results.iter().all(Result::is_ok), "dropping the pool ended what `Imap` says it keeps");
        }
    });
}

/// T101 (_TestPool.test_release_task_refs), T103 (test_resource_warning), as far as they apply: pools come and go.
#[test]
fn a_hundred_pools_come_and_go() {
    let options = crate::support::Options::default();
    isolated_with(options, || {
        Pool::new(1).unwrap();
        for round in 0..50_u64 {
            for pool in pools(2) {
                assert_eq!(pool.map(square, [round]).unwrap(), [round * round]);
                if round % 2 == 0 {
                    pool.close();
                    pool.join().unwrap();
                }
            }
        }
        let descriptors = crate::support::fd_count();
        crate::support::eventually("descriptors are given back", || {
            crate::support::fd_count() <= descriptors.min(40)
        });
    });
}
