//! Producers, consumers and holders of a lock, killed at random and started again: everything that was put arrives once, whole
//! and in order, but for one message per killed consumer; a lock lets one in at a time; nothing is stuck or left.
//!
//! Whoever is killed cannot tell what it did. So each worker writes it into files, which nobody's death changes: a producer the
//! number of messages that it has put, a consumer each message that it got, a holder of the lock two words that agree.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::park_timeout;
use std::time::Duration;

use procession::prelude::*;
use procession_ipc::{Usage, usage};
use serde::{Deserialize, Serialize};

use crate::sleeper::PATIENCE;
use crate::support::{Chance, Options, amount, eventually, isolated_with};

/// Kills of one round, at whose end everything is counted, and rounds.
const KILLS: u64 = 500;
const ROUNDS: u64 = 100;

/// The queue takes so many messages.
const ROOM: usize = 64;

/// After so many kills, everybody has to get on before the next one.
const LOOK: u64 = 50;

/// Longest time between two kills, in microseconds.
const PAUSE: u64 = 4000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Role {
    Producer,
    Consumer,
    Holder,
}

const ROLES: [Role; 6] =
    [Role::Producer, Role::Consumer, Role::Holder, Role::Producer, Role::Consumer, Role::Holder];

/// What all workers of a round share.
#[derive(Clone, Serialize, Deserialize)]
struct World {
    queue: Queue<Vec<u8>>,
    lock: Lock,
    folder: PathBuf,
}

/// A message, and a line of a consumer's file: who has put it, and its number there, from 1 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Mark {
    worker: u64,
    number: u64,
}

impl Mark {
    const SIZE: usize = 16;

    fn bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..8].copy_from_slice(&self.worker.to_le_bytes());
        bytes[8..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    fn read(bytes: &[u8]) -> Self {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        Self { worker: word(0), number: word(8) }
    }

    /// A message that says who it is all over.
    fn message(self, marks: usize) -> Vec<u8> {
        self.bytes().repeat(marks)
    }

    /// The mark of a message that is whole.
    fn of(message: &[u8]) -> Self {
        let mark = Self::read(message);
        assert!(message == mark.message(message.len() / Self::SIZE), "a corrupt message of {mark:?}");
        mark
    }
}

/// How long a message is: up to 256 KiB, short ones as often as long ones, and now and then up to 640 KiB.
fn marks(chance: &mut Chance) -> usize {
    let most = if chance.below(100) == 0 { 40 << 10 } else { 1 << chance.below(15) };
    1 + chance.below(most) as usize
}

impl World {
    fn new(folder: PathBuf) -> Self {
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("words"), [0; 16]).unwrap();
        fs::write(folder.join("done"), []).unwrap();
        Self { queue: Queue::bounded(ROOM).unwrap(), lock: Lock::new().unwrap(), folder }
    }

    fn file(&self, name: &str) -> File {
        File::options().read(true).write(true).open(self.folder.join(name)).unwrap()
    }

    fn got_by(&self, worker: u64) -> PathBuf {
        self.folder.join(format!("got-{worker}"))
    }

    /// How often a worker has done what it does.
    fn done(&self, worker: u64) -> u64 {
        let mut word = [0; 8];
        // Nothing is there as long as it has not begun.
        let _ = self.file("done").read_exact_at(&mut word, worker * 8);
        u64::from_le_bytes(word)
    }
}

/// The life of a worker.
fn work(role: Role, worker: u64, seed: u64, world: World) {
    let done = world.file("done");
    let mut chance = Chance::with(seed);
    let words = world.file("words");
    let mut got = File::create(world.got_by(worker)).unwrap();
    for number in 1_u64.. {
        match role {
            Role::Producer => {
                let mark = Mark { worker, number };
                world.queue.put(mark.message(marks(&mut chance))).unwrap();
            }
            Role::Consumer => {
                let mark = Mark::of(&world.queue.get().unwrap());
                got.write_all(&mark.bytes()).unwrap();
            }
            Role::Holder => hold(&world.lock, &words),
        }
        done.write_all_at(&number.to_le_bytes(), worker * 8).unwrap();
    }
}

/// Changes two words that agree. Whoever is told that somebody ended in the middle makes them agree again.
fn hold(lock: &Lock, words: &File) {
    let guard = lock.acquire().unwrap();
    let mut bytes = [0; 16];
    words.read_exact_at(&mut bytes, 0).unwrap();
    let Mark { worker: first, number: second } = Mark::read(&bytes);
    assert!(first == second || guard.was_abandoned(), "two at a time, or half a change and nobody is told");
    let next = (first + 1).to_le_bytes();
    words.write_all_at(&next, 0).unwrap();
    words.write_all_at(&next, 8).unwrap();
}

/// A worker that runs.
struct Worker {
    role: Role,
    number: u64,
    process: Process<()>,
}

/// All that ran in a round.
struct Round {
    world: World,
    workers: Vec<Worker>,
    /// The role of each worker there was.
    roles: Vec<Role>,
    chance: Chance,
}

impl Round {
    fn start(&mut self, role: Role) {
        let number = self.roles.len() as u64;
        self.roles.push(role);
        let args = (role, number, self.chance.below(u64::MAX), self.world.clone());
        self.workers.push(Worker { role, number, process: Process::spawn(work, args).unwrap() });
    }

