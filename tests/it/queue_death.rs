//! Queues whose users end, at once or by a signal; and queues with more in them than fits anywhere else.

use crate::family::{contexts, start};
use crate::support::{eventually, isolated};
use nix::sys::resource::{Resource, setrlimit};
use procession::prelude::*;
use std::time::Duration;

const MIB: usize = 1 << 20;

/// Length of a small arena, which is as long as a file may be. What is no message takes up to a third of it.
const SMALL: usize = 20 * MIB;

/// Makes the arena small, which is made later.
fn small_arena() {
    setrlimit(Resource::RLIMIT_FSIZE, SMALL as u64, SMALL as u64).unwrap();
}

fn put_many(queue: Queue<Vec<u8>>, count: u32, length: usize) {
    for number in 0..count {
        queue.put(message(number, length)).unwrap();
    }
    queue.close();
    queue.join_thread().unwrap();
}

/// Its beginning says which one it is, and so does its end.
fn message(number: u32, length: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; length];
    bytes[..4].copy_from_slice(&number.to_ne_bytes());
    bytes[length - 4..].copy_from_slice(&number.to_ne_bytes());
    bytes
}

/// Q13, D6, FC5: in Python, a process with unread messages does not end, and whoever joins it first waits for ever.
#[test]
fn what_a_process_has_put_is_there_after_its_end() {
    isolated(|| {
        let (count, length) = (1 << 14, 64 << 10);
        let queue = Queue::new().unwrap();
        Process::spawn(put_many, (queue.clone(), count, length)).unwrap().result().unwrap();
        assert_eq!(queue.len(), count as usize);
        for number in 0..count {
            assert!(queue.get().unwrap() == message(number, length), "{number}");
        }
    });
}

fn put_and_die(queue: Queue<Vec<u8>>, length: usize) {
    queue.put(message(7, length)).unwrap();
    nix::sys::signal::raise(nix::sys::signal::SIGKILL).unwrap();
}

/// Q14, D5: what a killed process has put is there, small or large.
#[test]
fn what_a_killed_process_has_put_is_there() {
    isolated(|| {
        for context in contexts() {
            for length in [10, 100_000, 3 * MIB] {
                let queue = Queue::new().unwrap();
                let process = start(&context, put_and_die, (queue.clone(), length));
                assert!(queue.get().unwrap() == message(7, length));
                process.join().unwrap();
                assert!(queue.is_empty());
            }
        }
    });
}

fn send_back(from: Queue<Vec<u8>>, to: Queue<Vec<u8>>) {
    to.put(from.get().unwrap()).unwrap();
}

/// Around the lengths at which a message is put in another way: a record, a segment, two segments.
#[test]
fn messages_of_all_lengths_arrive_whole() {
    isolated(|| {
        let edges = [0, 128 << 10, 256 << 10, 512 << 10, 5 * MIB];
        let lengths =
            edges.into_iter().flat_map(|edge: usize| (edge.saturating_sub(20).max(4)..edge + 20).step_by(3));
        let (there, back) = (Queue::new().unwrap(), Queue::new().unwrap());
        for length in lengths {
            there.put(message(length as u32, length)).unwrap();
            back.put(there.get().unwrap()).unwrap();
            assert!(back.get().unwrap() == message(length as u32, length), "{length}");
        }
        for context in contexts() {
            let process = start(&context, send_back, (there.clone(), back.clone()));
            there.put(message(3, 20 * MIB)).unwrap();
            assert!(back.get().unwrap() == message(3, 20 * MIB), "{context:?}");
            process.result().unwrap();
        }
    });
}

#[test]
fn a_message_of_a_gibibyte_arrives() {
    isolated(|| {
        let queue = Queue::new().unwrap();
        let process = Process::spawn(put_many, (queue.clone(), 1, 1 << 30)).unwrap();
        let bytes = queue.get().unwrap();
        assert_eq!(bytes.len(), 1 << 30);
        assert!(
            bytes[..4] == bytes[(1 << 30) - 4..] && bytes[4..bytes.len() - 4].iter().all(|byte| *byte == 0)
        );
        process.result().unwrap();
    });
}

/// Gets from the queue if it is empty, puts into it if it is full; says so before and after.
fn wait_for_it(queue: Queue<u32>, there: Connection) {
    let is_full = queue.is_full();
    there.send(&0_u32).unwrap();
    let done = if is_full { queue.put(5).map(|()| 5).unwrap() } else { queue.get().unwrap() };
    there.send(&done).unwrap();
}

