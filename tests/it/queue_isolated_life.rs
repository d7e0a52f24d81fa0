//! Isolated queues come and go, in this process and in its copies, and leave nothing.

use crate::actor_async::block_on;
use crate::family::{contexts, leave, park_forever, start};
use crate::support::{Options, amount, eventually, fd_count, isolated, isolated_with, memory_of, own_pid};
use procession::prelude::*;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// How many threads of this process learn of the deaths of others.
pub fn keepers() -> usize {
    let names = fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path().join("comm"));
    names.filter(|name| fs::read_to_string(name).is_ok_and(|name| name.trim() == "procession-keep")).count()
}

/// While others use a queue of which this process drops all handles and gets new ones.
fn echo(from: Queue<u64>, to: Queue<u64>) {
    from.iter()
        .map(Result::unwrap)
        .take_while(|number| *number != 0)
        .for_each(|number| to.put(number).unwrap());
}

#[test]
fn handles_come_and_go_while_others_go_on() {
    isolated(|| {
        for context in contexts() {
            let (keeper, line) = pipe().unwrap();
            let (there, back) = (Queue::isolated().unwrap(), Queue::isolated().unwrap());
            let process = start(&context, echo, (there.clone(), back.clone()));
            keeper.send(&(there, back)).unwrap();
            for number in 1..=200 {
                let (there, back): (Queue<u64>, Queue<u64>) = line.recv().unwrap();
                there.put(number).unwrap();
                assert_eq!(back.get().unwrap(), number, "{context:?}");
                keeper.send(&(there, back)).unwrap();
            }
            let (there, _back): (Queue<u64>, Queue<u64>) = line.recv().unwrap();
            there.put(0).unwrap();
            process.result().unwrap();
        }
    });
}

/// Lines of /proc/self/maps, descriptors, and KiB of shared and of other memory.
fn figures() -> [u64; 4] {
    let maps = fs::read_to_string("/proc/self/maps").unwrap().lines().count() as u64;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let shared = status.lines().find_map(|line| line.strip_prefix("RssShmem:")?.strip_suffix("kB")).unwrap();
    [maps, fd_count() as u64, shared.trim().parse().unwrap(), memory_of(own_pid()).unwrap()]
}

/// Makes a queue, uses it, and drops it: with a thread and with a task that wait.
fn come_and_go(number: u64) {
    let queue = Queue::isolated().unwrap();
    let waiting = queue.clone();
    if number.is_multiple_of(20) {
        let waiter = thread::spawn(move || [waiting.get().unwrap(), block_on(waiting.get_async()).unwrap()]);
        queue.put(number).unwrap();
        queue.put(number + 1).unwrap();
        assert_eq!(waiter.join().unwrap(), [number, number + 1]);
    } else {
        waiting.put(number).unwrap();
        assert_eq!(queue.get().unwrap(), number);
        queue.put(3).unwrap();
    }
}

#[test]
fn nothing_grows_with_the_queues_that_were_made_and_dropped() {
    const BATCH: u64 = 50;
    let options = Options { watchdog: Duration::from_secs(amount(60, 600)), ..Options::default() };
    isolated_with(options, || {
        let batch = |number: u64| {
            (0..BATCH).for_each(|inner| come_and_go(number * BATCH + inner));
            // Keepers end by themselves, a moment later; until then their addresses are not used again.
            eventually("the keepers have ended", || keepers() == 0);
        };
        (0..4).for_each(batch);
        let before = figures();
        (4..amount(80, 2000)).for_each(batch);
        let after = figures();
        eprintln!("maps, descriptors, shared and other KiB: {before:?}, {after:?}");
        // As many addresses as there were queues before their keepers had ended, each with two maps: not more than a batch.
        assert!(after[0] <= before[0] + 2 * BATCH + 10, "{before:?} {after:?}");
        assert!(after[1] <= before[1] && after[2] <= before[2] + 1024, "{before:?} {after:?}");
        assert!(after[3] <= before[3] + 2048, "{before:?} {after:?}");
    });
}

#[test]
fn a_copy_is_outside_until_it_uses_the_queue_and_its_last_handle_ends_its_part() {
    isolated(|| {
        let (from, to) = (Queue::<u64>::isolated().unwrap(), Queue::<u64>::isolated().unwrap());
        from.put(1).unwrap();
        // The copy has all handles that are alive here, and drops those that it captures; so there are no others.
        let (keeper, line) = pipe().unwrap();
        keeper.send(&(from.clone(), to.clone())).unwrap();
        let copy = Process::fork_builder(move || {
            to.put(from.get().unwrap() + 1).unwrap();
            let joined = keepers();
            drop((from, to));
            eventually("its keepers have ended", || keepers() == 0);
            (joined, Queue::isolated().map(|queue| queue.put(5)).is_ok())
        });
        let copy = copy.allow_threads().start().unwrap();
        assert_eq!(copy.result().unwrap(), (2, true));
        let (there, back): (Queue<u64>, Queue<u64>) = line.recv().unwrap();
        assert_eq!(back.get().unwrap(), 2);
        // One that never uses it, has handles of which it knows nothing, and is killed.
        let copy = Process::fork_builder(park_forever).allow_threads().start().unwrap();
        there.put(7).unwrap();
        copy.kill().unwrap();
        copy.join().unwrap();
        assert_eq!(there.get().unwrap(), 7);
        // One that leaves without dropping anything.
        let from = there.clone();
        let copy = Process::fork_builder(move || {
            from.get().unwrap();
            if from.is_empty() {
                leave(3);
            }
        });
        let copy = copy.allow_threads().start().unwrap();
        there.put(8).unwrap();
        copy.join().unwrap();
        assert!(there.is_empty() && copy.exitcode() == Some(3));
    });
}

/// Copies that are made while handles are dropped find everything whole.
#[test]
fn copies_may_be_made_while_queues_come_and_go() {
    isolated(|| {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    come_and_go(number);
                    number += 1;
                }
            });
            for number in 0..60 {
                let copy = Process::fork_builder(move || (number..number + 5).for_each(come_and_go));
                copy.allow_threads().start().unwrap().result().unwrap();
            }
            stop.store(true, Ordering::Relaxed);
        });
    });
}
