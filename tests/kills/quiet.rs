//! What shared memory costs: nothing while everybody waits, nothing when a process crashes, and nothing when all are gone.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::park_timeout;
use std::time::Duration;

use nix::sys::resource::{Resource, setrlimit};
use procession::prelude::*;

use crate::relatives;
use crate::shared::Shared;
use crate::sleeper::{PATIENCE, Sleeper, whenever_told};
use crate::support::{descendants_of, eventually, fd_table_of, isolated, kill9, own_pid, processes};

fn acquire(lock: Lock, line: Connection) {
    whenever_told(&line, || lock.acquire().unwrap().keep());
}

fn take(queue: Queue<Vec<u8>>, line: Connection) {
    whenever_told(&line, || queue.get().unwrap());
}

fn give(queue: Queue<Vec<u8>>, line: Connection) {
    whenever_told(&line, || queue.put(vec![1]).unwrap());
}

/// Of each thread of the descendants: its place, its processor time in ticks, and how often it was given the processor.
fn activity() -> Vec<(PathBuf, Vec<String>)> {
    let tasks = descendants_of(own_pid()).into_iter().flat_map(|process| {
        let folder = fs::read_dir(format!("/proc/{}/task", process.pid));
        folder.into_iter().flatten().flatten().map(|entry| entry.path())
    });
    tasks.filter_map(|task| activity_of(&task).map(|activity| (task, activity))).collect()
}

/// `None`: it has just ended.
fn activity_of(task: &Path) -> Option<Vec<String>> {
    let stat = fs::read_to_string(task.join("stat")).ok()?;
    let status = fs::read_to_string(task.join("status")).ok()?;
    let times = stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(2);
    let switches = status.lines().filter(|line| line.contains("ctxt_switches"));
    Some(times.chain(switches).map(str::to_owned).collect())
}

/// Y12, D5: whoever waits for a lock, a message or room sleeps in the kernel, and so do the threads that learn of deaths.
#[test]
fn who_waits_uses_no_processor_time() {
    isolated(|| {
        let (lock, empty, full) = (Lock::new().unwrap(), Queue::new().unwrap(), Queue::bounded(1).unwrap());
        empty.put(vec![0]).unwrap();
        let (acquirer, ()) = Sleeper::start(acquire, |line| (lock.clone(), line));
        let (taker, _): (_, Vec<u8>) = Sleeper::start(take, |line| (empty.clone(), line));
        let (giver, ()) = Sleeper::start(give, |line| (full.clone(), line));
        [&acquirer, &taker, &giver].into_iter().for_each(Sleeper::fall_asleep);
        let mut before = activity();
        eventually("everybody is asleep", || {
            park_timeout(Duration::from_millis(100));
            let now = activity();
            now == std::mem::replace(&mut before, now.clone())
        });
        park_timeout(Duration::from_secs(2));
        assert_eq!(activity(), before);
        assert!(before.len() >= 6, "three processes, and a thread more in each: {before:?}");
        lock.release().unwrap();
        empty.put(vec![0]).unwrap();
        full.get().unwrap();
        let (): () = acquirer.woken();
        let _: Vec<u8> = taker.woken();
        let (): () = giver.woken();
    });
}

/// What the links to it in `/proc` say of the memory of a family.
const MEMORY: &str = "/memfd:procession ";

/// As large as a core file may get here; far less than an arena, far more than a small program.
const CORE: u64 = 512 << 20;

fn crash(queue: Queue<Vec<u8>>, folder: String) {
    std::env::set_current_dir(folder).unwrap();
    setrlimit(Resource::RLIMIT_CORE, CORE, CORE).unwrap();
    queue.put(vec![1]).unwrap();
    std::process::abort();
}

/// A core dump reads all of a process's memory, and so would fill the holes of what is shared.
#[test]
fn a_core_dump_takes_neither_memory_nor_disk() {
    isolated(|| {
        let queue = Queue::new().unwrap();
        queue.put(vec![0]).unwrap();
        let memory = || Shared::up_to(0).file().metadata().unwrap().blocks() * 512;
        let (before, folder) = (memory(), std::env::temp_dir());
        let process = Process::spawn(crash, (queue.clone(), folder.to_str().unwrap().to_owned())).unwrap();
        assert!(process.join_timeout(PATIENCE).unwrap());
        assert_eq!(queue.len(), 2);
        assert!(memory() < before + (1 << 20), "{before} bytes before, {} now", memory());
        // Where cores go is the machine's affair; some go here.
        for file in fs::read_dir(&folder).unwrap() {
            let file = file.unwrap();
            let size = file.metadata().unwrap().blocks() * 512;
            assert!(size < CORE / 4, "{} has {size} bytes", file.path().display());
            fs::remove_file(file.path()).unwrap();
        }
    });
}

fn stay(queue: Queue<Vec<u8>>, lock: Lock, line: Connection) {
    queue.put(vec![1; 300_000]).unwrap();
    let _guard = lock.try_acquire().unwrap();
    line.send(&()).unwrap();
    queue.iter().count();
}

/// The processes that have the memory file of this inode open or mapped.
fn holders_of(inode: u64) -> Vec<i32> {
    let has_it_open = |pid: i32| {
        let memory = fd_table_of(pid).into_iter().filter(|(_, target)| target.starts_with(MEMORY));
        let inodes =
            memory.filter_map(|(fd, _)| fs::metadata(format!("/proc/{pid}/fd/{fd}")).ok()).map(|m| m.ino());
        inodes.into_iter().any(|other| other == inode)
    };
    let has_it_mapped = |pid: i32| {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        let inode = inode.to_string();
        maps.lines().any(|line| line.contains(MEMORY) && line.split_whitespace().nth(4) == Some(&inode))
    };
    let pids = processes().into_iter().map(|process| process.pid);
    pids.filter(|pid| has_it_open(*pid) || has_it_mapped(*pid)).collect()
}

/// A family with much in its hands, of which nobody is left to clear up. Nor is its memory: a file without a name ends with
/// the last who has it.
#[test]
fn a_family_that_is_killed_as_a_whole_leaves_nothing() {
    let test = "quiet::a_family_that_is_killed_as_a_whole_leaves_nothing";
    isolated(|| {
        if relatives::part().is_some() {
            let (queue, lock) = (Queue::new().unwrap(), Lock::new().unwrap());
            for _ in 0..3 {
                let (here, there) = pipe().unwrap();
                Process::spawn(stay, (queue.clone(), lock.clone(), there)).unwrap();
                here.recv::<()>().unwrap();
            }
            println!("ready {}", Shared::up_to(0).file().metadata().unwrap().ino());
            return queue.iter().for_each(drop);
        }
        let mut root = relatives::start(test, "family");
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(root.stdout.take().unwrap()));
        // The harness begins the line.
        let inode = lines.find_map(|line| line.unwrap().split_once("ready ")?.1.parse().ok()).unwrap();
        let family = descendants_of(own_pid());
        assert!(family.len() >= 5, "{family:?}");
        assert!(holders_of(inode).len() >= 4, "a root and three others");
        family.iter().for_each(|process| kill9(process.pid));
        root.wait().unwrap();
        eventually("nobody has the memory", || holders_of(inode).is_empty());
    });
}
