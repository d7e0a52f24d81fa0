//! How processes end: each way is told apart, names who it was, and costs the parent nothing.

use std::{
    os::fd::AsFd,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use procession::{Connection, Error, ErrorKind, Process, pipe};
use serde::{Deserialize, Deserializer, Serialize};

use crate::family::{Death, contexts, die, park_forever, run, start};
use crate::support::{eventually, isolated};

/// The error names the process, its pid and the task, in its fields and in its text.
#[track_caller]
fn assert_names<R>(error: &Error, process: &Process<R>, task: &str) {
    assert_eq!(error.process(), Some(process.name()));
    assert_eq!(error.pid().map(i32::unsigned_abs), Some(process.pid()));
    assert!(error.task().is_some_and(|name| name.ends_with(task)), "{error:?}");
    let text = error.to_string();
    for part in [process.name(), &process.pid().to_string(), task] {
        assert!(text.contains(part), "{part:?} is missing in {text:?}");
    }
}

/// T27 (_TestSubclassingProcess.test_sys_exit).
#[test]
fn each_way_to_end_is_an_error_of_its_own() {
    let exited = |code| ErrorKind::Exited { code };
    let signaled = |signal| ErrorKind::Signaled { signal, core_dumped: false };
    let cases = [
        ("exit 0", Death::Exit(0), 0, exited(0)),
        ("exit 7", Death::Exit(7), 7, exited(7)),
        ("exit 255", Death::Exit(255), 255, exited(255)),
        ("exit 256 is 0: the kernel keeps eight bits", Death::Exit(256), 0, exited(0)),
        ("exit -1", Death::Exit(-1), 255, exited(255)),
        ("SIGKILL", Death::KILL, -9, signaled(9)),
        ("SIGTERM", Death::Signal(15), -15, signaled(15)),
        ("SIGSEGV", Death::SEGV, -11, signaled(11)),
        ("SIGBUS", Death::Signal(7), -7, signaled(7)),
        ("abort", Death::Abort, -6, signaled(6)),
    ];
    isolated(|| {
        for context in &contexts() {
            for (name, death, code, expected) in &cases {
                let process = start(context, die, (*death,));
                let error = process.result().unwrap_err();
                assert_eq!(error.kind(), expected, "{name}");
                assert_eq!(process.exitcode(), Some(*code), "{name}");
                assert_names(&error, &process, "die");
            }
        }
    });
}

/// T26 (_TestSubclassingProcess.test_stderr_flush): the report arrives as data, not only as text on stderr.
#[test]
fn panic_arrives_with_its_message_and_place() {
    isolated(|| {
        for context in &contexts() {
            let process = start(context, die, (Death::Panic,));
            let error = process.result().unwrap_err();
            let ErrorKind::Panicked { message, location, .. } = error.kind() else { panic!("{error:?}") };
            assert_eq!(message, "as it was told");
            assert!(location.as_ref().is_some_and(|place| place.contains("family.rs:")), "{location:?}");
            assert_eq!(process.exitcode(), Some(1));
            assert_names(&error, &process, "die");
        }
    });
}

#[test]
fn panic_without_text_or_with_much_text_is_still_a_panic() {
    isolated(|| {
        for context in &contexts() {
            let odd = Process::builder(|| -> () { std::panic::panic_any(5_u8) }).context(context);
            let error = odd.start().unwrap().result().unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Panicked { .. }), "{error:?}");
            let much = start(context, |n: usize| -> () { panic!("{}", "x".repeat(n)) }, (3_000_000,));
            eventually("it ends unread", || !much.is_alive());
            let error = much.result().unwrap_err();
            let ErrorKind::Panicked { message, .. } = error.kind() else { panic!("{error:?}") };
            assert_eq!(message.len(), 3_000_000);
        }
    });
}

