//! Pools: the verbs and what they promise while nobody dies.

use std::{collections::HashSet, process::id, thread, time::Duration};

use procession::{ErrorKind, Pool};
use serde::{Deserialize, Serialize};

use crate::family::{Memory, contexts, leave_mark};
use crate::support::{children_of, eventually, is_gone, isolated, own_pid};

/// A pool for each start method.
fn pools(processes: usize) -> impl Iterator<Item = Pool> {
    contexts()
        .into_iter()
        .map(move |context| Pool::builder().processes(processes).context(&context).start().unwrap())
}

/// Ends the pool in good order.
#[track_caller]
fn finish(pool: &Pool) {
    pool.close();
    pool.join().unwrap();
    assert!(pool.worker_pids().is_empty());
}

fn square(x: u64) -> u64 {
    x * x
}

/// Keyword arguments of Python are a struct here.
#[derive(Serialize, Deserialize)]
struct Power {
    base: i64,
    exponent: u32,
}

/// T79 (_TestPool.test_apply), O5.
#[test]
fn apply_calls_with_its_arguments() {
    isolated(|| {
        for pool in pools(2) {
            assert_eq!(pool.apply(square, (5,)).unwrap(), 25);
            assert_eq!(pool.apply(|| (), ()).unwrap(), ());
            assert_eq!(pool.apply(i64::pow, (3, 4)).unwrap(), 81);
            let power = |p: Power| p.base.pow(p.exponent);
            assert_eq!(pool.apply(power, (Power { base: 2, exponent: 10 },)).unwrap(), 1024);
            let word = "abc".to_owned();
            assert_eq!(pool.apply(|s: &String, n: usize| s.repeat(n), (&word, 2)).unwrap(), "abcabc");
            assert_eq!(pool.apply(|s: &[u32]| s.len(), (&[1_u32, 2, 3][..],)).unwrap(), 3);
            assert_ne!(pool.apply(id, ()).unwrap(), id());
            finish(&pool);
        }
    });
}

/// T80 (_TestPool.test_map).
#[test]
fn map_keeps_the_order_with_any_chunksize() {
    isolated(|| {
        let expected: Vec<u64> = (0..1000).map(square).collect();
        for pool in pools(4) {
            assert_eq!(pool.map(square, 0..1000).unwrap(), expected);
            for chunksize in [1, 20, 999, 1000, 1001, usize::MAX] {
                assert_eq!(pool.options().chunksize(chunksize).map(square, 0..1000).unwrap(), expected);
            }
            finish(&pool);
        }
    });
}

/// T81 (_TestPool.test_starmap): the items are tuples.
#[test]
fn map_takes_tuples_references_and_slices() {
    isolated(|| {
        let words: Vec<String> = ["a", "bb", "", "dddd"].map(str::to_owned).to_vec();
        let matrix = [1.0, 2.0, 3.0, 4.0, 5.0];
        for pool in pools(2) {
            assert_eq!(pool.map(|(a, b): (u64, u64)| a * b, (0..4).zip(10..)).unwrap(), [0, 11, 24, 39]);
            assert_eq!(pool.map(String::len, &words).unwrap(), [1, 2, 0, 4]);
            assert_eq!(pool.map(|w: &String| w.len(), words.iter()).unwrap(), [1, 2, 0, 4]);
            assert_eq!(pool.map(|row: &[f64]| row.len(), matrix.chunks(2)).unwrap(), [2, 2, 1]);
            assert_eq!(pool.imap(String::len, &words).unwrap().map(Result::unwrap).sum::<usize>(), 7);
        }
        assert_eq!(words.len(), 4);
    });
}

/// T83 (_TestPool.test_map_async), T88 (test_async).
#[test]
fn results_of_apply_async_come_in_any_order_of_asking() {
    isolated(|| {
        for pool in pools(2) {
            let results: Vec<_> = (0..100).map(|x| pool.apply_async(square, (x,)).unwrap()).collect();
            for (x, result) in results.iter().enumerate().rev() {
                assert_eq!(result.get().unwrap(), (x * x) as u64);
                assert!(result.is_ready() && result.wait_timeout(Duration::ZERO));
                assert_eq!(result.get().unwrap_err().kind(), &ErrorKind::ResultTaken);
            }
            let whole = pool.apply_async(|n: u64| (0..n).map(square).collect::<Vec<u64>>(), (20,)).unwrap();
            whole.wait();
            assert_eq!(whole.get().unwrap().len(), 20);
        }
    });
}

/// T86 (_TestPool.test_map_chunksize), T96 (test_empty_iterable).
#[test]
fn empty_input_gives_an_empty_output() {
    const NOTHING: [u64; 0] = [];
    isolated(|| {
        for pool in pools(2) {
            assert!(pool.map(square, NOTHING).unwrap().is_empty());
            assert!(pool.options().chunksize(1).map(square, NOTHING.to_vec()).unwrap().is_empty());
            assert_eq!(pool.imap(square, NOTHING).unwrap().count(), 0);
            assert_eq!(pool.imap_unordered(square, NOTHING).unwrap().count(), 0);
            assert_eq!(pool.options().chunksize(7).imap(square, NOTHING).unwrap().count(), 0);
            finish(&pool);
        }
    });
}

