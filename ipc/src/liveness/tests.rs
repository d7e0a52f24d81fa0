//! Processes that die, seen by the others. Each test runs its own binary again for the other processes, which get the arena
//! as their standard input and play the part that their environment names.

use super::ProcessId;
use super::keeper::{Keeper, Marked, presence};
use super::presence::{Identity, Presence};
use super::table::{Header, Marks, Slot, Table};
use crate::atomic::{AtomicU32, Ordering};
use crate::shm::Region;
use crate::sync::Futex;
use crate::sync::lock::{Acquired, Lock};
use crate::sys::memory::{Map, memory_taken, sparse_memory};
use crate::sys::process::start_time;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::stdin;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PART: &str = "PROCESSION_TEST_PART";

/// For what should have come long ago: a hang becomes a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where things are in the arena of these tests.
const SLOTS: usize = 4096;
const MARKS: usize = 1 << 20;
const LOCKS: usize = 2 << 20;
const READY: usize = 3 << 20;
const BYTES: usize = 4 << 20;

/// What a dying process has still to store, and the part of it that the next holder writes.
const READ: usize = 512 << 20;
const LAST: usize = 64 << 20;

/// The arena, seen by one process.
struct World {
    file: OwnedFd,
    region: Region,
    table: Table,
    own: ProcessId,
}

impl World {
    fn map(file: OwnedFd) -> (OwnedFd, Region, Table) {
        let region = Region::new(Map::new(file.as_fd()).unwrap());
        (file, region, table(region, 512))
    }

    fn join(file: OwnedFd, presence: fn(Identity, Marked) -> Presence) -> Self {
        let (file, region, table) = Self::map(file);
        let own = table.claim(Identity::own().unwrap()).unwrap();
        let sweep = move |gone| locks(region).iter().for_each(|lock| lock.abandon(gone, &Futex));
        Keeper { table, own, sweep, presence, woken: |_| {}, tenure: None }.start().unwrap();
        Self { file, region, table, own }
    }

    /// In the process that runs the test.
    fn new() -> Self {
        Self::join(sparse_memory((BYTES + READ) as u64).unwrap(), presence)
    }

    fn lock(&self, number: usize) -> &'static Lock {
        &locks(self.region)[number]
    }

    fn acquire(&self, number: usize) -> Acquired {
        self.lock(number).acquire(self.own, &Futex, Some(Instant::now() + PATIENCE)).unwrap()
    }

    fn ready(&self) -> &'static AtomicU32 {
        self.region.view(READY).unwrap()
    }

    /// Starts a process that plays a part of `test`.
    fn start(&self, test: &str, part: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("liveness::tests::{test}"), "--nocapture"])
            .env(PART, part)
            .stdin(Stdio::from(self.file.try_clone().unwrap()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// In a process that was started: says that all is prepared, and stays until it is killed.
    fn stay(&self) -> ! {
        self.ready().fetch_add(1, Ordering::Release);
        loop {
            std::thread::park();
        }
    }
}

fn table(region: Region, processes: usize) -> Table {
    let slots = region.views::<Slot>(SLOTS, processes).unwrap();
    let marks = region.views::<Marks>(MARKS, processes).unwrap();
    Table::new(region.view::<Header>(0).unwrap(), slots, marks)
}

fn locks(region: Region) -> &'static [Lock] {
    region.views(LOCKS, 256).unwrap()
}

/// The part that this process plays, if it was started for one. It does not outlive the test.
fn part() -> Option<(String, OwnedFd)> {
    let part = std::env::var(PART).ok()?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
    Some((part, stdin().as_fd().try_clone_to_owned().unwrap()))
}

fn join(file: OwnedFd) -> World {
    World::join(file, presence)
}

#[track_caller]
fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it has not come true");
        std::thread::yield_now();
    }
}

#[test]
fn a_lock_of_a_process_that_ends_is_taken_over() {
    if let Some((part, file)) = part() {
        let world = join(file);
        assert_eq!(world.acquire(0), Acquired::Released);
        match part.as_str() {
            "killed" => world.stay(),
            "aborts" => std::process::abort(),
            "returns" => return,
            other => panic!("no part `{other}`"),
        }
    }
    let world = World::new();
    for part in ["killed", "aborts", "returns"] {
        let mut child = world.start("a_lock_of_a_process_that_ends_is_taken_over", part);
        until(|| world.lock(0).holder().is_some());
        let holder = world.lock(0).holder().unwrap();
        if part == "killed" {
            child.kill().unwrap();
        }
        assert_eq!(world.acquire(0), Acquired::TakenOver(holder), "{part}");
        assert_eq!(world.lock(0).release(&Futex), Ok(()));
        until(|| world.table.holder(holder.slot()).is_none());
        child.wait().unwrap();
    }
}

