//! The end of a program: daemons are terminated, all others are joined, as in Python.

use std::{
    env,
    io::Write,
    os::fd::AsFd,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::dup2_stdout;
use procession::{Connection, Orphan, Pool, Process, pipe};

use crate::family::{contexts, leave, park_forever, start};
use crate::support::{eventually, is_gone, isolated, own_pid};

/// Which program the helper test plays.
const PLAY: &str = "PROCESSION_TEST_PLAY";

/// Tells its pid, and takes its time after it was told to go on.
fn slow(connection: &Connection) {
    connection.send(&own_pid()).unwrap();
    // Nothing ever comes here: a pause that the parent's exit must wait for.
    assert!(!connection.poll_timeout(Duration::from_millis(200)).unwrap());
}

fn parent_of_a_slow_child(connection: &Connection) {
    drop(Process::spawn(slow, (connection,)).unwrap());
}

/// In a child, whose end is `exit`.
#[test]
fn child_that_is_no_daemon_is_joined_at_exit() {
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let process = start(context, parent_of_a_slow_child, (&there,));
            let pid: i32 = here.recv().unwrap();
            process.join().unwrap();
            assert!(is_gone(pid), "its parent did not wait for it");
            assert_eq!(process.exitcode(), Some(0));
        }
    });
}

fn parent_of_a_daemon(connection: &Connection) {
    // Not armed, so it is the exit handler that ends it and not the kernel.
    let daemon = Process::builder(park_forever).daemon(true).orphan(Orphan::Keep).start().unwrap();
    connection.send(&daemon.pid().cast_signed()).unwrap();
    drop(daemon);
}

#[test]
fn daemon_is_terminated_at_exit() {
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let process = start(context, parent_of_a_daemon, (&there,));
            let pid: i32 = here.recv().unwrap();
            process.join().unwrap();
            assert!(is_gone(pid), "the daemon lives");
            assert_eq!(process.exitcode(), Some(0));
        }
    });
}

/// T109 (_TestPoolWorkerLifetime.test_worker_finalization_via_atexit_handler_of_multiprocessing).
#[test]
fn program_with_a_live_pool_in_a_static_ends() {
    static POOL: std::sync::OnceLock<Pool> = std::sync::OnceLock::new();
    fn keep_a_pool() -> Vec<u32> {
        let pool = POOL.get_or_init(|| Pool::new(2).unwrap());
        assert_eq!(pool.apply(|x: u8| x, (1,)).unwrap(), 1);
        pool.worker_pids()
    }
    isolated(|| {
        for context in &contexts() {
            let process = start(context, keep_a_pool, ());
            process.join().unwrap();
            assert_eq!(process.exitcode(), Some(0));
            let pids = process.result().unwrap();
            assert!(pids.len() == 2 && pids.iter().all(|pid| is_gone(pid.cast_signed())));
        }
    });
}

/// On a thread that never gives it back.
fn hold_output() -> u8 {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let _held = std::io::stdout().lock();
        tell.send(()).unwrap();
        park_forever();
    });
    told.recv().unwrap();
    7
}

/// On a thread that never comes to the end of it.
fn print_more_than_anybody_reads() -> u8 {
    let (_reader, writer) = nix::unistd::pipe().unwrap();
    dup2_stdout(&writer).unwrap();
    thread::spawn(|| std::io::stdout().write_all(&vec![b'.'; 1 << 20]));
    eventually("the pipe is full", || {
        let mut space = [PollFd::new(writer.as_fd(), PollFlags::POLLOUT)];
        poll(&mut space, PollTimeout::ZERO).unwrap() == 0
    });
    7
}

/// As a program whose `main` returns: what cannot be had is not waited for.
#[test]
fn child_ends_although_one_of_its_threads_never_gives_standard_output_back() {
    isolated(|| {
        for context in &contexts() {
            for process in
                [start(context, hold_output, ()), start(context, print_more_than_anybody_reads, ())]
            {
                process.join().unwrap();
                assert_eq!(process.exitcode(), Some(0), "{context:?}");
                assert_eq!(process.result().unwrap(), 7);
            }
        }
    });
}

/// Runs this binary as another program, which does what `play` says in a helper test below.
fn run_program(play: &str) -> (Option<i32>, String) {
    let output = Command::new("/proc/self/exe")
        .args(["--exact", "exit::program", "--nocapture", "--test-threads=1"])
        .env_remove("PROCESSION_TEST_ROLE")
        .env(PLAY, play)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// The numbers after `pid` in what a program printed.
fn pids_in(text: &str) -> Vec<i32> {
    text.lines().filter_map(|line| line.strip_prefix("pid ")?.parse().ok()).collect()
}

#[test]
fn program_joins_its_children_when_main_returns_or_exit_is_called() {
    isolated(|| {
        for (play, code) in [("return", 0), ("exit", 3)] {
            let (status, text) = run_program(play);
            assert_eq!(status, Some(code), "{play}: {text}");
            let pids = pids_in(&text);
            assert_eq!(pids.len(), 6, "{text}");
            assert!(pids.iter().all(|&pid| is_gone(pid)), "{play}: {text}");
            let done = text.matches("the slow one is done").count();
            assert_eq!(done, 3, "{play}: {text}");
        }
    });
}

#[test]
fn what_a_child_has_not_flushed_is_printed_once_at_its_end() {
    isolated(|| {
        let (status, text) = run_program("print");
        assert_eq!(status, Some(0), "{text}");
        for half in ["half a line, alone", "half a line, beside a thread"] {
            assert_eq!(text.matches(half).count(), 3, "{text}");
        }
    });
}

/// Plays a program, but only when the test above starts it.
#[test]
fn program() {
    if let Ok(play) = env::var(PLAY) {
        act(&play);
    }
}

fn act(play: &str) {
    // Out of the line that libtest began.
    println!();
    if play == "print" {
        for context in &contexts() {
            start(context, print_half_a_line, ()).join().unwrap();
            start(context, print_half_a_line_beside_a_thread, ()).join().unwrap();
        }
        return;
    }
    for context in &contexts() {
        let (here, there) = pipe().unwrap();
        let slow = start(context, speak_late, (there,));
        let daemon = Process::builder(park_forever).daemon(true).orphan(Orphan::Keep).context(context);
        let daemon = daemon.start().unwrap();
        println!("pid {}\npid {}", slow.pid(), daemon.pid());
        here.recv::<()>().unwrap();
    }
    if play == "exit" {
        leave(3);
    }
}

fn print_half_a_line() {
    print!("half a line, alone; ");
}

fn print_half_a_line_beside_a_thread() {
    thread::spawn(park_forever);
    print!("half a line, beside a thread; ");
}

fn speak_late(connection: Connection) {
    connection.send(&()).unwrap();
    let _ = connection.recv::<()>();
    println!("the slow one is done");
}
