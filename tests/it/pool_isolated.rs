//! Isolated pools: workers whose memory is not that of the family.

use crate::family::{leave, park_forever, run, start};
use crate::handles::small_arena;
use crate::support::{eventually, fd_count, isolated, kill9, own_pid};
use crate::wild::{Counter, mapped_memory, open_memory, use_a_lock, write_garbage};
use procession::prelude::*;
use procession::{Context, OnPreloadError, StartMethod, force_start_method, set_forkserver_preload_with};
use procession_ipc::usage;
use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// The start methods by which workers can be isolated.
pub fn contexts() -> [Context; 2] {
    [StartMethod::Spawn, StartMethod::ForkServer].map(Context::new)
}

fn start_pool(context: &Context, processes: usize) -> Pool {
    Pool::builder().processes(processes).context(context).isolated().start().unwrap()
}

fn end(pool: Pool) {
    pool.close();
    pool.join().unwrap();
}

/// The inode numbers of all such files that a process has open or mapped; none if it is gone.
fn memory_files(pid: i32) -> BTreeSet<u64> {
    open_memory(pid).union(&mapped_memory(pid)).copied().collect()
}

/// The files of a process, which has mapped what it shares, and those of a child that it starts.
fn files_of_two() -> [BTreeSet<u64>; 2] {
    let own = memory_files(use_a_lock());
    let child = Process::spawn(|| memory_files(use_a_lock()), ()).unwrap();
    [own, child.result().unwrap()]
}

#[test]
fn no_worker_has_the_memory_of_the_family() {
    isolated(|| {
        use_a_lock();
        for context in contexts() {
            let family = memory_files(own_pid());
            assert!(!family.is_empty());
            let (first, second) = (start_pool(&context, 2), start_pool(&context, 1));
            let mut seen = Vec::new();
            for pool in [&first, &second] {
                let files = pool.apply(files_of_two, ()).unwrap();
                for pid in pool.worker_pids() {
                    kill9(pid.cast_signed());
                }
                let replaced = pool.options().retries(9).apply(files_of_two, ()).unwrap();
                assert_eq!(files, replaced, "{context:?}");
                let [own, child] = files;
                assert!(
                    own == child && own.is_disjoint(&family),
                    "{context:?}: {family:?} {own:?} {child:?}"
                );
                // One that takes the place of a killed one may still be about to begin.
                let has_it = |pid: u32| memory_files(pid.cast_signed()) == own;
                eventually("all have the memory of the pool", || pool.worker_pids().into_iter().all(has_it));
                seen.extend(own);
            }
            assert!(seen.len() == 2 && seen[0] != seen[1], "each pool has memory of its own: {seen:?}");
            end(first);
            end(second);
        }
    });
}

/// Writes garbage over all memory that others could see, and dies.
fn scribble(seed: u64) {
    use_a_lock();
    write_garbage(seed);
    kill9(own_pid());
}

/// Uses shared memory, as far as there is anything left of it.
fn join_in() {
    let _ = Lock::new();
}

#[test]
fn a_worker_that_writes_wildly_spoils_nothing_of_the_family() {
    isolated(|| {
        small_arena();
        for context in contexts() {
            let mut counter = Counter::start(&context);
            for seed in 0..6 {
                let pool = Pool::builder().processes(2).context(&context).initializer(join_in, ());
                let pool = pool.isolated().start().unwrap();
                let error = pool.apply(scribble, (seed,)).unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::WorkerLost { .. }), "{context:?}: {error}");
                counter.check();
                // The other worker, which has used that memory, and the replacement, whose initializer does.
                assert_eq!(pool.map(|x: u64| x + 1, 0..100).unwrap().len(), 100, "{context:?}");
                eventually("it was replaced", || pool.worker_pids().len() == 2);
                end(pool);
            }
            counter.end();
        }
    });
}

/// The connections that the initializer was given.
static TABLE: OnceLock<[Connection; 2]> = OnceLock::new();