/// A zombie has stopped storing: whoever forgets to reap it keeps nobody waiting.
#[test]
fn the_dead_need_not_be_reaped() {
    if let Some((_, file)) = part() {
        let world = join(file);
        world.acquire(7);
        world.stay()
    }
    let world = World::new();
    let mut child = world.start("the_dead_need_not_be_reaped", "holder");
    until(|| world.ready().load(Ordering::Acquire) == 1);
    child.kill().unwrap();
    assert!(matches!(world.acquire(7), Acquired::TakenOver(_)));
    child.wait().unwrap();
}

/// Others are being stopped as somebody dies, by which the kernel may have woken them already: so they learn of it when they go
/// on, and we now.
#[test]
fn who_is_being_stopped_keeps_a_death_from_nobody() {
    const STOPPED: usize = 4;
    const DEATHS: u32 = 300;
    if let Some((part, file)) = part() {
        let world = join(file);
        if part == "holder" {
            world.acquire(0);
        }
        world.stay()
    }
    let world = World::new();
    let test = "who_is_being_stopped_keeps_a_death_from_nobody";
    let others: Vec<_> = (0..STOPPED).map(|_| world.start(test, "watches")).collect();
    let tell = |signal| others.iter().for_each(|other| kill(pid_of(other), signal).unwrap());
    for death in 1..=DEATHS {
        let mut holder = world.start(test, "holder");
        until(|| world.ready().load(Ordering::Acquire) as usize == STOPPED + death as usize);
        holder.kill().unwrap();
        // From before the kernel's mark until after it.
        let later = Instant::now() + Duration::from_micros((death * 7 % 400).into());
        while Instant::now() < later {
            std::hint::spin_loop();
        }
        tell(Signal::SIGSTOP);
        assert!(matches!(world.acquire(0), Acquired::TakenOver(_)));
        assert_eq!(world.lock(0).release(&Futex), Ok(()));
        tell(Signal::SIGCONT);
        holder.wait().unwrap();
    }
    for mut other in others {
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().cast_signed())
}

/// More than one keeper can watch, all killed at once, each with a lock in its hands.
#[test]
fn many_that_die_at_once_are_all_swept_for() {
    const MANY: usize = 150;
    if let Some((part, file)) = part() {
        let world = join(file);
        world.acquire(part.parse().unwrap());
        world.stay()
    }
    let world = World::new();
    let test = "many_that_die_at_once_are_all_swept_for";
    let mut children: Vec<_> = (0..MANY).map(|number| world.start(test, &number.to_string())).collect();
    until(|| world.ready().load(Ordering::Acquire) as usize == MANY);
    // One survives with us: so two keepers sweep.
    let mut survivor = children.pop().unwrap();
    children.iter_mut().for_each(|child| child.kill().unwrap());
    for number in 0..MANY - 1 {
        assert!(matches!(world.acquire(number), Acquired::TakenOver(_)), "{number}");
    }
    until(|| world.table.count() == 2);
    assert!(world.lock(MANY - 1).try_acquire(world.own).is_none(), "its holder is alive");
    survivor.kill().unwrap();
    for mut child in children.into_iter().chain([survivor]) {
        child.wait().unwrap();
    }
    until(|| world.table.count() == 1);
}

/// The keeper of this slot runs, as far as marks say.
fn make_alive(table: &Table, id: ProcessId) {
    table.marks(id).unwrap().iter().for_each(|mark| mark.set(1));
}

/// What one of them does not tell, because it was being stopped, nobody tells the other.
#[test]
fn keepers_that_have_marks_in_common_look_now_and_then() {
    let (_file, region, _) = World::map(sparse_memory(BYTES as u64).unwrap());
    let table = table(region, 512);
    let ids: Vec<_> = (1..=129).map(|pid| table.claim(Identity { pid, start: 0 }).unwrap()).collect();
    ids.iter().for_each(|id| make_alive(&table, *id));
    let is_crowd = |own| {
        let keeper = Keeper { table, own, sweep: |_| {}, presence, woken: |_| {}, tenure: None };
        keeper.look(&mut Vec::new()).is_crowd
    };
    assert!(ids.iter().all(|id| is_crowd(*id)), "a keeper cannot watch 128 others");
    table.withdraw(ids[1]);
    assert!(is_crowd(ids[0]) && is_crowd(ids[128]) && !is_crowd(ids[2]));
    table.withdraw(ids[0]);
    assert!(!is_crowd(ids[128]));
}

