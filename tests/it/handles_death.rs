//! Handles of shared objects in the hands of processes that are killed: nothing outlives its last holder.
//!
//! Each test has an arena so small that 64 objects fill it, and makes more of them than that.

use crate::family::{contexts, park_forever, start};
use crate::handles::{ROOM, are_left, nothing_is_left, room, small_arena};
use crate::support::{Chance, eventually, isolated, kill9};
use procession::prelude::*;
use procession::{ChildSpec, Context, Supervisor};
use std::time::{Duration, Instant};

/// More than there is room for.
const DEATHS: usize = 80;

fn stay(lock: Lock, queue: Queue<Lock>) {
    drop((lock, queue));
    park_forever();
}

/// Waits without giving the processor away: for a random part of the time that a start takes.
fn a_moment(chance: &mut Chance, most: Duration) {
    let end = Instant::now() + Duration::from_nanos(chance.below(most.as_nanos() as u64));
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

fn kill_as_it_starts(context: &Context, chance: &mut Chance, most: Duration) {
    let queue = Queue::new().unwrap();
    queue.put(Lock::new().unwrap()).unwrap();
    let process = start(context, stay, (Lock::new().unwrap(), queue.clone()));
    a_moment(chance, most);
    process.kill().unwrap();
    process.join().unwrap();
    drop(queue.get().unwrap());
}

/// Before it knows of them, while it takes them, and when it has them.
#[test]
fn what_a_process_is_started_with_ends_whenever_it_is_killed() {
    isolated(|| {
        small_arena();
        let mut chance = Chance::new();
        for context in contexts() {
            for most in [Duration::from_nanos(1), Duration::from_micros(200), Duration::from_millis(3)] {
                for _ in 0..DEATHS / 2 {
                    kill_as_it_starts(&context, &mut chance, most);
                    are_left(0);
                }
            }
        }
        nothing_is_left();
    });
}

fn make_and_return(line: Connection) -> (Lock, Queue<Lock>) {
    line.send(&()).unwrap();
    (Lock::new().unwrap(), Queue::new().unwrap())
}

/// A result of which something has arrived, or nothing: whoever asks gets all of it, or learns of the end.
#[test]
fn a_result_is_there_as_a_whole_or_ends_whenever_its_process_is_killed() {
    isolated(|| {
        small_arena();
        let mut chance = Chance::new();
        for context in contexts() {
            for round in 0..DEATHS / 2 {
                let (line, there) = pipe().unwrap();
                let process = start(&context, make_and_return, (there,));
                line.recv::<()>().unwrap();
                a_moment(&mut chance, Duration::from_micros(500));
                process.kill().unwrap();
                process.join().unwrap();
                if round % 2 == 0
                    && let Ok((lock, queue)) = process.result()
                {
                    assert!(lock.try_acquire().unwrap().is_some() && queue.is_empty());
                }
                are_left(ROOM / 2);
            }
        }
        // Who is killed just when it sends may take a pin for each object with it.
        eventually("nearly all have ended", || room() >= ROOM / 2);
    });
}

/// What a closure has captured, and what the parent has beside that.
#[test]
fn what_a_copy_has_ends_whenever_it_is_killed() {
    isolated(|| {
        small_arena();
        let mut chance = Chance::new();
        for round in 0..DEATHS {
            let (lock, other) = (Lock::new().unwrap(), Lock::new().unwrap());
            let closure = move || {
                assert!(!lock.is_locked());
                park_forever();
            };
            let process = Process::fork_builder(closure).allow_threads().start().unwrap();
            a_moment(&mut chance, Duration::from_nanos(1 + 30_000 * round as u64));
            process.kill().unwrap();
            process.join().unwrap();
            drop(other);
            are_left(0);
        }
        nothing_is_left();
    });
}

fn start_others(lock: Lock, queue: Queue<i32>) {
    loop {
        // They end with this process, at whatever point of their start.
        let other = Process::builder(stay).args((lock.clone(), Queue::<Lock>::new().unwrap()));
        let other = other.daemon(true).start().unwrap();
        queue.put(other.pid().cast_signed()).unwrap();
        other.kill().unwrap();
        other.join().unwrap();
    }
}

/// Killed between claiming a slot for a child and telling the child so, or at any other point of a start.
#[test]
fn what_others_are_started_with_ends_with_the_one_who_starts_them() {
    isolated(|| {
        small_arena();
        let mut chance = Chance::new();
        for context in contexts() {
            for _ in 0..DEATHS / 4 {
                let (lock, queue) = (Lock::new().unwrap(), Queue::new().unwrap());
                let process = start(&context, start_others, (lock.clone(), queue.clone()));
                queue.get().unwrap();
                a_moment(&mut chance, Duration::from_millis(2));
                process.kill().unwrap();
                process.join().unwrap();
                drop((lock, queue));
                are_left(0);
            }
        }
        nothing_is_left();
    });
}

fn say_and_stay(lock: Lock, said: Queue<i32>) {
    let guard = lock.acquire().unwrap();
    said.put(std::process::id().cast_signed()).unwrap();
    park_forever();
    drop(guard);
}

/// The supervisor stops while it restarts its child, which so is killed at some point of its start.
#[test]
fn a_specification_ends_with_a_supervisor_that_stops_in_a_restart() {
    isolated(|| {
        small_arena();
        let mut chance = Chance::new();
        for _ in 0..DEATHS / 2 {
            let (lock, said) = (Lock::new().unwrap(), Queue::new().unwrap());
            let spec = ChildSpec::process("holder", say_and_stay, (lock.clone(), said.clone()));
            let tree =
                Supervisor::builder().intensity(100, Duration::from_secs(1)).child(spec).start().unwrap();
            kill9(said.get().unwrap());
            a_moment(&mut chance, Duration::from_millis(2));
            drop((tree, lock, said));
            are_left(0);
        }
        nothing_is_left();
    });
}
