//! A queue, whose putters and getters are killed at every point.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use procession::prelude::*;
use procession_ipc::mailbox::KEEPS_JOURNALS;
use procession_ipc::{Usage, usage};
use serde::{Deserialize, Serialize};

use crate::points::{Scene, kill_everywhere};
use crate::shared::Shared;
use crate::sleeper::{PATIENCE, Sleeper, WhenAsleep, whenever_told};
use crate::support::{Options, amount, eventually, inside_body, isolated_with, run_isolated};
use crate::trace::between_marks;

pub const SMALL: usize = 64;

/// Five such messages, and a segment has no room for a small one.
pub const FIFTH: usize = 52_400;

/// It has segments of its own, three of them.
pub const LARGE: usize = 600 << 10;

/// What is waited for after each kill.
const LEAK: &str = "what the dead had is free";

/// What the memory of messages is divided into.
const SEGMENT: u64 = 256 << 10;

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Act {
    Put(u64, usize),
    Get,
}

/// Tells which one it is, and whether it is whole.
fn message(number: u64, length: usize) -> Vec<u8> {
    let bytes = number.to_le_bytes().into_iter().cycle().zip(0_usize..);
    bytes.map(|(byte, at)| byte ^ (at / 8).to_le_bytes()[0]).take(length).collect()
}

/// The process that is killed.
fn act(act: Act, queue: Queue<Vec<u8>>, line: Connection) {
    // Whatever is done once in a process is done now.
    let first = Queue::new().unwrap();
    first.put(message(0, SMALL)).unwrap();
    first.get().unwrap();
    match act {
        Act::Put(number, length) => {
            let message = message(number, length);
            between_marks(&line, || queue.put(message).unwrap());
        }
        Act::Get => between_marks(&line, || queue.get().unwrap()),
    }
}

/// What one process does, which is killed, and what was done before.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    /// Whether the queue was used before; if it was, one message of [`FIFTH`] is what was in its segment.
    is_used: bool,
    put: &'static [usize],
    got: usize,
    /// Puts a message of this length, or gets.
    pub act: Option<usize>,
}

impl Case {
    pub const FIRST_PUT: Self =
        Self { name: "first put", is_used: false, put: &[], got: 0, act: Some(SMALL) };

    /// A put of this length into a queue that was used.
    pub const fn put(name: &'static str, put: &'static [usize], length: usize) -> Self {
        Self { name, is_used: true, put, got: 0, act: Some(length) }
    }

    pub const fn get(name: &'static str, put: &'static [usize], got: usize) -> Self {
        Self { name, is_used: true, put, got, act: None }
    }
}

/// A queue, what is in it, and what is in use while nothing is in it.
pub struct Queued {
    pub case: Case,
    queue: Queue<Vec<u8>>,
    model: VecDeque<Vec<u8>>,
    number: u64,
    usage: Usage,
    words: u64,
}

impl Queued {
    /// `words`: see [`Scene::words`].
    pub fn new(case: Case, words: u64) -> Self {
        let (queue, usage) = (Queue::new().unwrap(), usage().unwrap());
        Self { case, queue, model: VecDeque::new(), number: 0, usage, words }
    }

    /// Puts and gets, so that the next one to put is the second one in its segment.
    fn align(&mut self) {
        let before = usage().unwrap().segments;
        while usage().unwrap().segments == before {
            self.put(FIFTH);
        }
        while !self.model.is_empty() {
            self.get();
        }
    }

    fn next(&mut self, length: usize) -> Vec<u8> {
        self.number += 1;
        message(self.number, length)
    }

    fn put(&mut self, length: usize) {
        let message = self.next(length);
        self.model.push_back(message.clone());
        self.queue.put_timeout(message, PATIENCE).unwrap();
    }

    fn get(&mut self) {
        assert!(
            self.queue.get_timeout(PATIENCE).unwrap() == self.model.pop_front().unwrap(),
            "a wrong message"
        );
    }

