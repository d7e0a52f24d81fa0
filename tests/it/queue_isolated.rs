//! Queues with memory of their own: they work as others do, go where descriptors go, and nothing that is written there reaches the
//! rest of the family.

use crate::actor_async::block_on;
use crate::family::{contexts, run, start};
use crate::handles::small_arena;
use crate::pool_isolated::{assert_isolated, contexts as contexts_apart};
use crate::queue_isolated_life::keepers;
use crate::support::{amount, eventually, fd_count, isolated, kill9, own_pid};
use crate::wild::{Counter, mapped_memory, open_memory, use_a_lock, write_garbage};
use procession::prelude::*;
use procession_ipc::usage;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::OnceLock;
use std::time::Duration;

/// The files of isolated queues, as others than the family's are told.
fn files(family: &BTreeSet<u64>) -> BTreeSet<u64> {
    open_memory(own_pid()).difference(family).copied().collect()
}

fn put_all(queue: Queue<(u64, u64)>, producer: u64, numbers: Range<u64>) {
    numbers.for_each(|number| queue.put((producer, number)).unwrap());
}

fn get_some(from: Queue<(u64, u64)>, to: Queue<Vec<(u64, u64)>>, count: usize) {
    to.put((0..count).map(|_| from.get().unwrap()).collect()).unwrap();
}

#[test]
fn each_message_arrives_once_and_in_the_order_of_its_producer() {
    const EACH: u64 = 3000;
    isolated(|| {
        for context in contexts() {
            for most in [None, Some(5)] {
                let queue = most.map_or_else(Queue::isolated, Queue::isolated_bounded).unwrap();
                let results = Queue::isolated().unwrap();
                let getters = [(); 2]
                    .map(|()| start(&context, get_some, (queue.clone(), results.clone(), EACH as usize)));
                let putters = [0, 1].map(|number| start(&context, put_all, (queue.clone(), number, 0..EACH)));
                let mut all = Vec::new();
                for _ in getters {
                    let got = results.get().unwrap();
                    for producer in [0, 1] {
                        let own = got.iter().filter(|(from, _)| *from == producer);
                        assert!(own.is_sorted(), "{context:?}");
                    }
                    all.extend(got);
                }
                putters.into_iter().for_each(|putter| putter.result().unwrap());
                all.sort_unstable();
                let expected: Vec<_> =
                    (0..2).flat_map(|from| (0..EACH).map(move |number| (from, number))).collect();
                assert!(all == expected && queue.is_empty(), "{context:?} {most:?}");
            }
        }
    });
}

#[test]
fn a_bound_and_the_verbs_are_those_of_other_queues() {
    isolated(|| {
        assert!(matches!(Queue::<u8>::isolated_bounded(0).unwrap_err().kind(), ErrorKind::Zero { .. }));
        let queue = Queue::isolated_bounded(2).unwrap();
        queue.put("a".to_owned()).unwrap();
        queue.put_timeout("b".to_owned(), Duration::from_secs(1)).unwrap();
        let refused = queue.try_put("c".to_owned()).unwrap_err();
        assert_eq!(refused.kind(), &ErrorKind::Full);
        assert_eq!(refused.into_value(), "c");
        assert!(queue.is_full() && queue.len() == 2);
        // Its own memory is small, and no message is too long for it.
        let large = vec![7_u8; 3 << 20];
        let other = Queue::isolated().unwrap();
        other.put(large.clone()).unwrap();
        assert!(other.get().unwrap() == large);
        assert_eq!(other.get_timeout(Duration::from_millis(1)).unwrap_err().kind(), &ErrorKind::Empty);
        queue.close();
        assert_eq!(queue.put("d".to_owned()).unwrap_err().kind(), &ErrorKind::QueueClosed);
        assert_eq!(queue.iter().collect::<Result<Vec<_>, _>>().unwrap(), ["a", "b"]);
    });
}

/// Puts or gets until it is killed.
fn use_it(queue: Queue<u64>, ready: Queue<()>, puts: bool) {
    ready.put(()).unwrap();
    loop {
        if puts {
            let _ = queue.try_put(1);
        } else {
            let _ = queue.try_get();
        }
    }
}

#[test]
fn those_who_are_killed_in_the_middle_stop_nobody() {
    isolated(|| {
        for context in contexts() {
            let (queue, ready) = (Queue::isolated_bounded(50).unwrap(), Queue::isolated().unwrap());
            for round in 0..amount(40, 1000) {
                let user = start(&context, use_it, (queue.clone(), ready.clone(), round % 2 == 0));
                ready.get().unwrap();
                for _ in 0..round % 7 * 20 {
                    let _ = queue.try_put(2);
                    let _ = queue.try_get();
                }
                user.kill().unwrap();
                user.join().unwrap();
                // Whatever it held is taken over.
                while queue.try_get().is_ok() {}
                queue.put(round).unwrap();
                assert_eq!(queue.get().unwrap(), round, "{context:?}");
            }
        }
    });
}

