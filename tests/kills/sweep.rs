//! Sweeps that are cut off: the thread that learns of deaths is killed at every point of one, with its process. The next one
//! ends it.
//!
//! Three processes. The *victim* has as much in its hands as one can have, and is killed. The *sweeper*'s thread is stepped
//! through what it does about that, and killed. The *survivor* is stopped meanwhile, and then has to find everything in order.
//! The process of the test starts and traces them; it has no part in their memory, or its own thread would sweep too.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procession::Target;
use procession::prelude::*;
use procession_ipc::{Usage, usage};

use crate::points::{Trial, kill_everywhere};
use crate::queue::{LARGE, words};
use crate::sleeper::PATIENCE;
use crate::support::{Options, amount, eventually, isolated_with, process, sleepers, threads_of};
use crate::trace::Traced;

/// What all three have handles of. The queue is full.
type Things = (Lock, Queue<Vec<u8>>);

/// Has as much in its hands as one can have, in its sleep.
fn hold(line: Connection) {
    let (lock, full): Things = line.recv().unwrap();
    lock.acquire().unwrap().keep();
    let own = Queue::new().unwrap();
    own.put(vec![1; 64]).unwrap();
    own.put(vec![2; LARGE]).unwrap();
    let _own = Lock::new().unwrap();
    line.send(&()).unwrap();
    // It waits for room, with the message in segments of its own.
    full.put(vec![3; LARGE]).unwrap();
}

/// Does nothing itself.
fn sweep(line: Connection) {
    let _things: Things = line.recv().unwrap();
    line.send(&()).unwrap();
    let _ = line.recv::<()>();
}

fn survive(line: Connection) {
    let things = (Lock::new().unwrap(), Queue::bounded(1).unwrap());
    things.1.put(vec![0]).unwrap();
    let before = usage().unwrap();
    while line.recv::<()>().is_ok() {
        (0..2).for_each(|_| line.send(&things).unwrap());
        line.recv::<()>().unwrap();
        assert_in_order(&things, before);
        line.send(&()).unwrap();
    }
}

/// The lock of the dead is given on once, and nothing else is left of them.
fn assert_in_order((lock, full): &Things, before: Usage) {
    let acquire = || lock.acquire_timeout(PATIENCE).unwrap().expect("the lock is stuck");
    assert!(acquire().was_abandoned());
    assert!(!acquire().was_abandoned());
    assert_eq!(full.get_timeout(PATIENCE).unwrap(), [0]);
    assert!(full.is_empty());
    full.put_timeout(vec![0], PATIENCE).unwrap();
    eventually("what the dead had is free", || usage().unwrap() == before);
}

struct CutOff {
    survivor: Process<()>,
    line: Connection,
    /// Of the one that sweeps now.
    sweeper: Option<Connection>,
    words: u64,
}

impl CutOff {
    fn new() -> Self {
        let words = Process::spawn(words, ()).unwrap().result().unwrap();
        let (line, there) = pipe().unwrap();
        Self { survivor: Process::spawn(survive, (there,)).unwrap(), line, sweeper: None, words }
    }

    /// Starts one of the others, which gets the next handles of the survivor and says when all is prepared. They pass through
    /// here as bytes.
    fn start<F, M>(&self, life: F) -> (Process<()>, Connection)
    where
        F: Target<(Connection,), M, Output = ()>,
    {
        let (line, there) = pipe().unwrap();
        let process = Process::builder(life).args((there,)).start().unwrap();
        line.send_bytes(&self.line.recv_bytes().unwrap()).unwrap();
        line.recv::<()>().unwrap();
        (process, line)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.survivor.pid().cast_signed()), signal).unwrap();
    }
}

impl Trial for CutOff {
    fn words(&self) -> u64 {
        self.words
    }

    fn begin(&mut self) -> Option<Traced> {
        self.line.send(&()).unwrap();
        let (victim, _line) = self.start(hold);
        let pid = victim.pid().cast_signed();
        eventually("the victim waits for room", || sleepers(pid).contains(&pid));
        let (sweeper, line) = self.start(sweep);
        // It stays until it is killed.
        self.sweeper = Some(line);
        self.signal(Signal::SIGSTOP);
        let threads = threads_of(self.survivor.pid().cast_signed());
        let is_stopped = |thread: &i32| process(*thread).is_some_and(|found| found.state == 'T');
        eventually("the survivor is stopped", || threads.iter().all(is_stopped));
        let traced = Traced::keeper(sweeper);
        victim.kill().unwrap();
        victim.join().unwrap();
        traced
    }

    fn check(&mut self, _is_done: bool) {
        self.signal(Signal::SIGCONT);
        self.line.send(&()).unwrap();
        assert!(self.line.poll_timeout(PATIENCE).unwrap(), "the survivor is stuck");
        self.line.recv::<()>().unwrap();
    }
}

fn options() -> Options {
    let minutes = amount(5, 60);
    Options { watchdog: Duration::from_secs(60 * minutes), ..Options::default() }
}

#[test]
fn a_process_is_killed_anywhere_in_sweeping() {
    isolated_with(options(), || {
        let mut scene = CutOff::new();
        kill_everywhere("sweep", &mut scene);
        scene.survivor.kill().unwrap();
        scene.survivor.join().unwrap();
    });
}