    /// Does what was done before.
    pub fn prepare(&mut self) {
        if self.case.is_used {
            self.align();
            self.usage = usage().unwrap();
        } else {
            self.queue = Queue::new().unwrap();
            // It takes a segment with its first message.
            let now = usage().unwrap();
            self.usage = Usage { segments: now.segments + SEGMENT, ..now };
        }
        self.case.put.iter().for_each(|length| self.put(*length));
        (0..self.case.got).for_each(|_| self.get());
    }

    /// Starts a process that puts a message of this length, or gets.
    pub fn start_act(&mut self, length: Option<usize>) -> (Process<()>, Connection) {
        let what = match length {
            Some(length) => {
                self.number += 1;
                Act::Put(self.number, length)
            }
            None => Act::Get,
        };
        let (line, there) = pipe().unwrap();
        (Process::spawn(act, (what, self.queue.clone(), there)).unwrap(), line)
    }

    /// The last process that was started, which put a message of this length or got one, was killed.
    pub fn killed(&mut self, length: Option<usize>, is_done: bool) {
        let before = self.model.len();
        if let Some(length) = length {
            let put = message(self.number, length);
            self.model.push_back(put);
            if self.queue.len() == before {
                self.model.pop_back();
            }
        } else if self.queue.len() != before {
            self.model.pop_front();
        }
        assert_eq!(self.queue.len(), self.model.len(), "lost or doubled");
        assert!(!is_done || self.model.len() != before);
    }

    /// Both sides go on, also if they have to take a lock over, and nothing is left of the dead.
    pub fn go_on(&mut self) {
        self.put(SMALL);
        while !self.model.is_empty() {
            self.get();
        }
        assert!(self.queue.is_empty());
        eventually(LEAK, || usage().unwrap() == self.usage);
    }
}

impl Scene for Queued {
    fn words(&self) -> u64 {
        self.words
    }

    fn start(&mut self) -> (Process<()>, Connection) {
        self.prepare();
        self.start_act(self.case.act)
    }

    fn check(&mut self, is_done: bool) {
        self.killed(self.case.act, is_done);
        self.go_on();
    }
}

/// Where the words of shared memory end: in front of the first segment, which is that of the first message.
pub fn words() -> u64 {
    let (queue, first) = (Queue::new().unwrap(), message(1, SMALL));
    queue.put(first.clone()).unwrap();
    let place = Shared::find(&first).expect("the message is not in the memory");
    place / SEGMENT * SEGMENT
}

/// A sweep wakes all who sleep: none may come in the middle of the next act, whose sleep is waited for.
fn assert_swept(processes: usize) {
    eventually("it was swept for", || usage().unwrap().processes == processes);
}

/// Another process, which sleeps until there is a message.
fn take(queue: Queue<Vec<u8>>, line: Connection) {
    whenever_told(&line, || queue.get().unwrap());
}

/// One process puts the first message, another one sleeps until it comes. The putter is killed, or, if the getter that is woken
/// first is, one that sleeps behind it is looked at.
struct Awaited {
    is_getter_killed: bool,
    queue: Queue<Vec<u8>>,
    taker: Arc<Sleeper>,
    put: Option<WhenAsleep<()>>,
    processes: usize,
    words: u64,
}

impl Awaited {
    fn new(is_getter_killed: bool, words: u64) -> Self {
        let queue = Queue::new().unwrap();
        queue.put(message(0, SMALL)).unwrap();
        let (taker, _): (_, Vec<u8>) = Sleeper::start(take, |line| (queue.clone(), line));
        let processes = usage().unwrap().processes;
        Self { is_getter_killed, queue, taker: Arc::new(taker), put: None, processes, words }
    }
}

impl Scene for Awaited {
    fn words(&self) -> u64 {
        self.words
    }

    fn start(&mut self) -> (Process<()>, Connection) {
        let what = if self.is_getter_killed { Act::Get } else { Act::Put(1, SMALL) };
        let (line, there) = pipe().unwrap();
        (Process::spawn(act, (what, self.queue.clone(), there)).unwrap(), line)
    }

    fn prepared(&mut self, pid: i32) {
        if !self.is_getter_killed {
            return self.taker.fall_asleep();
        }
        let (queue, taker) = (self.queue.clone(), self.taker.clone());
        let put = move || {
            taker.fall_asleep();
            queue.put(message(1, SMALL)).unwrap();
        };
        self.put = Some(WhenAsleep::start(pid, put));
    }