fn wait_for_it(queue: Queue<u64>, ready: Queue<()>) {
    ready.put(()).unwrap();
    queue.get().unwrap();
    ready.put(()).unwrap();
}

/// A wake-up that was given to one who is killed is given again.
#[test]
fn a_killed_waiter_takes_no_message_with_it() {
    isolated(|| {
        for context in contexts() {
            let (queue, ready) = (Queue::isolated().unwrap(), Queue::isolated().unwrap());
            for _ in 0..10 {
                let [first, second] =
                    [(); 2].map(|()| start(&context, wait_for_it, (queue.clone(), ready.clone())));
                ready.get().unwrap();
                ready.get().unwrap();
                first.kill().unwrap();
                queue.put(1).unwrap();
                first.join().unwrap();
                // The one who was killed may have had the first one in its hands already.
                queue.put(2).unwrap();
                second.result().unwrap();
                while ready.try_get().is_ok() {}
                while queue.try_get().is_ok() {}
            }
        }
    });
}

#[derive(Serialize, Deserialize)]
struct Named {
    name: String,
    queue: Queue<u64>,
}

fn make_one(number: u64) -> Named {
    let queue = Queue::isolated().unwrap();
    queue.put(number).unwrap();
    Named { name: number.to_string(), queue }
}

fn double(named: Named) -> Named {
    named.queue.put(named.queue.get().unwrap() * 2).unwrap();
    named
}

fn double_over(line: Connection) {
    line.send(&double(line.recv().unwrap())).unwrap();
}

fn double_from(from: Queue<Named>, to: Queue<Named>) {
    to.put(double(from.get().unwrap())).unwrap();
}

#[test]
fn a_handle_goes_wherever_a_descriptor_goes() {
    isolated(|| {
        use_a_lock();
        let family = open_memory(own_pid());
        for context in contexts() {
            let named: Named = run(&context, make_one, (1,));
            let named: Named = run(&context, double, (named,));
            let (here, there) = pipe().unwrap();
            let process = start(&context, double_over, (there,));
            here.send(&named).unwrap();
            let by_line: Named = here.recv().unwrap();
            process.result().unwrap();
            let (there, back) = (Queue::new().unwrap(), Queue::new().unwrap());
            let process = start(&context, double_from, (there.clone(), back.clone()));
            there.put(by_line).unwrap();
            let by_queue = back.get().unwrap();
            process.result().unwrap();
            let pool = Pool::builder().processes(1).context(&context).start().unwrap();
            let by_pool = pool.apply(double, (by_queue,)).unwrap();
            let [by_map] = pool.map(double, [by_pool]).unwrap().try_into().ok().unwrap();
            pool.close();
            pool.join().unwrap();
            assert_eq!((by_map.name.as_str(), by_map.queue.get().unwrap()), ("1", 32), "{context:?}");
            assert!(named.queue.is_empty() && files(&family).len() == 1, "all this is one queue");
            drop((named, by_map));
            eventually("its memory is nobody's", || files(&family).is_empty());
        }
    });
}

fn leave_one(to: Queue<Queue<u64>>, number: u64) {
    let queue = Queue::isolated().unwrap();
    (0..number).for_each(|number| queue.put(number).unwrap());
    to.put(queue).unwrap();
    kill9(own_pid());
}

#[test]
fn a_queue_in_a_queue_arrives_after_the_end_of_its_sender() {
    isolated(|| {
        for context in contexts() {
            let queues = Queue::new().unwrap();
            for number in 1..6 {
                start(&context, leave_one, (queues.clone(), number)).join().unwrap();
                let queue = queues.get().unwrap();
                assert_eq!(queue.len() as u64, number, "{context:?}");
                queue.close();
                assert!(queue.iter().map(Result::unwrap).eq(0..number), "{context:?}");
            }
        }
    });
}

fn is_it<T>(_: &T) {}

#[test]
fn what_is_no_value_is_refused_and_nothing_is_lost() {
    isolated(|| {
        let queue = Queue::<Option<Lock>>::isolated().unwrap();
        let queues = Queue::<Vec<Queue<u8>>>::isolated().unwrap();
        let lines = Queue::<(u8, Connection)>::isolated().unwrap();
        let (lock, line) = (Lock::new().unwrap(), pipe().unwrap());
        let mut end = line.1;
        let before = fd_count();
        for _ in 0..100 {
            let refused = queue.put(Some(lock.clone())).unwrap_err();
            assert!(refused.into_value().is_some());
            assert_isolated(queue.try_put(Some(lock.clone())).map_err(Error::from), "message");
            for inner in [Queue::new().unwrap(), Queue::isolated().unwrap()] {
                let refused = queues.put(vec![inner]).unwrap_err();
                assert!(matches!(refused.kind(), ErrorKind::Isolated { .. }));
            }
            let refused = lines.put_timeout((1, end), Duration::from_secs(1)).unwrap_err();
            assert!(matches!(refused.kind(), ErrorKind::Isolated { .. }), "{refused:?}");
            end = refused.into_value().1;
            let refused = block_on(lines.put_async((1, end))).unwrap_err();
            end = refused.into_value().1;
        }
        assert!(queue.is_empty() && queues.is_empty() && lines.is_empty());
        eventually("no descriptor is left", || fd_count() == before);
        end.send(&7_u8).unwrap();
        assert_eq!(line.0.recv::<u8>().unwrap(), 7);
        queue.put(None).unwrap();
        assert!(queue.get().unwrap().is_none());
        drop(lock);
        assert_eq!(usage().unwrap().objects, 0);
    });
}

