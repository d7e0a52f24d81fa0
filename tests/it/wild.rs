//! What the tests of isolated pools and queues share: which memory a process has, writing all over it, and somebody who must not notice.

use crate::family::start;
use crate::support::{Chance, eventually, own_pid};
use procession::Context;
use procession::prelude::*;
use procession_ipc::usage;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};

/// What files of memory that processes share are to /proc.
const SHARED: &str = "/memfd:procession (deleted)";

/// Those that it has open.
pub fn open_memory(pid: i32) -> BTreeSet<u64> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let is_memory =
        |path: &fs::DirEntry| fs::read_link(path.path()).is_ok_and(|target| target.to_str() == Some(SHARED));
    descriptors.filter(is_memory).filter_map(|path| Some(fs::metadata(path.path()).ok()?.ino())).collect()
}

/// Those that it has mapped.
pub fn mapped_memory(pid: i32) -> BTreeSet<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mapped = maps.lines().filter(|line| line.ends_with(SHARED));
    mapped.map(|line| line.split_whitespace().nth(4).unwrap().parse().unwrap()).collect()
}

/// Maps the memory that this process shares.
pub fn use_a_lock() -> i32 {
    drop(Lock::new().unwrap().acquire().unwrap());
    own_pid()
}

/// Writes garbage over all memory that others could see.
pub fn write_garbage(seed: u64) {
    let mut chance = Chance::with(seed);
    let mut garbage = vec![[0, 0xff][(seed % 2) as usize]; 4096];
    if seed % 3 == 2 {
        garbage.iter_mut().for_each(|byte| *byte = chance.below(256) as u8);
    }
    let memory = fs::File::options().write(true).open("/proc/self/mem").unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let shared: Vec<&str> = maps.lines().filter(|line| line.contains(" rw-s ")).collect();
    assert!(shared.iter().any(|line| line.ends_with(SHARED)), "{maps}");
    for line in shared {
        let (begin, rest) = line.split_once('-').unwrap();
        let end = rest.split_once(' ').unwrap().0;
        let [begin, end] = [begin, end].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        for page in (begin..end).step_by(garbage.len()) {
            memory.write_all_at(&garbage, page).unwrap();
        }
    }
}

/// Counts in a lock's protection, and puts each count.
fn count(lock: Lock, counts: Queue<u64>, go_on: Connection) {
    let mut number = 0;
    while !go_on.poll().unwrap() {
        let guard = lock.acquire().unwrap();
        let counted = number;
        number += 1;
        drop(guard);
        counts.put(counted).unwrap();
    }
    counts.put(u64::MAX).unwrap();
}

/// A process of the family that counts, whatever others write elsewhere. The queue is bounded, so it fills no arena.
pub struct Counter {
    lock: Lock,
    counts: Queue<u64>,
    process: Process<()>,
    go_on: Connection,
    expected: u64,
}

impl Counter {
    pub fn start(context: &Context) -> Self {
        let (lock, counts) = (Lock::new().unwrap(), Queue::bounded(300).unwrap());
        let (go_on, there) = pipe().unwrap();
        let process = start(context, count, (lock.clone(), counts.clone(), there));
        Self { lock, counts, process, go_on, expected: 0 }
    }

    /// It counts as if nothing was.
    #[track_caller]
    pub fn check(&mut self) {
        assert!(!self.lock.acquire().unwrap().was_abandoned());
        for _ in 0..100 {
            assert_eq!(self.counts.get().unwrap(), self.expected);
            self.expected += 1;
        }
    }

    /// It has counted to the end, and leaves nothing.
    #[track_caller]
    pub fn end(self) {
        self.go_on.send(&()).unwrap();
        let rest =
            std::iter::from_fn(|| Some(self.counts.get().unwrap()).filter(|number| *number != u64::MAX));
        let (mut rest, mut expected) = (rest, self.expected..);
        assert!(rest.all(|number| Some(number) == expected.next()));
        self.process.result().unwrap();
        assert!(self.counts.is_empty());
        drop(self);
        eventually("all objects have ended", || usage().unwrap().objects == 0);
    }
}
