//! Beginning to use shared memory, and making and ending objects there, killed at every point: no slot, cell or segment is lost.

use std::time::Duration;

use procession::prelude::*;
use procession_ipc::{Usage, usage};
use serde::{Deserialize, Serialize};

use crate::points::{Scene, kill_everywhere};
use crate::support::{Options, amount, eventually, isolated_with};
use crate::trace::between_marks;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Act {
    /// The first use of shared memory in a process.
    Begin,
    /// A lock is made, and its last handle is dropped.
    Lock,
    /// The same with a queue that has a message in it.
    Queue,
}

/// The process that is killed.
fn act(act: Act, line: Connection) {
    let make_lock = || drop(Lock::new().unwrap());
    let make_queue = || Queue::new().unwrap().put(vec![1_u8; 64]).unwrap();
    match act {
        Act::Begin => between_marks(&line, make_lock),
        Act::Lock => {
            make_lock();
            between_marks(&line, make_lock);
        }
        Act::Queue => {
            make_queue();
            between_marks(&line, make_queue);
        }
    }
}

fn come_and_go() {
    drop(Lock::new().unwrap());
}

struct Made {
    act: Act,
    before: Usage,
}

impl Scene for Made {
    fn start(&mut self) -> (Process<()>, Connection) {
        let (line, there) = pipe().unwrap();
        (Process::spawn(act, (self.act, there)).unwrap(), line)
    }

    fn check(&mut self, _is_done: bool) {
        if self.act == Act::Begin {
            // Killed before anybody was told of it, it is found when somebody else comes or goes.
            Process::spawn(come_and_go, ()).unwrap().result().unwrap();
        }
        eventually("what the dead had is free", || usage().unwrap() == self.before);
    }
}

fn kill_in(name: &str, act: Act) {
    come_and_go();
    kill_everywhere(name, &mut Made { act, before: usage().unwrap() });
}

fn options() -> Options {
    let minutes = amount(5, 60);
    Options { watchdog: Duration::from_secs(60 * minutes), ..Options::default() }
}

#[test]
fn a_process_is_killed_anywhere_in_beginning_to_use_shared_memory() {
    isolated_with(options(), || kill_in("begin", Act::Begin));
}

#[test]
fn a_process_is_killed_anywhere_in_making_and_dropping_a_lock() {
    isolated_with(options(), || kill_in("make a lock", Act::Lock));
}

#[test]
fn a_process_is_killed_anywhere_in_making_and_dropping_a_queue() {
    isolated_with(options(), || kill_in("make a queue", Act::Queue));
}