/// T87 (_TestPool.test_map_handle_iterable_exception), T91 (test_imap_handle_iterable_exception).
#[test]
fn input_that_panics_leaves_the_pool_usable() {
    fn failing_at(bad: u64) -> impl Iterator<Item = u64> {
        (0..10).inspect(move |&x| assert_ne!(x, bad, "someone is unlucky"))
    }
    isolated(|| {
        for pool in pools(2) {
            for bad in [0, 3, 9] {
                for chunksize in [1, 2, 4] {
                    let options = || pool.options().chunksize(chunksize);
                    let mapped =
                        thread::scope(|s| s.spawn(|| options().map(square, failing_at(bad))).join().is_err());
                    assert!(mapped, "the panic of the input reaches the caller");
                    let lazily = thread::scope(|s| {
                        s.spawn(|| options().imap(square, failing_at(bad)).unwrap().count()).join().is_err()
                    });
                    assert!(lazily);
                    assert_eq!(pool.map(square, 0..3).unwrap(), [0, 1, 4]);
                }
            }
            finish(&pool);
        }
    });
}

/// T89 (_TestPool.test_async_timeout).
#[test]
fn get_timeout_gives_up_and_a_later_get_succeeds() {
    isolated(|| {
        for context in &contexts() {
            let memory = Memory::new("gate");
            let pool = Pool::builder().processes(1).context(context).start().unwrap();
            let result = pool.apply_async(wait_for_mark, (memory.path(),)).unwrap();
            let error = result.get_timeout(Duration::from_millis(20)).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::TimedOut { .. }), "{error:?}");
            assert!(!result.is_ready() && !result.wait_timeout(Duration::ZERO));
            let mut late = pool.imap(square, [7]).unwrap();
            let error = late.next_timeout(Duration::from_millis(20)).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::TimedOut { .. }), "{error:?}");
            leave_mark(&memory.path());
            assert_eq!(result.get_timeout(Duration::from_secs(60)).unwrap(), 1);
            assert_eq!(late.next_timeout(Duration::from_secs(60)).unwrap(), Some(49));
            assert_eq!(late.next_timeout(Duration::ZERO).unwrap(), None);
        }
    });
}

/// Runs until somebody leaves a mark.
fn wait_for_mark(memory: String) -> u64 {
    eventually("a mark is left", || std::fs::read_dir(&memory).unwrap().count() > 0);
    1
}

/// T90 (_TestPool.test_imap).
#[test]
fn imap_gives_results_in_order() {
    isolated(|| {
        for pool in pools(2) {
            let mut few = pool.imap(square, 0..10).unwrap();
            for x in 0..10 {
                assert_eq!(few.next().unwrap().unwrap(), x * x);
            }
            assert!(few.next().is_none() && few.next().is_none());
            let many = pool.options().chunksize(100).imap(square, 0..1000).unwrap();
            assert!(many.map(Result::unwrap).eq((0..1000).map(square)));
            finish(&pool);
        }
    });
}

/// T92 (_TestPool.test_imap_unordered).
#[test]
fn imap_unordered_gives_each_result_once() {
    isolated(|| {
        for pool in pools(2) {
            for chunksize in [1, 53, 100] {
                let call = pool.options().chunksize(chunksize).imap_unordered(square, 0..1000).unwrap();
                let mut results: Vec<u64> = call.map(Result::unwrap).collect();
                results.sort_unstable();
                assert!(results.into_iter().eq((0..1000).map(square)));
            }
            finish(&pool);
        }
    });
}

#[test]
fn imap_reads_an_endless_input_as_far_as_it_must() {
    isolated(|| {
        for pool in pools(2) {
            let read = std::cell::Cell::new(0_u64);
            let input = (0..).inspect(|_| read.set(read.get() + 1));
            let first: Vec<u64> = pool.imap(square, input).unwrap().take(50).map(Result::unwrap).collect();
            assert!(first.into_iter().eq((0..50).map(square)));
            assert!(read.get() < 100_000, "{} items were read for 50", read.get());
            let unordered = pool.imap_unordered(square, 0..).unwrap().take(50);
            assert_eq!(unordered.map(Result::unwrap).collect::<HashSet<u64>>().len(), 50);
            assert_eq!(pool.apply(square, (3,)).unwrap(), 9, "what was dropped is in nobody's way");
            finish(&pool);
        }
    });
}

