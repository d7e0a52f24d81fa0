//! Pools whose workers are copies, in a process with one thread, where nothing has to be allowed: workers are replaced while
//! that thread waits for the pool, however it waits.
//!
//! The harness has threads of its own, so each test runs in a copy of it, which has not.

use std::{os::unix::process::parent_id, thread, time::Duration};

use procession::{Context, ErrorKind, Pool, Process, StartMethod};

use crate::family::park_forever;
use crate::support::{children_of, eventually, isolated, kill9, own_pid};

const WORKERS: usize = 2;

/// Runs `body` in a copy of this process, with a pool of copies that leave no threads behind.
#[track_caller]
fn with_one_thread(workers: usize, body: impl FnOnce(Pool)) {
    let in_a_copy = move || {
        let context = Context::new(StartMethod::Fork);
        body(Pool::builder().processes(workers).context(&context).start().unwrap());
    };
    Process::fork_builder(in_a_copy).allow_threads().start().unwrap().result().unwrap();
}

/// The pool works, and ends.
#[track_caller]
fn assert_whole(pool: &Pool) {
    assert_eq!(workers(pool).len(), WORKERS);
    assert_eq!(pool.map(|x: u64| x * x, 0..100).unwrap().iter().sum::<u64>(), 328_350);
    pool.close();
    pool.join().unwrap();
}

/// The workers of the pool, which has all of them.
fn workers(pool: &Pool) -> Vec<u32> {
    eventually("the pool has all its workers", || pool.worker_pids().len() == WORKERS);
    pool.worker_pids()
}

/// A task that kills another worker, and is done when there is one in its place: while its caller waits.
fn replace_another(workers: Vec<u32>) -> bool {
    let own = own_pid();
    let victim = workers.into_iter().map(u32::cast_signed).find(|&pid| pid != own).unwrap();
    kill9(victim);
    eventually("another worker has come", || {
        let there = children_of(parent_id().cast_signed());
        let alive = there.iter().filter(|child| child.state != 'Z' && child.pid != victim);
        alive.count() == WORKERS
    });
    true
}

#[test]
fn workers_are_replaced_while_the_caller_waits_for_one_result() {
    isolated(|| {
        with_one_thread(WORKERS, |pool| {
            assert!(pool.apply(replace_another, (workers(&pool),)).unwrap());
            let begin = || pool.apply_async(replace_another, (workers(&pool),)).unwrap();
            assert!(begin().get().unwrap());
            assert!(begin().get_timeout(Duration::MAX).unwrap());
            let waited = begin();
            waited.wait();
            assert!(waited.is_ready() && waited.get().unwrap());
            assert!(begin().wait_timeout(Duration::MAX));
            assert_whole(&pool);
        });
    });
}

#[test]
fn workers_are_replaced_while_the_caller_waits_for_many_results() {
    isolated(|| {
        with_one_thread(WORKERS, |pool| {
            assert_eq!(pool.map(replace_another, [workers(&pool)]).unwrap(), [true]);
            let mut ordered = pool.imap(replace_another, [workers(&pool)]).unwrap();
            assert!(ordered.next().unwrap().unwrap());
            let mut unordered = pool.imap_unordered(replace_another, [workers(&pool)]).unwrap();
            assert!(unordered.next_timeout(Duration::MAX).unwrap().unwrap());
            assert_whole(&pool);
        });
    });
}

/// The first task ends when a worker is replaced, the other worker is dead: no more tasks are taken until then.
#[test]
fn workers_are_replaced_while_the_caller_waits_for_room_in_the_queue() {
    const TASKS: usize = 20_000;
    isolated(|| {
        with_one_thread(WORKERS, |pool| {
            let tasks = std::iter::once(workers(&pool)).chain(std::iter::repeat_n(Vec::new(), TASKS));
            let replace_once = |workers: Vec<u32>| workers.is_empty() || replace_another(workers);
            let done = pool.options().chunksize(1).retries(1).map(replace_once, tasks).unwrap();
            assert_eq!(done, vec![true; 1 + TASKS]);
            assert_whole(&pool);
        });
    });
}

#[test]
fn workers_are_replaced_while_the_caller_waits_for_the_end_of_the_pool() {
    isolated(|| {
        with_one_thread(WORKERS, |pool| {
            let result = pool.apply_async(replace_another, (workers(&pool),)).unwrap();
            pool.close();
            pool.join().unwrap();
            assert!(result.get().unwrap());
        });
    });
}

/// Each try takes a while, so that those of five seconds are never as many as a large pool is allowed.
#[test]
fn pool_that_may_not_fork_any_more_is_broken_however_many_workers_it_has() {
    isolated(|| {
        with_one_thread(20, |pool| {
            thread::spawn(park_forever);
            pool.worker_pids().into_iter().for_each(|pid| kill9(pid.cast_signed()));
            let story = loop {
                let Err(error) = pool.apply(|| (), ()) else { continue };
                match error.kind() {
                    ErrorKind::PoolBroken { last, .. } => break last.clone(),
                    ErrorKind::WorkerLost { .. } => {}
                    other => panic!("{other:?}"),
                }
            };
            assert!(story.contains("other threads"), "{story}");
        });
    });
}