/// FC2: two wait, one of them is killed; the message is for the other one, and so is the place.
#[test]
fn a_killed_waiter_takes_no_message_and_no_place_with_it() {
    isolated(|| {
        let [empty, full] = [Queue::new().unwrap(), Queue::bounded(1).unwrap()];
        full.put(4).unwrap();
        let two = |queue: &Queue<u32>| {
            [(); 2].map(|()| {
                let (here, there) = pipe().unwrap();
                let process = Process::spawn(wait_for_it, (queue.clone(), there)).unwrap();
                here.recv::<u32>().unwrap();
                (process, here)
            })
        };
        let [killed, getter] = two(&empty);
        killed.0.kill().unwrap();
        killed.0.join().unwrap();
        empty.put(77).unwrap();
        assert_eq!(getter.1.recv::<u32>().unwrap(), 77);
        let [killed, putter] = two(&full);
        killed.0.kill().unwrap();
        killed.0.join().unwrap();
        assert_eq!(full.get().unwrap(), 4);
        assert_eq!(putter.1.recv::<u32>().unwrap(), 5);
        assert_eq!(full.get().unwrap(), 5);
        [getter.0, putter.0].into_iter().for_each(|process| process.result().unwrap());
    });
}

/// FC6: no SIGBUS, no wait; and what was taken out makes room.
#[test]
fn a_queue_that_takes_all_the_memory_there_is_says_so() {
    isolated(|| {
        small_arena();
        for length in [1000, 100_000, MIB] {
            let queue = Queue::new().unwrap();
            let refused = loop {
                if let Err(refused) = queue.put(message(0, length)) {
                    break refused;
                }
            };
            let &ErrorKind::OutOfSpace { want, have, limit } = refused.kind() else {
                panic!("{refused}");
            };
            assert!(want >= length as u64 && have <= limit && limit < SMALL as u64, "{refused}");
            assert!(refused.into_value() == message(0, length));
            assert!(queue.len() * length > 8 * MIB, "{} of {length}", queue.len());
            let there = queue.len();
            for _ in 0..there {
                assert!(queue.get().unwrap() == message(0, length));
            }
            // What was taken out makes room for as much, but for a segment that is used in part.
            for _ in 0..there * 9 / 10 {
                queue.put(message(1, length)).unwrap();
            }
        }
    });
}

/// Its memory ends with a queue.
#[test]
fn a_thousand_queues_with_something_in_them_take_turns() {
    isolated(|| {
        small_arena();
        for number in 0..1000 {
            let queue = Queue::new().unwrap();
            queue.put(message(number, 10)).unwrap();
            queue.put(message(number, 4 * MIB)).unwrap();
            assert_eq!(queue.len(), 2);
        }
    });
}

fn put_on_and_on(queue: Queue<Vec<u8>>) {
    for number in 0.. {
        queue.put(message(number, 3 * MIB)).unwrap();
    }
}

fn get_on_and_on(queue: Queue<Vec<u8>>) {
    loop {
        queue.get().unwrap();
    }
}

/// FC3, FC4: whatever they were writing and reading when they were killed, its memory is there for others.
#[test]
fn the_memory_of_killed_writers_and_readers_comes_back() {
    isolated(|| {
        small_arena();
        let queue = Queue::bounded(1).unwrap();
        for rounds in 0..12 {
            let writer = Process::spawn(put_on_and_on, (queue.clone(),)).unwrap();
            for _ in 0..rounds % 4 {
                queue.get().unwrap();
            }
            let reader = Process::spawn(get_on_and_on, (queue.clone(),)).unwrap();
            let first = if rounds % 2 == 0 { &writer } else { &reader };
            first.kill().unwrap();
            [&writer, &reader].into_iter().for_each(|process| process.kill().unwrap());
            [&writer, &reader].into_iter().for_each(|process| process.join().unwrap());
            // A lock may still be theirs, and so may memory, until somebody has swept.
            eventually("all the memory is there again", || {
                while queue.try_get().is_ok() {}
                queue.is_empty() && queue.put_timeout(message(0, 12 * MIB), Duration::ZERO).is_ok()
            });
            assert!(queue.get().unwrap() == message(0, 12 * MIB));
        }
    });
}