fn sit_down(one: Connection, other: Connection) {
    TABLE.set([one, other]).unwrap();
}

fn lay_down(number: u64) -> i32 {
    let queue = Queue::new().unwrap();
    queue.put(number).unwrap();
    TABLE.get().unwrap()[0].send(&queue).unwrap();
    own_pid()
}

fn take_up() -> (u64, i32) {
    let queue: Queue<u64> = TABLE.get().unwrap()[1].recv().unwrap();
    (queue.get().unwrap(), own_pid())
}

fn sum_of_child(up_to: u64) -> u64 {
    let queue = Queue::new().unwrap();
    let put_all = |queue: Queue<u64>, up_to: u64| (0..up_to).for_each(|number| queue.put(number).unwrap());
    let child = Process::spawn(put_all, (queue.clone(), up_to)).unwrap();
    let sum = (0..up_to).map(|_| queue.get().unwrap()).sum();
    child.join().unwrap();
    sum
}

/// Also if one of them has died since.
#[test]
fn workers_share_queues_with_each_other_and_with_what_they_start() {
    isolated(|| {
        for context in contexts() {
            let (one, other) = pipe().unwrap();
            let builder = Pool::builder().processes(1).context(&context);
            // The initializer keeps duplicates.
            let pool = builder.initializer(sit_down, (one, other)).isolated().start().unwrap();
            assert_eq!(pool.apply(sum_of_child, (1000,)).unwrap(), 499_500, "{context:?}");
            for number in 0..3 {
                let dead = pool.apply(lay_down, (number,)).unwrap();
                kill9(dead);
                let (found, pid) = pool.options().retries(9).apply(take_up, ()).unwrap();
                assert!(found == number && pid != dead, "{context:?}: {found} {number}");
            }
            eventually("queues end with their last handles", || {
                pool.apply(|| usage().unwrap().objects, ()).unwrap() == 0
            });
            end(pool);
        }
    });
}

fn use_it<T>(_: &T) {}

#[track_caller]
pub fn assert_isolated<T>(result: Result<T, Error>, of: &str) {
    let error = result.err().unwrap();
    let ErrorKind::Isolated { what } = error.kind() else { panic!("{error:?}") };
    assert!(what.contains(of), "{what}");
    assert!(error.to_string().contains("use a pool or a queue that is not isolated"), "{error}");
}

#[test]
fn a_task_with_a_handle_is_refused_and_nothing_is_lost() {
    isolated(|| {
        for context in contexts() {
            let pool = start_pool(&context, 1);
            let (lock, queue) = (Lock::new().unwrap(), Queue::<Connection>::new().unwrap());
            let (here, there) = pipe().unwrap();
            let before = fd_count();
            for _ in 0..100 {
                assert_isolated(pool.apply(use_it::<Lock>, (&lock,)), "task");
                assert_isolated(pool.apply_async(use_it::<Queue<Connection>>, (&queue,)), "task");
                assert_isolated(pool.apply(use_it::<Connection>, (&there,)), "task");
                assert_isolated(pool.map(use_it::<Lock>, [&lock, &lock]), "task");
            }
            let items = [None, Some(lock.clone()), None];
            let results = pool.imap(Option::is_none, &items).unwrap();
            let [first, second, third]: [_; 3] = results.collect::<Vec<_>>().try_into().unwrap();
            assert!(first.unwrap() && third.unwrap(), "{context:?}");
            assert_isolated(second, "task");
            assert_eq!(fd_count(), before);
            drop(there);
            here.recv::<()>().unwrap_err();
            drop((lock, queue, items));
            assert_eq!(usage().unwrap().objects, 0, "{context:?}");
            end(pool);
        }
    });
}

#[test]
fn an_initializer_takes_no_handles() {
    isolated(|| {
        for context in contexts() {
            let (lock, queue) = (Lock::new().unwrap(), Queue::<u8>::new().unwrap());
            let builder = || Pool::builder().processes(2).context(&context);
            // In whatever order they are asked for.
            assert_isolated(builder().initializer(use_it::<Lock>, (&lock,)).isolated().start(), "argument");
            assert_isolated(
                builder().isolated().initializer(use_it::<Queue<u8>>, (&queue,)).start(),
                "argument",
            );
            drop((lock, queue));
            assert_eq!(usage().unwrap().objects, 0);
        }
    });
}

