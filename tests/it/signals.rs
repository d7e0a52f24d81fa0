//! Signals: what children do with them, and what they do to who waits.

use std::{
    env,
    process::{Command, Stdio},
};

use nix::sys::{
    signal::{SigSet, Signal, kill},
    signalfd::SignalFd,
};
use nix::unistd::Pid;
use procession::{Connection, StartMethod, pipe};

use crate::family::{contexts, park_forever, run, start};
use crate::support::{eventually, isolated, own_pid, process};

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
