//! Locks in a queue: who puts one and who gets one is killed at every point. The lock is there for everybody who has a handle
//! or gets one, and ends with the last of them, unless a message was lost with the dead. So it is when the queue ends with them in it.

use procession::prelude::*;
use procession_ipc::{Usage, usage};
use serde::{Deserialize, Serialize};

use crate::points::{Scene, kill_everywhere};
use crate::queue::{LARGE, options, words};
use crate::sleeper::PATIENCE;
use crate::support::{eventually, isolated_with};
use crate::trace::between_marks;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Act {
    Put,
    Get,
}

/// The process that is killed. It has a handle already, or it gets the first one that there is in its process.
fn act(act: Act, queue: Queue<Lock>, lock: Option<Lock>, line: Connection) {
    // Whatever is done once in a process is done now.
    let first = Queue::new().unwrap();
    first.put(Lock::new().unwrap()).unwrap();
    drop(first.get().unwrap());
    match act {
        Act::Put => between_marks(&line, || queue.put(lock.clone().unwrap()).unwrap()),
        Act::Get => between_marks(&line, || drop(queue.get().unwrap())),
    }
}

/// Each time another lock travels through the queue.
struct Travelling {
    act: Act,
    queue: Queue<Lock>,
    lock: Lock,
    processes: usize,
    /// Objects while no lock is there, lost ones among them.
    objects: usize,
    words: u64,
}

impl Travelling {
    fn new(act: Act) -> Self {
        let words = words();
        let (queue, lock) = (Queue::new().unwrap(), Lock::new().unwrap());
        // It has a segment.
        queue.put(lock.clone()).unwrap();
        drop(queue.get().unwrap());
        let before = usage().unwrap();
        Self { act, queue, lock, processes: before.processes, objects: before.objects - 1, words }
    }

    /// Whether the lock that has come is the one that was sent.
    fn assert_same(&self, other: &Lock) {
        let guard = self.lock.acquire_timeout(PATIENCE).unwrap().expect("the lock is stuck");
        assert!(!guard.was_abandoned());
        guard.keep();
        assert!(other.is_locked());
        other.release().unwrap();
        assert!(!self.lock.is_locked());
    }
}

impl Scene for Travelling {
    fn words(&self) -> u64 {
        self.words
    }

    fn start(&mut self) -> (Process<()>, Connection) {
        self.lock = Lock::new().unwrap();
        let (line, there) = pipe().unwrap();
        let own = match self.act {
            Act::Put => Some(self.lock.clone()),
            Act::Get => {
                self.queue.put(self.lock.clone()).unwrap();
                None
            }
        };
        (Process::spawn(act, (self.act, self.queue.clone(), own, there)).unwrap(), line)
    }

    fn check(&mut self, is_done: bool) {
        eventually("it was swept for", || usage().unwrap().processes == self.processes);
        let is_there = !self.queue.is_empty();
        assert!(!is_done || is_there == (self.act == Act::Put));
        if is_there {
            self.assert_same(&self.queue.get_timeout(PATIENCE).unwrap());
        }
        assert!(self.queue.is_empty());
        self.assert_same(&self.lock.clone());
        // The last handle of the old one goes.
        self.lock = Lock::new().unwrap();
        let left = usage().unwrap().objects - 1 - self.objects;
        // What was neither put nor there to be got may be lost with a message that nobody has.
        let most = usize::from(!is_done && !is_there);
        assert!(left <= most, "{left} locks are left");
        self.objects += left;
    }
}

#[test]
fn a_process_is_killed_anywhere_in_putting_a_lock_into_a_queue() {
    isolated_with(options(), || kill_everywhere("put of a lock", &mut Travelling::new(Act::Put)));
}

#[test]
fn a_process_is_killed_anywhere_in_getting_a_lock_out_of_a_queue() {
    isolated_with(options(), || kill_everywhere("get of a lock", &mut Travelling::new(Act::Get)));
}

/// The process that is killed. The queue that it drops has locks in it, of one of which there is a handle elsewhere.
fn end(kept: Lock, line: Connection) {
    // Whatever is done once in a process is done now.
    drop(filled(&kept));
    let queue = filled(&kept);
    drop(kept);
    between_marks(&line, || drop(queue));
}

/// Two messages with two locks each, the second one large, and some without.
fn filled(kept: &Lock) -> Queue<(Vec<Lock>, Vec<u8>)> {
    let queue = Queue::new().unwrap();
    let new = || Lock::new().unwrap();
    for (locks, length) in
        [(vec![], 8), (vec![kept.clone(), new()], 8), (vec![new(), new()], LARGE), (vec![], 8)]
    {
        queue.put((locks, vec![1; length])).unwrap();
    }
    queue
}

/// Each time another lock is in the queue, and here.
struct Ending {
    kept: Lock,
    before: Usage,
}

impl Scene for Ending {
    fn start(&mut self) -> (Process<()>, Connection) {
        self.kept = Lock::new().unwrap();
        let (line, there) = pipe().unwrap();
        (Process::spawn(end, (self.kept.clone(), there)).unwrap(), line)
    }

    fn check(&mut self, is_done: bool) {
        eventually("it was swept for", || usage().unwrap().processes == self.before.processes);
        assert!(self.kept.try_acquire().unwrap().is_some(), "it has ended too early");
        // The last handle of the old one goes.
        self.kept = Lock::new().unwrap();
        let now = usage().unwrap();
        let left = now.objects - self.before.objects;
        let most = if is_done { 0 } else { 2 };
        assert!(left <= most, "{left} locks are left");
        assert_eq!(now.segments, self.before.segments);
        self.before = now;
    }
}

#[test]
fn a_process_is_killed_anywhere_in_dropping_a_queue_with_locks_in_it() {
    isolated_with(options(), || {
        let kept = Lock::new().unwrap();
        let before = usage().unwrap();
        kill_everywhere("end of a queue with locks", &mut Ending { kept, before });
    });
}
