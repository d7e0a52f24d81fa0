//! Signals: what children do with them, and what they do to who waits.

use std::{
    env,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use nix::sys::{
    signal::{SigSet, Signal, kill},
    signalfd::SignalFd,
};
use nix::unistd::Pid;
use procession::{Connection, Lock, Queue, StartMethod, pipe};

use crate::family::{contexts, park_forever, run, start};
use crate::support::{eventually, isolated, own_pid, process, sleepers, threads_of};

/// Set for the helper test below.
const PLAY: &str = "PROCESSION_TEST_SIGNALS";

/// Whether `signal` is in the set of signals that /proc/self/status calls `field`: SigBlk, SigIgn, SigCgt.
fn is_in(field: &str, signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let set = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t")).unwrap();
    u64::from_str_radix(set, 16).unwrap() & (1 << (signal as i32 - 1)) != 0
}

/// A job in the background does not end by Ctrl-C, and so must its children not.
#[test]
fn signals_that_a_program_was_told_to_ignore_are_ignored_in_its_children() {
    isolated(|| {
        let output = Command::new("env")
            .args(["--ignore-signal=INT", "--ignore-signal=QUIT"])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "signals::program", "--nocapture", "--test-threads=1"])
            .env_remove("PROCESSION_TEST_ROLE")
            .env(PLAY, "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success() && text.contains("played to the end"), "{text}");
    });
}

/// Plays a program, but only when the test above starts it.
#[test]
fn program() {
    if env::var(PLAY).is_ok() {
        ignore_interrupts();
        println!("\nplayed to the end");
    }
}

fn ignore_interrupts() {
    fn ignored() -> [bool; 3] {
        [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM].map(|signal| is_in("SigIgn", signal))
    }
    for context in &contexts() {
        assert_eq!(run(context, ignored, ()), [true, true, false], "{context:?}");
        assert_eq!(run(context, || run(&contexts()[1], ignored, ()), ()), [true, true, false], "{context:?}");
        let process = start(context, park_forever, ());
        process.interrupt().unwrap();
        process.terminate().unwrap();
        process.join().unwrap();
        assert_eq!(process.exitcode(), Some(-15));
    }
}

#[test]
fn signals_that_the_parent_blocks_are_not_blocked_in_its_children() {
    isolated(|| {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.thread_block().unwrap();
        // A copy made by fork has its parent's mask.
        for context in contexts().iter().filter(|context| context.start_method() != StartMethod::Fork) {
            assert!(!run(context, || is_in("SigBlk", Signal::SIGTERM), ()));
            let process = start(context, park_forever, ());
            process.terminate().unwrap();
            process.join().unwrap();
            assert_eq!(process.exitcode(), Some(-15));
        }
    });
}

/// A31: a process that handles the interrupt goes on.
#[test]
fn process_that_handles_the_interrupt_goes_on() {
    fn handle(connection: &Connection) -> u32 {
        let mut set = SigSet::empty();
        set.add(Signal::SIGINT);
        set.thread_block().unwrap();
        let signals = SignalFd::new(&set).unwrap();
        connection.send(&()).unwrap();
        signals.read_signal().unwrap().unwrap().ssi_signo
    }
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let process = start(context, handle, (&there,));
            here.recv::<()>().unwrap();
            process.interrupt().unwrap();
            assert_eq!(process.result().unwrap(), 2);
            assert_eq!(process.exitcode(), Some(0));
        }
    });
}

/// T158 (_TestPollEintr.test_poll_eintr), without a handler: who waits is stopped and continued by its own child.
#[test]
fn join_goes_on_after_a_stop() {
    fn stop_the_parent(parent: i32) {
        let parent_pid = Pid::from_raw(parent);
        for _ in 0..20 {
            kill(parent_pid, Signal::SIGSTOP).unwrap();
            eventually("it stands still", || process(parent).is_some_and(|state| state.state == 'T'));
            kill(parent_pid, Signal::SIGCONT).unwrap();
            eventually("it goes on", || process(parent).is_some_and(|state| state.state != 'T'));
        }
    }
    isolated(|| {
        for context in &contexts() {
            let process = start(context, stop_the_parent, (own_pid(),));
            process.join().unwrap();
            assert_eq!(process.exitcode(), Some(0));
        }
    });
}

/// What is waited for in shared memory: a lock, a message, and room for one.
type Things = (Lock, Queue<u8>, Queue<u8>);

/// None of them is to be had.
fn things() -> Things {
    let (lock, full) = (Lock::new().unwrap(), Queue::bounded(1).unwrap());
    lock.acquire().unwrap().keep();
    full.put(1).unwrap();
    (lock, Queue::new().unwrap(), full)
}

/// With a thread for each, and one for the lock and the message that gives up at some time.
fn wait_for_all((lock, empty, full): Things) {
    const HOUR: Duration = Duration::from_secs(3600);
    thread::scope(|scope| {
        scope.spawn(|| drop(lock.acquire().unwrap()));
        scope.spawn(|| drop(lock.acquire_timeout(HOUR).unwrap().unwrap()));
        scope.spawn(|| empty.get().unwrap());
        scope.spawn(|| empty.get_timeout(HOUR).unwrap());
        scope.spawn(|| full.put(2).unwrap());
    });
}

/// Y10, without a handler: a stop, and what follows it, ends no wait.
#[test]
fn who_waits_for_a_lock_or_a_queue_goes_on_after_a_stop() {
    isolated(|| {
        for context in &contexts() {
            let (lock, empty, full) = things();
            let waiter = start(context, wait_for_all, ((lock.clone(), empty.clone(), full.clone()),));
            let pid = waiter.pid().cast_signed();
            let are_all =
                |state| threads_of(pid).into_iter().all(|id| process(id).is_some_and(|it| it.state == state));
            // Its first thread waits for the others.
            eventually("all wait", || sleepers(pid).len() == 6);
            for _ in 0..5 {
                kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
                eventually("it stands still", || are_all('T'));
                kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
                eventually("it waits again", || are_all('S'));
            }
            lock.release().unwrap();
            [3, 4].into_iter().for_each(|number| empty.put(number).unwrap());
            assert_eq!([full.get().unwrap(), full.get().unwrap()], [1, 2], "{context:?}");
            waiter.result().unwrap();
            assert!(!lock.is_locked() && empty.is_empty() && full.is_empty());
        }
    });
}

/// Y10: Ctrl-C ends who waits, in whatever it waits for, and nobody else loses anything by it.
#[test]
fn who_waits_for_a_lock_or_a_queue_ends_by_an_interrupt() {
    let acquire = |(lock, ..): Things| drop(lock.acquire().unwrap());
    let get = |(_, empty, _): Things| empty.get().map(drop).unwrap();
    let put = |(.., full): Things| full.put(2).unwrap();
    isolated(|| {
        for context in &contexts() {
            let (lock, empty, full) = things();
            let args = || ((lock.clone(), empty.clone(), full.clone()),);
            for waiter in
                [start(context, acquire, args()), start(context, get, args()), start(context, put, args())]
            {
                let pid = waiter.pid().cast_signed();
                eventually("it sleeps", || sleepers(pid).contains(&pid));
                waiter.interrupt().unwrap();
                waiter.join().unwrap();
                assert_eq!(waiter.exitcode(), Some(-2), "{context:?}");
            }
            empty.put(3).unwrap();
            assert_eq!((empty.get().unwrap(), full.get().unwrap()), (3, 1));
            assert!(full.is_empty() && lock.is_locked());
            lock.release().unwrap();
            assert!(!lock.acquire().unwrap().was_abandoned());
        }
    });
}