/// They go beside its bytes, whatever the pool is.
#[test]
fn connections_of_an_initializer_reach_each_worker() {
    isolated(|| {
        let ordinary = crate::family::contexts().map(|context| Pool::builder().context(&context));
        let isolated = contexts().map(|context| Pool::builder().context(&context).isolated());
        for builder in ordinary.into_iter().chain(isolated) {
            let (here, there) = pipe().unwrap();
            let tell = |end: Connection| end.send(&own_pid()).unwrap();
            let pool = builder.processes(2).initializer(tell, (there,)).start().unwrap();
            let mut told: BTreeSet<i32> = (0..2).map(|_| here.recv().unwrap()).collect();
            kill9(*told.first().unwrap());
            assert!(told.insert(here.recv().unwrap()), "a replacement is told too");
            end(pool);
            eventually("no end of it is left", || here.poll().unwrap());
            here.recv::<i32>().unwrap_err();
        }
    });
}

#[test]
fn a_result_with_a_handle_is_an_error_and_leaves_nothing() {
    isolated(|| {
        use_a_lock();
        for context in contexts() {
            let pool = start_pool(&context, 1);
            let refused = |error: Error| {
                let ErrorKind::BadResult { reason } = error.kind() else { panic!("{error:?}") };
                assert!(reason.contains("isolated"), "{context:?}: {reason}");
            };
            let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
            use_up(&pool);
            let before = pool.apply(descriptors, ()).unwrap();
            for _ in 0..100 {
                refused(pool.apply(|| Lock::new().unwrap(), ()).unwrap_err());
                refused(pool.apply(|| pipe().unwrap(), ()).unwrap_err());
                refused(pool.map(|_: u8| Queue::<u8>::new().unwrap(), 0..3).unwrap_err());
            }
            let mixed = pool.map(|x: u8| (x == 1).then(|| Lock::new().unwrap()), [0, 1, 2]);
            refused(mixed.unwrap_err());
            assert_eq!(pool.apply(|| usage().unwrap().objects, ()).unwrap(), 0, "{context:?}");
            assert_eq!(pool.apply(descriptors, ()).unwrap(), before, "{context:?}");
            end(pool);
        }
    });
}

/// Has the worker open once what it keeps open.
fn use_up(pool: &Pool) {
    pool.apply(|| pipe().unwrap(), ()).unwrap_err();
}

/// A handle that comes to a worker on a way of its own.
#[test]
fn a_handle_of_the_family_is_nothing_to_a_worker() {
    isolated(|| {
        for context in contexts() {
            let (here, there) = pipe().unwrap();
            let read = |end: Connection| {
                let error = end.recv::<Lock>().unwrap_err();
                end.send(&error.to_string()).unwrap();
                leave(0);
            };
            let pool = Pool::builder().processes(1).context(&context).initializer(read, (there,)).isolated();
            let pool = pool.start().unwrap();
            here.send(&Lock::new().unwrap()).unwrap();
            let error: String = here.recv().unwrap();
            assert!(error.contains("another family"), "{context:?}: {error}");
            pool.terminate();
            pool.join().unwrap();
        }
    });
}

#[track_caller]
fn assert_fork_is_refused(result: Result<Pool, Error>) {
    let error = result.unwrap_err();
    let ErrorKind::NotSupported { method: "fork", reason } = error.kind() else { panic!("{error:?}") };
    assert!(reason.contains("forkserver"), "{reason}");
}