/// A thread of the child that panics is not the function that panics.
#[test]
fn panic_of_another_thread_in_the_child_does_not_spoil_the_result() {
    isolated(|| {
        for context in &contexts() {
            let process = start(context, || std::thread::spawn(|| panic!("aside")).join().is_err(), ());
            assert!(process.result().unwrap());
            assert_eq!(process.exitcode(), Some(0));
        }
    });
}

/// Set by the parent: the same type is fine in the child and unreadable here.
static REFUSE: AtomicBool = AtomicBool::new(false);
static PANIC: AtomicBool = AtomicBool::new(false);

#[derive(Debug, Serialize)]
struct Moody(u32);

impl<'de> Deserialize<'de> for Moody {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        assert!(!PANIC.load(Ordering::Relaxed), "a panic in Deserialize");
        if REFUSE.load(Ordering::Relaxed) {
            return Err(serde::de::Error::custom("not in the mood"));
        }
        u32::deserialize(deserializer).map(Self)
    }
}

#[test]
fn result_that_this_process_cannot_read_is_a_bad_result() {
    isolated(|| {
        for context in &contexts() {
            let cases = [(&REFUSE, "not in the mood"), (&PANIC, "a panic in Deserialize")];
            for (mood, text) in cases {
                let process = start(context, || Moody(3), ());
                mood.store(true, Ordering::Relaxed);
                let error = process.result().unwrap_err();
                mood.store(false, Ordering::Relaxed);
                assert!(matches!(error.kind(), ErrorKind::BadResult { .. }), "{error:?}");
                assert!(error.to_string().contains(text), "{error}");
                assert_eq!(process.exitcode(), Some(0), "{text}");
            }
            assert_eq!(start(context, || Moody(4), ()).result().unwrap().0, 4);
        }
    });
}

/// Serialises as a bare number and never comes back.
#[derive(Debug, Serialize)]
struct OneWay(u32);

impl<'de> Deserialize<'de> for OneWay {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Err(serde::de::Error::custom("there is no way back"))
    }
}

#[test]
fn type_without_a_way_back_is_refused_on_both_ways() {
    isolated(|| {
        for context in &contexts() {
            let process = start(context, || OneWay(1), ());
            let error = process.result().unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::BadResult { .. }), "{error:?}");
            assert_eq!(process.exitcode(), Some(1));
            let refused = Process::builder(|x: OneWay| x.0).args((OneWay(1),)).context(context).start();
            let error = refused.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NotRoundTrip { .. }), "{error:?}");
        }
    });
}

#[test]
fn argument_that_the_child_cannot_read_is_a_bad_argument() {
    isolated(|| {
        for context in &contexts() {
            // Fine at the check of the type, which happens once; the child meets a number that it refuses.
            #[derive(Serialize, Deserialize)]
            struct Even(#[serde(deserialize_with = "even")] u32);
            fn even<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
                let number = u32::deserialize(deserializer)?;
                if number % 2 == 0 { Ok(number) } else { Err(serde::de::Error::custom("odd")) }
            }
            assert_eq!(start(context, |x: Even| x.0, (Even(4),)).result().unwrap(), 4);
            let error = match Process::builder(|x: Even| x.0).args((Even(5),)).context(context).start() {
                Ok(process) => process.result().unwrap_err(),
                Err(error) => error,
            };
            let told =
                matches!(error.kind(), ErrorKind::BadArguments { .. } | ErrorKind::NotRoundTrip { .. });
            assert!(told && error.to_string().contains("odd"), "{error:?}");
        }
    });
}

/// Nobody reads the result, and the process ends all the same.
#[test]
fn process_with_a_big_result_ends_though_nobody_reads_it() {
    isolated(|| {
        for context in &contexts() {
            for size in [3_000_000, 64 << 20] {
                let process = start(context, |n: usize| "r".repeat(n), (size,));
                eventually("it ends", || !process.is_alive());
                let process_again = start(context, |n: usize| "r".repeat(n), (size,));
                let mut fds = [PollFd::new(process_again.as_fd(), PollFlags::POLLIN)];
                assert_eq!(poll(&mut fds, PollTimeout::NONE).unwrap(), 1);
                assert!(!process_again.is_alive());
                for process in [process, process_again] {
                    let result = process.result().unwrap();
                    assert_eq!(result.len(), size);
                    assert!(result.bytes().all(|byte| byte == b'r'));
                }
            }
        }
    });
}