    /// Kills one of them; `None` for all.
    fn kill(&mut self, which: Option<usize>) {
        let killed = match which {
            Some(index) => vec![self.workers.swap_remove(index)],
            None => std::mem::take(&mut self.workers),
        };
        for worker in &killed {
            worker.process.kill().unwrap();
        }
        for worker in killed {
            let error = worker.process.result().unwrap_err();
            assert!(error.to_string().contains("SIGKILL"), "{:?} {}: {error}", worker.role, worker.number);
        }
    }

    fn run(&mut self) {
        ROLES.into_iter().for_each(|role| self.start(role));
        for kill in 0..KILLS {
            park_timeout(Duration::from_micros(self.chance.below(PAUSE)));
            let victim = usize::try_from(self.chance.below(ROLES.len() as u64)).unwrap();
            let role = self.workers[victim].role;
            self.kill(Some(victim));
            self.start(role);
            if kill % LOOK == 0 {
                self.assert_nobody_is_stuck();
            }
        }
        self.kill(None);
    }

    fn assert_nobody_is_stuck(&self) {
        for worker in &self.workers {
            let before = self.world.done(worker.number);
            let what = format!("{:?} {} goes on after {before}", worker.role, worker.number);
            eventually(&what, || self.world.done(worker.number) > before + 1 || !worker.process.is_alive());
        }
    }

    /// The marks that each consumer got, and at last what is still there.
    fn got(&self) -> Vec<Vec<Mark>> {
        let consumers = (0_u64..).zip(&self.roles).filter(|(_, role)| **role == Role::Consumer);
        let mut got: Vec<_> = consumers.map(|(worker, _)| lines(&self.world.got_by(worker))).collect();
        let left = (0..self.world.queue.len()).map(|_| self.world.queue.get_timeout(PATIENCE).unwrap());
        got.push(left.map(|message| Mark::of(&message)).collect());
        got
    }

    /// Counts. How many were put, and how many of them are lost.
    fn judge(&self) -> (u64, u64) {
        let mut times: HashMap<Mark, u32> = HashMap::new();
        for marks in self.got() {
            let mut last: HashMap<u64, u64> = HashMap::new();
            for mark in marks {
                let before = last.insert(mark.worker, mark.number).unwrap_or(0);
                assert!(before < mark.number, "{mark:?} came behind {before}");
                *times.entry(mark).or_default() += 1;
            }
        }
        let doubled: Vec<_> = times.iter().filter(|(_, times)| **times > 1).collect();
        assert!(doubled.is_empty(), "doubled: {doubled:?}");
        let producers = (0_u64..).zip(&self.roles).filter(|(_, role)| **role == Role::Producer);
        let (mut put, mut lost) = (0, 0);
        for (worker, _) in producers {
            let done = self.world.done(worker);
            put += done;
            lost +=
                (1..=done).filter(|number| !times.contains_key(&Mark { worker, number: *number })).count();
        }
        // The last one of each may have been put, and its producer have been killed before it said so.
        let beyond = times.keys().filter(|mark| mark.number > self.world.done(mark.worker) + 1).count();
        assert_eq!(beyond, 0, "messages that nobody has put");
        (put, lost as u64)
    }
}

fn lines(path: &Path) -> Vec<Mark> {
    let bytes = fs::read(path).unwrap_or_default();
    bytes.chunks_exact(Mark::SIZE).map(Mark::read).collect()
}

/// One round. The number of messages put, and of those lost.
fn round(folder: PathBuf, chance: Chance) -> (u64, u64) {
    let world = World::new(folder);
    drop(world.lock.acquire().unwrap());
    let before = usage().unwrap();
    let mut round = Round { world, workers: Vec::new(), roles: Vec::new(), chance };
    round.run();
    let (put, lost) = round.judge();
    let killed = round.roles.iter().filter(|role| **role == Role::Consumer).count() as u64;
    assert!(lost <= killed, "{lost} messages are lost, and {killed} consumers were killed");
    assert!(put > KILLS / LOOK, "{put} messages are put: that shows little");
    assert_usable(&round.world, before);
    fs::remove_dir_all(&round.world.folder).unwrap();
    (put, lost)
}

/// The survivor can use everything, and nothing else is in use but one segment of the queue.
fn assert_usable(world: &World, before: Usage) {
    drop(world.lock.acquire_timeout(PATIENCE).unwrap().expect("the lock is stuck"));
    world.queue.put_timeout(vec![1], PATIENCE).unwrap();
    assert_eq!(world.queue.get_timeout(PATIENCE).unwrap(), [1]);
    assert!(world.queue.is_empty());
    let is_clean = |now: Usage| {
        let segments = now.segments - before.segments;
        Usage { segments: before.segments, ..now } == before && segments <= 256 << 10
    };
    eventually("what the dead had is free", || is_clean(usage().unwrap()));
}

#[test]
fn random_kills_lose_nothing_but_what_killed_consumers_have_in_their_hands() {
    let options = Options { watchdog: Duration::from_secs(amount(240, 7200)), ..Options::default() };
    isolated_with(options, || {
        let mut chance = Chance::new();
        let (mut put, mut lost) = (0, 0);
        for number in 0..amount(1, ROUNDS) {
            let folder = std::env::temp_dir().join(format!("round-{number}"));
            let (more_put, more_lost) = round(folder, Chance::with(chance.below(u64::MAX)));
            (put, lost) = (put + more_put, lost + more_lost);
            eprintln!("{} kills: {put} messages put, {lost} lost in dead hands", (number + 1) * KILLS);
        }
    });
}