/// T94 (_TestPool.test_make_pool).
#[test]
fn pool_has_as_many_workers_as_asked_for_at_once() {
    isolated(|| {
        let error = Pool::new(0).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Zero { .. }), "{error:?}");
        for pool in pools(3) {
            assert_eq!(pool.processes(), 3);
            let mut pids = pool.worker_pids();
            assert_eq!(pids.iter().collect::<HashSet<_>>().len(), 3);
            let children: HashSet<i32> = children_of(own_pid()).iter().map(|child| child.pid).collect();
            assert!(pids.iter().all(|pid| children.contains(&pid.cast_signed())));
            assert!(pids.contains(&pool.apply(id, ()).unwrap()));
            finish(&pool);
            assert!(pids.drain(..).all(|pid| is_gone(pid.cast_signed())));
        }
        let default = Pool::builder().start().unwrap();
        assert_eq!(default.processes(), thread::available_parallelism().unwrap().get());
    });
}

#[test]
fn zero_chunksize_is_refused_by_each_verb_that_has_chunks() {
    isolated(|| {
        let pool = Pool::new(1).unwrap();
        let errors = [
            pool.options().chunksize(0).map(square, 0..3).unwrap_err(),
            pool.options().chunksize(0).imap(square, 0..3).unwrap_err(),
            pool.options().chunksize(0).imap_unordered(square, 0..3).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), &ErrorKind::Zero { what: "chunksize" });
            assert!(error.to_string().contains("chunksize"), "{error}");
        }
        finish(&pool);
    });
}

#[test]
fn results_of_eight_mebibytes_arrive() {
    isolated(|| {
        for pool in pools(2) {
            let big = |n: u8| String::from(char::from(b'a' + n)).repeat(8 << 20);
            let all = pool.options().chunksize(1).map(big, 0..4).unwrap();
            for (n, text) in (0..).zip(&all) {
                assert!(text.len() == 8 << 20 && text.bytes().all(|byte| byte == b'a' + n));
            }
            assert_eq!(pool.apply(String::len, (&all[0],)).unwrap(), 8 << 20);
            assert_eq!(pool.map(String::len, &all).unwrap(), [8 << 20; 4]);
            finish(&pool);
        }
    });
}

#[test]
fn eight_threads_may_apply_and_map_at_once() {
    isolated(|| {
        for pool in pools(3) {
            let pool = &pool;
            thread::scope(|scope| {
                for t in 0..8_u64 {
                    scope.spawn(move || {
                        for x in 0..100 {
                            assert_eq!(
                                pool.apply(|a: u64, b: u64| a * 1000 + b, (t, x)).unwrap(),
                                t * 1000 + x
                            );
                        }
                        let mapped = pool.map(square, t..t + 1000).unwrap();
                        assert!(mapped.into_iter().eq((t..t + 1000).map(square)));
                        let lazily = pool.imap(square, t..t + 200).unwrap();
                        assert!(lazily.map(Result::unwrap).eq((t..t + 200).map(square)));
                    });
                }
            });
            finish(pool);
        }
    });
}

/// T163 (TestInitializers.test_pool_initializer).
#[test]
fn initializer_runs_once_in_each_worker_before_its_first_task() {
    static READY: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    fn prepare(memory: &String, by: u32) {
        leave_mark(memory);
        READY.fetch_add(by, std::sync::atomic::Ordering::Relaxed);
    }
    isolated(|| {
        for context in &contexts() {
            let memory = Memory::new("initializer");
            let builder = Pool::builder().processes(3).context(context);
            let pool = builder.initializer(prepare, (&memory.path(), 7)).start().unwrap();
            let seen = pool.map(|_: u8| READY.load(std::sync::atomic::Ordering::Relaxed), 0..100).unwrap();
            assert_eq!(seen, [7; 100]);
            finish(&pool);
            assert_eq!(memory.marks(), 3);
            assert_eq!(READY.load(std::sync::atomic::Ordering::Relaxed), 0);
        }
    });
}

#[test]
fn progress_bar_changes_nothing_where_no_terminal_is() {
    isolated(|| {
        let pool = Pool::new(2).unwrap();
        assert_eq!(pool.options().progress("squares").map(square, 0..3).unwrap(), [0, 1, 4]);
        let lazily = pool.options().progress("squares").imap(square, 0..3).unwrap();
        assert_eq!(lazily.map(Result::unwrap).collect::<Vec<_>>(), [0, 1, 4]);
        finish(&pool);
    });
}

/// A worker that is in an endless task gets no more; Python's takes its tasks from a queue that all share.
#[test]
fn tasks_do_not_wait_behind_a_long_one_while_a_worker_is_idle() {
    isolated(|| {
        for pool in pools(2) {
            for warm in [false, true] {
                if warm {
                    // Short tasks, so that many are handed out ahead.
                    pool.options().chunksize(1).map(square, 0..10_000).unwrap();
                }
                let memory = Memory::new("long");
                let long = pool.apply_async(wait_for_mark, (memory.path(),)).unwrap();
                let error = long.get_timeout(Duration::from_millis(50)).unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::TimedOut { .. }), "{error}");
                let results = pool.options().chunksize(1).map(square, 0..100).unwrap();
                assert_eq!(results.len(), 100);
                assert_eq!(pool.apply(square, (7,)).unwrap(), 49);
                leave_mark(&memory.path());
                assert_eq!(long.get().unwrap(), 1);
            }
            finish(&pool);
        }
    });
}