/// However it was chosen.
#[test]
fn copies_of_this_process_cannot_be_isolated() {
    isolated(|| {
        let before = fd_count();
        let by_fork = Context::new(StartMethod::Fork).allow_threads();
        assert_fork_is_refused(Pool::builder().context(&by_fork).isolated().start());
        assert_fork_is_refused(by_fork.pool().isolated().start());
        eventually("nothing is left", || fd_count() == before);
        let by_default = || {
            force_start_method(StartMethod::Fork).unwrap();
            assert_fork_is_refused(Pool::builder().processes(1).isolated().start());
            // The default of replacements is that of the beginning.
            force_start_method(StartMethod::Spawn).unwrap();
            let pool = Pool::builder().processes(1).isolated().start().unwrap();
            force_start_method(StartMethod::Fork).unwrap();
            let dead = pool.worker_pids()[0].cast_signed();
            kill9(dead);
            let pid = pool.options().retries(9).apply(own_pid, ()).unwrap();
            assert_ne!(pid, dead);
            end(pool);
        };
        run(&Context::new(StartMethod::Spawn), by_default, ());
        // A child by fork begins with that method as its default.
        run(&by_fork, || assert_fork_is_refused(Pool::builder().processes(1).isolated().start()), ());
    });
}

static HAS_LOADED: AtomicBool = AtomicBool::new(false);

/// The fork server has none of the family's memory, so what it makes is nobody's.
#[test]
fn preload_that_uses_locks_is_refused_and_another_is_seen_by_workers() {
    isolated(|| {
        let preloaded = |with_lock: bool| {
            let load = || HAS_LOADED.store(true, Ordering::Relaxed);
            let load_lock = || drop(Lock::new().unwrap());
            if with_lock {
                set_forkserver_preload_with(load_lock, OnPreloadError::Ignore).unwrap();
            } else {
                set_forkserver_preload_with(load, OnPreloadError::Ignore).unwrap();
            }
            let context = Context::new(StartMethod::ForkServer);
            use_a_lock();
            let family = memory_files(own_pid());
            let pool = Pool::builder().processes(1).context(&context).isolated().start();
            let pool = pool.map_err(|error| error.to_string())?;
            let has_loaded = pool.apply(|| HAS_LOADED.load(Ordering::Relaxed), ()).unwrap();
            let files = pool.apply(files_of_two, ()).unwrap();
            assert!(has_loaded && files.iter().all(|files| files.is_disjoint(&family)));
            end(pool);
            Ok::<_, String>(())
        };
        let by_spawn = Context::new(StartMethod::Spawn);
        run(&by_spawn, preloaded, (false,)).unwrap();
        let error = run(&by_spawn, preloaded, (true,)).unwrap_err();
        assert!(error.contains("used a lock or a queue"), "{error}");
    });
}

#[test]
fn isolated_pools_leave_no_descriptor() {
    isolated(|| {
        for context in contexts() {
            let once = || {
                let pool = start_pool(&context, 1);
                pool.apply(use_a_lock, ()).unwrap();
                end(pool);
            };
            once();
            let before = fd_count();
            (0..50).for_each(|_| once());
            eventually("all is closed", || fd_count() <= before);
        }
    });
}

/// A worker in the middle of using its memory ends with its family, as any other.
#[test]
fn isolated_workers_end_with_a_parent_that_is_killed() {
    isolated(|| {
        for context in contexts() {
            let (here, there) = pipe().unwrap();
            let head = |there: Connection, method: StartMethod| {
                let pool = start_pool(&Context::new(method), 2);
                let pending = pool.apply_async(
                    || {
                        let lock = Lock::new().unwrap();
                        let _guard = lock.acquire().unwrap();
                        park_forever();
                    },
                    (),
                );
                there.send(&pool.worker_pids()).unwrap();
                drop(pending);
                park_forever();
            };
            let head = start(&context, head, (there, context.start_method()));
            let workers: Vec<u32> = here.recv().unwrap();
            assert_eq!(workers.len(), 2);
            head.kill().unwrap();
            head.join().unwrap();
            eventually("they are gone", || {
                workers.iter().all(|pid| crate::support::is_gone(pid.cast_signed()))
            });
        }
    });
}