/// Killed in the middle of registering: it has claimed a slot, and nothing is there to be marked.
#[test]
fn a_slot_whose_holder_never_had_a_keeper_is_freed() {
    if let Some((_, file)) = part() {
        let (_file, region, table) = World::map(file);
        table.claim(Identity::own().unwrap()).unwrap();
        region.view::<AtomicU32>(READY).unwrap().fetch_add(1, Ordering::Release);
        loop {
            std::thread::park();
        }
    }
    let world = World::new();
    let mut child = world.start("a_slot_whose_holder_never_had_a_keeper_is_freed", "claims");
    until(|| world.ready().load(Ordering::Acquire) == 1);
    let number = world.own.slot() + 1;
    let claimed = world.table.holder(number).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    world.table.announce();
    until(|| world.table.holder(number).is_none());
    let id = world.table.claim(Identity::own().unwrap()).unwrap();
    assert_eq!((id.slot(), id.generation()), (number, claimed.id.generation() + 1));
    world.table.withdraw(id);
}

/// Acquires, changes two words that should agree, and releases, for ever. Who takes over makes them agree again.
fn change_two_words(world: &World) -> ! {
    let [first, second, wrong] = two_words(world);
    world.ready().fetch_add(1, Ordering::Release);
    loop {
        let acquired = world.acquire(0);
        if acquired != Acquired::Released {
            second.store(first.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        let number = first.load(Ordering::Relaxed);
        if second.load(Ordering::Relaxed) != number {
            wrong.fetch_add(1, Ordering::Relaxed);
        }
        first.store(number.wrapping_add(1), Ordering::Relaxed);
        second.store(number.wrapping_add(1), Ordering::Relaxed);
        // Another one may have marked it only if we were gone.
        if world.lock(0).holder() != Some(world.own) || world.lock(0).release(&Futex).is_err() {
            wrong.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn two_words(world: &World) -> [&'static AtomicU32; 3] {
    [64, 128, 192].map(|offset| world.region.view(READY + offset).unwrap())
}

/// Holders and waiters, killed at random moments: the others go on, one at a time, and are told.
#[test]
fn random_kills_stop_nobody_and_let_no_two_in() {
    const KILLS: usize = 60;
    const WORKERS: usize = 3;
    if let Some((_, file)) = part() {
        change_two_words(&join(file))
    }
    let world = World::new();
    let test = "random_kills_stop_nobody_and_let_no_two_in";
    let [first, second, wrong] = two_words(&world);
    let mut workers: Vec<_> = (0..WORKERS).map(|_| world.start(test, "works")).collect();
    for kill in 0..KILLS {
        until(|| world.ready().load(Ordering::Acquire) as usize >= WORKERS + kill);
        let before = first.load(Ordering::Relaxed);
        until(|| first.load(Ordering::Relaxed) != before);
        let victim = &mut workers[kill % WORKERS];
        victim.kill().unwrap();
        victim.wait().unwrap();
        *victim = world.start(test, "works");
    }
    for worker in &mut workers {
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
    let acquired = world.acquire(0);
    let is_whole = first.load(Ordering::Relaxed) == second.load(Ordering::Relaxed);
    assert!(is_whole || acquired != Acquired::Released, "half a change, and nobody is told");
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
    // The last one may have been killed between claiming its slot and telling so.
    world.table.announce();
    until(|| world.table.count() == 1);
}

/// Kills a process inside a system call that stores into the arena. The next holder of its lock writes where the system call
/// has not been yet. Whether what it wrote is still there in the end.
fn next_holder_is_left_alone(test: &str, presence: fn(Identity, Marked) -> Presence) -> bool {
    let world = World::join(sparse_memory((BYTES + READ) as u64).unwrap(), presence);
    let mut child = world.start(test, "reads");
    until(|| world.ready().load(Ordering::Acquire) == 1);
    let before = memory_taken(world.file.as_fd()).unwrap();
    until(|| memory_taken(world.file.as_fd()).unwrap() > before + (1 << 20));
    child.kill().unwrap();
    assert!(matches!(world.acquire(0), Acquired::TakenOver(_)));
    let ours = vec![0x55; 1 << 20];
    let places = (BYTES + READ - LAST..BYTES + READ).step_by(ours.len());
    places.clone().for_each(|at| world.region.write(at, &ours).unwrap());
    child.wait().unwrap();
    let mut there = vec![0; ours.len()];
    let is_intact = places.into_iter().all(|at| {
        world.region.read(at, &mut there).unwrap();
        there == ours
    });
    world.region.give_memory_back(BYTES, READ).unwrap();
    is_intact
}

/// Acquires, and reads 512 MiB of zeros into the arena by one call.
fn read_in_one_call(file: OwnedFd) -> ! {
    let world = join(file);
    world.acquire(0);
    let zeros = sparse_memory(READ as u64).unwrap();
    world.ready().fetch_add(1, Ordering::Release);
    world.region.fill_from(zeros.as_fd(), BYTES, READ);
    world.stay()
}

/// Dying is not dead.
#[test]
fn what_the_dying_store_is_stored_before_anybody_takes_over() {
    if let Some((_, file)) = part() {
        read_in_one_call(file)
    }
    let test = "what_the_dying_store_is_stored_before_anybody_takes_over";
    assert!(next_holder_is_left_alone(test, presence));
}

/// The test above is worth something: it fails where the kernel's mark is believed.
#[test]
fn without_the_rule_the_dying_spoil_what_the_next_holder_wrote() {
    if let Some((_, file)) = part() {
        read_in_one_call(file)
    }
    let test = "without_the_rule_the_dying_spoil_what_the_next_holder_wrote";
    let believes_the_mark = |identity: Identity, mark: Marked| {
        if mark.0 { Presence::Gone } else { identity.presence() }
    };
    let is_spoiled = |_| !next_holder_is_left_alone(test, believes_the_mark);
    assert!((0..10).any(is_spoiled), "not once in ten times");
}

#[test]
fn a_process_is_gone_when_its_number_is_another_ones() {
    let own = Identity::own().unwrap();
    assert!(matches!(own.presence(), Presence::Here(_)));
    let another = Identity { start: own.start ^ 1, ..own };
    assert!(matches!(another.presence(), Presence::Gone));
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let start = start_time(child.id().cast_signed()).unwrap();
    let identity = Identity { pid: child.id(), start: (start & 0xFF_FFFF) as u32 };
    assert!(matches!(identity.presence(), Presence::Here(_)));
    drop(child.stdin.take());
    until(|| matches!(identity.presence(), Presence::Gone));
    child.wait().unwrap();
    assert!(matches!(identity.presence(), Presence::Gone));
}

#[test]
fn the_oldest_process_is_known_whatever_its_slot() {
    let (_file, region, _) = World::map(sparse_memory(BYTES as u64).unwrap());
    let table = table(region, 8);
    let day = 1 << 23;
    let claim = |pid, start| table.claim(Identity { pid, start }).unwrap();
    let [young, first, same] = [claim(7, 500), claim(8, 100), claim(9, 100)];
    let without_keeper = claim(10, 3);
    [young, first, same].iter().for_each(|id| make_alive(&table, *id));
    assert_eq!(table.oldest(|_| true), Some(first), "nobody asks one that has not begun");
    assert_eq!(table.oldest(|id| id != first), Some(same));
    assert_eq!(table.oldest(|id| id == without_keeper), None);
    // Times go round.
    let (before, after) = (Identity { pid: 1, start: 2 * day - 5 }, Identity { pid: 2, start: 5 });
    assert!(before.is_older_than(after) && !after.is_older_than(before));
}

/// A slot that a parent has claimed for its child is the parent's, and then the child's, under one number.
#[test]
fn a_slot_changes_hands_by_one_store_and_keeps_its_number() {
    let (_file, region, _) = World::map(sparse_memory(BYTES as u64).unwrap());
    let table = table(region, 4);
    let own = Identity::own().unwrap();
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let other = Identity::of(child.id().cast_signed()).unwrap();
    let seat = table.claim_quietly(own).unwrap();
    assert!(table.is_held_by(seat, own) && !table.is_held_by(seat, other));
    table.hand_over(seat, other);
    assert!(table.is_held_by(seat, other) && !table.is_held_by(seat, own) && table.is_holder(seat));
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(matches!(other.presence(), Presence::Gone));
    table.release(&table.holder(seat.slot()).unwrap());
    assert!(!table.is_holder(seat) && Identity::of(child.id().cast_signed()).is_none());
}

#[test]
fn slots_are_claimed_once_and_never_with_an_old_id() {
    let file = sparse_memory(BYTES as u64).unwrap();
    let (_file, region, _) = World::map(file);
    let table = table(region, 4);
    let own = Identity::own().unwrap();
    let ids: Vec<_> = std::iter::from_fn(|| table.claim(own)).collect();
    assert_eq!(ids.iter().map(|id| id.slot()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(table.after(1).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(table.after(2).collect::<Vec<_>>(), [3, 1]);
    let old = table.holder(2).unwrap();
    table.release(&old);
    let new = table.claim(own).unwrap();
    assert_eq!((new.slot(), new.generation()), (2, old.id.generation() + 1));
    table.release(&old);
    assert_eq!(table.holder(2).unwrap().id, new, "who sweeps twice frees once");
}
