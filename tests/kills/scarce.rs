//! Shared memory where something is lacking or broken: descriptors, threads, addresses, file sizes, the maker of a queue, the header of
//! the memory.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Uid, geteuid, setresuid};
use procession::prelude::*;
use procession_ipc::usage;

use crate::relatives;
use crate::shared::Shared;
use crate::sleeper::PATIENCE;
use crate::support::{fd_table, isolated, kill9};

/// Uses shared memory for the first time, and for the second.
fn use_it() -> Result<(), Error> {
    let (queue, lock) = (Queue::new()?, Lock::new()?);
    queue.put(vec![5; 70_000]).map_err(Error::from)?;
    assert_eq!(queue.get()?, vec![5; 70_000]);
    drop(lock.acquire()?);
    Ok(())
}

/// Whether that works; if not, the error says that something is lacking.
fn works() -> bool {
    match use_it() {
        Ok(()) => true,
        Err(error) => {
            let kind = error.kind();
            let is_told = matches!(
                kind,
                ErrorKind::Os { .. } | ErrorKind::NoSharedMemory { .. } | ErrorKind::OutOfSpace { .. }
            );
            assert!(is_told, "{error:?}");
            false
        }
    }
}

/// Runs each part of a test as a family of its own, from 0 on, until one says that with so much it works. How many did not.
fn until_it_works(test: &str) -> u32 {
    (0..1000)
        .find(|amount: &u32| {
            let output = relatives::start(test, &amount.to_string()).wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "with {amount}: {}\n{text}", output.status);
            text.contains("it works")
        })
        .expect("it never works")
}

fn say(works: bool) {
    println!("{}", if works { "it works" } else { "it does not" });
}

/// All descriptors but so many.
fn take_descriptors(free: usize) -> Vec<OwnedFd> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let highest = fd_table().into_iter().map(|(fd, _)| fd).max().unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, highest as u64 + 41, hard).unwrap();
    let mut taken: Vec<OwnedFd> =
        std::iter::from_fn(|| File::open("/dev/null").ok()).map(Into::into).collect();
    taken.truncate(taken.len() - free);
    taken
}

/// FC7, FC8: whatever descriptor is the first one that is not there. When there are some again, it works in the same process.
#[test]
fn without_descriptors_shared_memory_is_an_error_and_works_afterwards() {
    let test = "scarce::without_descriptors_shared_memory_is_an_error_and_works_afterwards";
    isolated(|| {
        let Some(free) = relatives::part() else {
            assert!(until_it_works(test) > 0, "it works without any");
            return;
        };
        let taken = take_descriptors(free.parse().unwrap());
        let works = works();
        drop(taken);
        say(works);
        use_it().unwrap();
    });
}

/// From now on no thread can be started; `false`: again as many as before. To root no limit of these applies, so it becomes
/// somebody else.
fn forbid_threads(is_forbidden: bool) {
    if geteuid().is_root() {
        let nobody = Uid::from_raw(65_534);
        setresuid(nobody, nobody, nobody).unwrap();
        // Else `/proc/self` belongs to root.
        prctl::set_dumpable(true).unwrap();
    }
    let (_, hard) = getrlimit(Resource::RLIMIT_NPROC).unwrap();
    setrlimit(Resource::RLIMIT_NPROC, if is_forbidden { 0 } else { hard }, hard).unwrap();
}

/// FC7, FC8: the threads that learn of deaths, and that sleep for tasks. When they are to be had, it works in the same process.
#[test]
fn without_threads_shared_memory_is_an_error_and_works_afterwards() {
    let test = "scarce::without_threads_shared_memory_is_an_error_and_works_afterwards";
    isolated(|| {
        if relatives::part().is_none() {
            let output = relatives::start(test, "threads").wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
            return;
        }
        let is_told =
            |error: &Error| matches!(error.kind(), ErrorKind::Os { doing } if doing.contains("thread"));
        forbid_threads(true);
        for _ in 0..3 {
            assert!(is_told(&use_it().unwrap_err()));
        }
        forbid_threads(false);
        use_it().unwrap();
        assert_eq!(usage().unwrap().processes, 1, "a place in the table is lost");
        let queue = Queue::<u8>::new().unwrap();
        forbid_threads(true);
        let mut wait = pin!(queue.get_async());
        let polled = wait.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Err(error)) if is_told(&error)));
        forbid_threads(false);
        let mut wait = pin!(queue.get_async());
        assert!(wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    });
}

fn address_space() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 4096
}

/// FC7: a process that may have 1, 2, 3 ... MiB more addresses than it has.
#[test]
fn without_addresses_shared_memory_is_an_error() {
    let test = "scarce::without_addresses_shared_memory_is_an_error";
    isolated(|| {
        let Some(amount) = relatives::part() else {
            assert!(until_it_works(test) > 0, "it works without any");
            return;
        };
        let most = address_space() + ((1 + amount.parse::<u64>().unwrap()) << 20);
        setrlimit(Resource::RLIMIT_AS, most, most).unwrap();
        say(works());
    });
}

/// FC6: beyond this limit the kernel would end the process by a signal.
#[test]
fn with_small_files_only_shared_memory_is_small_or_an_error() {
    let test = "scarce::with_small_files_only_shared_memory_is_small_or_an_error";
    isolated(|| {
        let Some(amount) = relatives::part() else {
            assert!(until_it_works(test) > 0, "it works with files of 0 bytes");
            return;
        };
        let most = amount.parse::<u64>().unwrap() << 20;
        setrlimit(Resource::RLIMIT_FSIZE, most, most).unwrap();
        say(works());
    });
}

fn make_and_stay(line: Connection) {
    let (queue, lock) = (Queue::new().unwrap(), Lock::new().unwrap());
    queue.put(vec![7_u8]).unwrap();
    line.send(&(queue, lock)).unwrap();
    line.recv::<()>().unwrap();
}

fn take_one(queue: Queue<Vec<u8>>, lock: Lock) -> Vec<u8> {
    let _guard = lock.acquire().unwrap();
    queue.get().unwrap()
}

/// FC9: whoever made a queue or a lock dies first.
#[test]
fn what_a_killed_process_made_goes_on() {
    isolated(|| {
        let (line, there) = pipe().unwrap();
        let maker = Process::spawn(make_and_stay, (there,)).unwrap();
        let (queue, lock): (Queue<Vec<u8>>, Lock) = line.recv().unwrap();
        kill9(maker.pid().cast_signed());
        maker.join().unwrap();
        queue.put(vec![8]).unwrap();
        for expected in [vec![7], vec![8]] {
            let other = Process::spawn(take_one, (queue.clone(), lock.clone())).unwrap();
            assert_eq!(other.result().unwrap(), expected);
        }
        assert!(queue.is_empty());
    });
}

/// FC10: a process that maps what is no arena says so; those that use it already go on. Nobody can cut it off.
#[test]
fn a_broken_header_is_an_error_of_who_comes_later() {
    isolated(|| {
        let queue = Queue::new().unwrap();
        queue.put(vec![7]).unwrap();
        let lock = Lock::new().unwrap();
        let shared = Shared::up_to(0);
        shared.file().write_all_at(&[0xFF; 8], 0).unwrap();
        let other = Process::spawn(take_one, (queue.clone(), lock)).unwrap();
        let error = other.result().unwrap_err();
        assert!(error.to_string().contains("malformed shared memory"), "{error:?}");
        assert_eq!(queue.get_timeout(PATIENCE).unwrap(), [7]);
        assert!(shared.file().set_len(0).is_err() && shared.file().set_len(1 << 40).is_err());
    });
}