/// The queues that the initializer was given.
static DESK: OnceLock<(Queue<u64>, Queue<u64>)> = OnceLock::new();

fn sit_down(from: Queue<u64>, to: Queue<u64>) {
    DESK.set((from, to)).unwrap();
}

fn work(count: u64) -> i32 {
    let (from, to) = DESK.get().unwrap();
    (0..count).for_each(|_| to.put(from.get().unwrap() + 1).unwrap());
    own_pid()
}

#[test]
fn an_isolated_pool_takes_it_for_the_initializer_and_in_no_task() {
    isolated(|| {
        for context in contexts_apart() {
            let (there, back) = (Queue::isolated().unwrap(), Queue::isolated().unwrap());
            let builder = Pool::builder().processes(1).context(&context).isolated();
            let pool = builder.initializer(sit_down, (there.clone(), back.clone())).start().unwrap();
            let work = |numbers: Range<u64>| {
                let pending = pool.options().retries(9).apply_async(work, (10,)).unwrap();
                numbers.clone().for_each(|number| there.put(number).unwrap());
                assert!(numbers.map(|number| number + 1).eq((0..10).map(|_| back.get().unwrap())));
                pending.get().unwrap()
            };
            let first = work(0..10);
            kill9(first);
            assert_ne!(work(10..20), first, "a replacement is given them too");
            for _ in 0..10 {
                assert_isolated(pool.apply(is_it::<Queue<u64>>, (&there,)), "task");
                assert_isolated(pool.map(is_it::<Queue<u64>>, [&there]), "task");
            }
            let result = pool.apply(|| Queue::<u8>::isolated().unwrap(), ()).unwrap_err();
            assert!(matches!(result.kind(), ErrorKind::BadResult { .. }), "{result}");
            pool.close();
            pool.join().unwrap();
        }
    });
}

/// Uses the queue, and then writes over all memory that it could reach. Says what memory that was.
fn write_wildly(queue: Queue<u64>, told: Connection, seed: u64) {
    assert_eq!(queue.get().unwrap(), seed);
    queue.put(seed + 1).unwrap();
    told.send(&(mapped_memory(own_pid()), open_memory(own_pid()))).unwrap();
    write_garbage(seed);
    kill9(own_pid());
}

/// What becomes of whoever uses a queue that was written over is no matter, as long as it goes on.
fn try_all(queue: &Queue<u64>) {
    const SHORT: Duration = Duration::from_millis(20);
    for number in 0..3 {
        let _ = queue.put_timeout(number, SHORT);
        let _ = queue.get_timeout(SHORT);
        let _ = (queue.len(), queue.is_full(), queue.is_empty(), format!("{queue:?}"));
    }
}

#[test]
fn a_process_that_has_isolated_queues_alone_spoils_nothing_of_the_family() {
    isolated(|| {
        small_arena();
        use_a_lock();
        let family = mapped_memory(own_pid());
        for context in contexts_apart() {
            let mut counter = Counter::start(&context);
            for seed in 0..6 {
                let queue = Queue::isolated().unwrap();
                let (told, tell) = pipe().unwrap();
                let wild = start(&context, write_wildly, (queue.clone(), tell, seed));
                queue.put(seed).unwrap();
                let (mapped, open): (BTreeSet<u64>, BTreeSet<u64>) = told.recv().unwrap();
                assert!(mapped.len() == 1 && mapped.is_disjoint(&family), "{family:?} {mapped:?}");
                assert!(open.is_superset(&mapped), "its start gave it the descriptor of the family's");
                wild.join().unwrap();
                assert_eq!(wild.exitcode(), Some(-9), "{context:?}");
                try_all(&queue);
                drop(queue);
                eventually("its keeper ends whatever it finds", || keepers() == 1);
                counter.check();
            }
            counter.end();
        }
    });
}

/// The family's budget and this one's have nothing to do with each other.
#[test]
fn its_memory_has_a_limit_of_its_own() {
    isolated(|| {
        small_arena();
        let (family, own) = (Queue::new().unwrap(), Queue::isolated().unwrap());
        let message = vec![1_u8; 100_000];
        let fill = |queue: &Queue<Vec<u8>>| (0..).find_map(|_| queue.put(message.clone()).err()).unwrap();
        assert!(matches!(fill(&own).kind(), ErrorKind::OutOfSpace { .. }));
        assert!(own.len() > 3);
        assert!(matches!(fill(&family).kind(), ErrorKind::OutOfSpace { .. }));
        assert!(own.get().unwrap() == message && family.get().unwrap() == message);
    });
}