#[test]
fn big_arguments_arrive_whole() {
    isolated(|| {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|x| x as u8).collect();
        let text = "a".repeat(64 << 20);
        for context in &contexts() {
            assert_eq!(run(context, |bytes: &Vec<u8>| bytes.clone(), (&bytes,)), bytes);
            assert_eq!(start(context, str::len, (text.as_str(),)).result().unwrap(), text.len());
        }
    });
}

/// T15 (_TestProcess.test_sentinel).
#[test]
fn sentinel_is_ready_once_the_process_has_ended() {
    isolated(|| {
        for context in &contexts() {
            let process = start(context, park_forever, ());
            let is_ready = |process: &Process| {
                let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
                poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
            };
            assert!(!is_ready(&process));
            process.kill().unwrap();
            assert!(process.join_timeout(Duration::from_secs(60)).unwrap());
            assert!(is_ready(&process));
        }
    });
}

/// Fine in the process that wrote it, and a panic in any other.
#[derive(Debug, Serialize)]
struct Homesick(u32);

impl<'de> Deserialize<'de> for Homesick {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let home = u32::deserialize(deserializer)?;
        assert_eq!(home, std::process::id(), "far from home");
        Ok(Self(home))
    }
}

#[test]
fn panic_while_the_child_reads_its_arguments_is_told_as_such() {
    isolated(|| {
        for context in &contexts() {
            let process = start(context, |x: Homesick| x.0, (Homesick(std::process::id()),));
            let error = process.result().unwrap_err();
            let told = matches!(error.kind(), ErrorKind::BadArguments { .. } | ErrorKind::Panicked { .. });
            assert!(told && error.to_string().contains("far from home"), "{error:?}");
            assert_eq!(process.exitcode(), Some(1));
        }
    });
}

/// T20 (_TestProcess.test_wait_for_threads): a scope joins its threads, as everywhere; a detached one keeps nobody waiting.
#[test]
fn process_waits_for_the_threads_of_its_scopes_and_for_no_others() {
    fn with_threads(connection: &Connection) -> u8 {
        thread::spawn(park_forever);
        thread::scope(|scope| {
            // Nothing ever comes here: a pause that the end of the process must wait for.
            scope.spawn(|| assert!(!connection.poll_timeout(Duration::from_millis(100)).unwrap()));
            scope.spawn(|| connection.send(&"told by a thread").unwrap());
        });
        connection.send(&"told after its end").unwrap();
        5
    }
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let process = start(context, with_threads, (&there,));
            assert_eq!(process.result().unwrap(), 5);
            assert_eq!(here.recv::<String>().unwrap(), "told by a thread");
            assert_eq!(here.recv::<String>().unwrap(), "told after its end");
            assert_eq!(process.exitcode(), Some(0));
        }
    });
}

#[test]
fn result_goes_to_one_of_those_who_ask_at_the_same_time() {
    isolated(|| {
        for context in &contexts() {
            let process = start(context, || "x".repeat(10_000), ());
            let taken = thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| process.result())).collect();
                let results = threads.into_iter().map(|thread| thread.join().unwrap());
                results.map(|result| result.map_err(|error| error.kind().clone())).collect::<Vec<_>>()
            });
            assert_eq!(taken.iter().flatten().filter(|text| text.len() == 10_000).count(), 1);
            assert_eq!(taken.iter().filter(|taken| **taken == Err(ErrorKind::ResultTaken)).count(), 7);
        }
    });
}