    fn check(&mut self, is_done: bool) {
        self.put.take().into_iter().for_each(WhenAsleep::finish);
        // Nobody else wakes the one who sleeps.
        eventually("what is there is taken", || self.queue.is_empty());
        self.queue.put(message(2, SMALL)).unwrap();
        let taken: Vec<u8> = self.taker.woken();
        if taken == message(1, SMALL) {
            assert!(!(is_done && self.is_getter_killed), "doubled");
            assert!(self.queue.get_timeout(PATIENCE).unwrap() == message(2, SMALL));
        } else {
            assert!(taken == message(2, SMALL));
            assert!(!is_done || self.is_getter_killed, "lost");
        }
        assert!(self.queue.is_empty());
        assert_swept(self.processes);
    }
}

/// Another process, which sleeps until there is room.
fn give(queue: Queue<Vec<u8>>, line: Connection) {
    whenever_told(&line, || queue.put(message(1, SMALL)).unwrap());
}

/// A getter is killed; a putter sleeps, since the queue is full.
struct Full {
    queue: Queue<Vec<u8>>,
    giver: Sleeper,
    processes: usize,
    words: u64,
}

impl Full {
    fn new(words: u64) -> Self {
        let queue = Queue::bounded(1).unwrap();
        let (giver, ()) = Sleeper::start(give, |line| (queue.clone(), line));
        queue.get().unwrap();
        let processes = usage().unwrap().processes;
        Self { queue, giver, processes, words }
    }
}

impl Scene for Full {
    fn words(&self) -> u64 {
        self.words
    }

    fn start(&mut self) -> (Process<()>, Connection) {
        self.queue.put(message(0, SMALL)).unwrap();
        let (line, there) = pipe().unwrap();
        (Process::spawn(act, (Act::Get, self.queue.clone(), there)).unwrap(), line)
    }

    fn prepared(&mut self, _pid: i32) {
        self.giver.fall_asleep();
    }

    fn check(&mut self, is_done: bool) {
        let first = self.queue.get_timeout(PATIENCE).unwrap();
        if first == message(0, SMALL) {
            assert!(!is_done, "doubled");
            assert!(self.queue.get_timeout(PATIENCE).unwrap() == message(1, SMALL));
        } else {
            assert!(first == message(1, SMALL));
        }
        let () = self.giver.woken();
        assert!(self.queue.is_empty());
        assert_swept(self.processes);
    }
}

/// A putter sleeps, since the queue is full, is woken first, and killed; another one sleeps behind it.
struct Crowded {
    queue: Queue<Vec<u8>>,
    giver: Arc<Sleeper>,
    /// Has the other one fall asleep too, and makes room for one.
    get: Option<WhenAsleep<()>>,
    processes: usize,
    words: u64,
}

impl Crowded {
    fn new(words: u64) -> Self {
        let queue = Queue::bounded(1).unwrap();
        let (giver, ()) = Sleeper::start(give, |line| (queue.clone(), line));
        queue.get().unwrap();
        let processes = usage().unwrap().processes;
        Self { queue, giver: Arc::new(giver), get: None, processes, words }
    }
}

impl Scene for Crowded {
    fn words(&self) -> u64 {
        self.words
    }

    fn start(&mut self) -> (Process<()>, Connection) {
        self.queue.put(message(0, SMALL)).unwrap();
        let (line, there) = pipe().unwrap();
        (Process::spawn(act, (Act::Put(2, SMALL), self.queue.clone(), there)).unwrap(), line)
    }

    fn prepared(&mut self, pid: i32) {
        let (queue, giver) = (self.queue.clone(), self.giver.clone());
        let get = move || {
            giver.fall_asleep();
            assert!(queue.get_timeout(PATIENCE).unwrap() == message(0, SMALL));
        };
        self.get = Some(WhenAsleep::start(pid, get));
    }

