//! Shared memory into which somebody has written at random, as a library does that has a bug: whoever uses it gets wrong data
//! or an error, and neither crashes nor waits for longer than it was told to.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use procession::prelude::*;
use serde::{Deserialize, Serialize};

use crate::relatives;
use crate::shared::{MARKS, Shared};
use crate::sleeper::PATIENCE;
use crate::support::{Chance, Options, amount, isolated_with};

/// A time for what waits in vain.
const SHORT: Duration = Duration::from_millis(5);

/// Messages of a record, and of segments of their own.
const LENGTHS: [usize; 4] = [0, 60, 9_000, 300_000];

/// How often the memory of a family is spoiled.
const SPOILINGS: u32 = 5;

/// Which memory is written to.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Where {
    /// What is known of objects, of queues, of segments, and what lies in those.
    Objects,
    /// All of it, the header and the table of processes too.
    Everything,
}

/// Writes a few words of what is there, and crashes.
fn spoil(seed: u64, place: Where) {
    let shared = Shared::up_to(u64::MAX);
    let mut chance = Chance::with(seed);
    let is_meant = |part: &&(u64, Vec<u8>)| matches!(place, Where::Everything) || part.0 >= MARKS.end;
    let parts: Vec<_> = shared.seen().iter().filter(is_meant).collect();
    for _ in 0..1 + chance.below(32) {
        // Each part as often as any other one: the words of objects, and the many bytes of messages.
        let (at, bytes) = one_of(&parts, &mut chance);
        let words: Vec<_> = (0..bytes.len()).step_by(8).filter(|at| bytes[*at..at + 8] != [0; 8]).collect();
        let is_used = !words.is_empty() && chance.below(4) > 0;
        let offset = if is_used { *one_of(&words, &mut chance) as u64 } else { chance.below(512) * 8 };
        spoil_word(shared.file(), at + offset, &mut chance);
    }
    std::process::abort();
}

fn one_of<'a, T>(all: &'a [T], chance: &mut Chance) -> &'a T {
    &all[usize::try_from(chance.below(all.len() as u64)).unwrap()]
}

fn spoil_word(file: &File, at: u64, chance: &mut Chance) {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at).unwrap();
    let word = u64::from_le_bytes(bytes);
    let spoiled = match chance.below(4) {
        0 => chance.below(u64::MAX),
        1 => word ^ 1 << chance.below(64),
        2 => word.wrapping_add(chance.below(3)).wrapping_sub(1),
        _ => *one_of(&[0, 1, u64::MAX, u64::from(u32::MAX)], chance),
    };
    file.write_all_at(&spoiled.to_le_bytes(), at).unwrap();
}

/// Does everything that there is to do. What comes of it is nobody's promise, but it comes.
fn use_all(queue: &Queue<Vec<u8>>, bounded: &Queue<Vec<u8>>, lock: &Lock) {
    for length in LENGTHS {
        let _ = queue.put_timeout(vec![7; length], SHORT);
        let _ = bounded.put_timeout(vec![7; length], SHORT);
    }
    for _ in LENGTHS {
        let _ = queue.get_timeout(SHORT);
        let _ = bounded.get_timeout(SHORT);
    }
    let _ = (queue.len(), queue.is_empty(), bounded.is_full());
    let _ = lock.acquire_timeout(SHORT);
    let _ = lock.release();
    let _ = Lock::new().map(|lock| lock.acquire_timeout(SHORT).map(drop));
    let _ = Queue::new().map(|queue| queue.put_timeout(vec![1], SHORT).is_ok());
}

fn use_elsewhere(queue: Queue<Vec<u8>>, bounded: Queue<Vec<u8>>, lock: Lock) {
    use_all(&queue, &bounded, &lock);
}

/// The life of a family whose memory is spoiled again and again.
fn survive(seed: u64, place: Where) {
    let mut chance = Chance::with(seed);
    let (queue, bounded) = (Queue::new().unwrap(), Queue::bounded(3).unwrap());
    let lock = Lock::new().unwrap();
    use_all(&queue, &bounded, &lock);
    for _ in 0..SPOILINGS {
        LENGTHS.iter().for_each(|length| drop(queue.put_timeout(vec![8; *length], SHORT)));
        let spoiler = Process::spawn(spoil, (chance.below(u64::MAX), place)).unwrap();
        assert!(spoiler.join_timeout(PATIENCE).unwrap());
        use_all(&queue, &bounded, &lock);
        // Its arguments may not be sent any more, or be refused there.
        let args = (queue.clone(), bounded.clone(), lock.clone());
        let Ok(other) = Process::spawn(use_elsewhere, args) else { continue };
        assert!(other.join_timeout(PATIENCE).unwrap(), "it is stuck");
        let is_crash =
            |error: &Error| matches!(error.kind(), ErrorKind::Signaled { .. } | ErrorKind::Panicked { .. });
        let ended = other.result();
        assert!(!ended.as_ref().is_err_and(is_crash), "{ended:?}");
    }
}

/// Families of their own, since little can be used when much is spoiled.
fn survive_often(test: &str, place: Where) {
    if let Some(seed) = relatives::part() {
        return survive(seed.parse().unwrap(), place);
    }
    let mut chance = Chance::new();
    for _ in 0..amount(20, 2000) {
        let seed = chance.below(u64::MAX);
        let output = relatives::start(test, &seed.to_string()).wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "seed {seed}: {}\n{text}", output.status);
    }
}

fn options() -> Options {
    let minutes = amount(4, 60);
    Options { watchdog: Duration::from_secs(60 * minutes), ..Options::default() }
}

#[test]
fn a_wild_store_into_objects_crashes_nobody_else() {
    let test = "spoiled::a_wild_store_into_objects_crashes_nobody_else";
    isolated_with(options(), || survive_often(test, Where::Objects));
}

#[test]
fn a_wild_store_anywhere_in_shared_memory_crashes_nobody_else() {
    let test = "spoiled::a_wild_store_anywhere_in_shared_memory_crashes_nobody_else";
    isolated_with(options(), || survive_often(test, Where::Everything));
}