    fn check(&mut self, is_done: bool) {
        self.get.take().unwrap().finish();
        // There was room for one: the other one has it, if the dead one did not take it.
        let first = self.queue.get_timeout(PATIENCE).unwrap();
        if first == message(2, SMALL) {
            assert!(self.queue.get_timeout(PATIENCE).unwrap() == message(1, SMALL));
        } else {
            assert!(!is_done, "lost");
            assert!(first == message(1, SMALL));
        }
        let () = self.giver.woken();
        assert!(self.queue.is_empty());
        assert_swept(self.processes);
    }
}

pub fn options() -> Options {
    let minutes = amount(5, 60);
    Options { watchdog: Duration::from_secs(60 * minutes), ..Options::default() }
}

fn kill_in(case: Case) {
    kill_everywhere(case.name, &mut Queued::new(case, words()));
}

/// An act with a journal: in a build with the feature `sabotage` of `procession-ipc`, which keeps none, it has to be reported
/// that something leaks.
fn judge(report: Result<(), String>) {
    match report {
        Err(report) if KEEPS_JOURNALS => panic!("{report}"),
        Ok(()) if !KEEPS_JOURNALS && !inside_body() => panic!("without journals nothing leaks"),
        Err(report) => assert!(report.contains(LEAK), "it is reported, but not as a leak:\n{report}"),
        Ok(()) => {}
    }
}

/// FC3.
#[test]
fn a_process_is_killed_anywhere_in_using_a_queue_to_put_first() {
    judge(run_isolated(options(), || kill_in(Case::FIRST_PUT)));
}

/// FC3.
#[test]
fn a_process_is_killed_anywhere_in_using_a_queue_to_put() {
    isolated_with(options(), || {
        kill_in(Case::put("put", &[SMALL], SMALL));
        kill_in(Case::put("put of 100 KiB", &[SMALL], 100 << 10));
    });
}

/// FC3.
#[test]
fn a_process_is_killed_anywhere_in_using_a_queue_to_put_at_the_end_of_a_segment() {
    let case = Case::put("put at the end of a segment", &[FIFTH; 4], SMALL);
    judge(run_isolated(options(), || kill_in(case)));
}

/// FC3.
#[test]
fn a_process_is_killed_anywhere_in_using_a_queue_to_put_a_large_message() {
    let case = Case::put("put of 600 KiB", &[SMALL], LARGE);
    judge(run_isolated(options(), || kill_in(case)));
}

/// FC4.
#[test]
fn a_process_is_killed_anywhere_in_using_a_queue_to_get() {
    isolated_with(options(), || {
        kill_in(Case::get("get", &[SMALL; 2], 0));
        kill_in(Case::get("last get", &[SMALL], 0));
    });
}

/// FC4.
#[test]
fn a_process_is_killed_anywhere_in_using_a_queue_to_get_at_the_end_of_a_segment() {
    let case = Case::get("get at the end of a segment", &[FIFTH, FIFTH, FIFTH, FIFTH, SMALL], 4);
    judge(run_isolated(options(), || kill_in(case)));
}

/// FC4.
#[test]
fn a_process_is_killed_anywhere_in_using_a_queue_to_get_a_large_message() {
    let case = Case::get("get of 600 KiB", &[LARGE, SMALL], 0);
    judge(run_isolated(options(), || kill_in(case)));
}

/// FC2.
#[test]
fn a_process_is_killed_anywhere_in_putting_what_somebody_waits_for() {
    isolated_with(options(), || kill_everywhere("awaited put", &mut Awaited::new(false, words())));
}

/// FC2.
#[test]
fn a_process_is_killed_anywhere_in_waiting_for_a_message() {
    isolated_with(options(), || kill_everywhere("awaiting get", &mut Awaited::new(true, words())));
}

#[test]
fn a_process_is_killed_anywhere_in_making_room_for_which_somebody_waits() {
    isolated_with(options(), || kill_everywhere("get of a full queue", &mut Full::new(words())));
}

/// FC2.
#[test]
fn a_process_is_killed_anywhere_in_waiting_for_room() {
    isolated_with(options(), || kill_everywhere("awaiting put", &mut Crowded::new(words())));
}
