//! Pipes: messages, their boundaries, their ends, and connections that travel.

use std::{
    os::fd::{AsFd, AsRawFd},
    thread,
    time::Duration,
};

use nix::sys::socket::{Shutdown, shutdown};
use procession::{Connection, Error, ErrorKind, Process, pipe};

use crate::family::{contexts, park_forever, run, start};
use crate::support::{eventually, isolated};

fn is_disconnected<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(error) if *error.kind() == ErrorKind::Disconnected)
}

/// Sends back whatever comes, until the empty message.
fn echo(connection: Connection) {
    echo_on(&connection);
}

fn echo_on(connection: &Connection) {
    loop {
        let bytes = connection.recv_bytes().unwrap();
        if bytes.is_empty() {
            return;
        }
        connection.send_bytes(&bytes).unwrap();
    }
}

/// T115 (_TestConnection.test_connection).
#[test]
fn values_and_bytes_go_both_ways() {
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let process = start(context, echo, (there,));
            let value = (vec![1.5, -2.0], "text".to_owned(), Some(3_u8));
            here.send(&value).unwrap();
            assert_eq!(here.recv::<(Vec<f64>, String, Option<u8>)>().unwrap(), value);
            here.send_bytes(b"hello world").unwrap();
            assert_eq!(here.recv_bytes().unwrap(), b"hello world");
            assert!(!here.poll().unwrap());
            assert!(!here.poll_timeout(Duration::from_millis(1)).unwrap());
            here.send_bytes(b"x").unwrap();
            assert!(here.poll_timeout(Duration::from_secs(60)).unwrap());
            assert_eq!(here.recv_bytes().unwrap(), b"x");
            let really_big: Vec<u8> = b"X".repeat(16 << 20);
            here.send_bytes(&really_big).unwrap();
            assert!(here.recv_bytes().unwrap() == really_big);
            here.send_bytes(b"").unwrap();
            process.result().unwrap();
            assert!(here.poll().unwrap(), "the end can be received");
            assert!(is_disconnected(here.recv_bytes()) && is_disconnected(here.recv::<u8>()));
            assert!(here.poll().unwrap(), "and is not taken");
            assert!(is_disconnected(here.send(&1_u8)));
        }
    });
}

/// T117 (_TestConnection.test_spawn_close).
#[test]
fn own_copy_of_the_other_end_may_be_closed_after_the_start() {
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let process = start(context, |end: &Connection| echo_on(end), (&there,));
            drop(there);
            here.send_bytes(b"hello").unwrap();
            assert_eq!(here.recv_bytes().unwrap(), b"hello");
            here.send_bytes(b"").unwrap();
            process.result().unwrap();
        }
    });
}

/// T129 (_TestPoll.test_empty_string).
#[test]
fn empty_message_is_a_message() {
    isolated(|| {
        let (a, b) = pipe().unwrap();
        assert!(!a.poll().unwrap());
        b.send_bytes(b"").unwrap();
        assert!(a.poll().unwrap() && a.poll().unwrap());
        assert_eq!(a.recv_bytes().unwrap(), b"");
        assert!(!a.poll().unwrap());
        b.send(&()).unwrap();
        assert!(a.poll().unwrap());
        a.recv::<()>().unwrap();
    });
}

/// T130 (_TestPoll.test_strings), T131 (test_boundaries), T132 (test_dont_merge).
#[test]
fn messages_keep_their_boundaries() {
    fn send_all(connection: Connection) {
        for text in ["hello", "", "a", "b", "", "bye", "lop", "it", "", ""] {
            connection.send_bytes(text.as_bytes()).unwrap();
        }
        for length in [0, 1, 4095, 4096, 65_535, 65_536, 1 << 20] {
            connection.send_bytes(&vec![7; length]).unwrap();
        }
    }
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let process = start(context, send_all, (there,));
            for text in ["hello", "", "a", "b", "", "bye", "lop", "it", "", ""] {
                assert!(here.poll_timeout(Duration::from_secs(60)).unwrap());
                assert!(here.poll().unwrap());
                assert_eq!(here.recv_bytes().unwrap(), text.as_bytes());
            }
            for length in [0, 1, 4095, 4096, 65_535, 65_536, 1 << 20] {
                assert_eq!(here.recv_bytes().unwrap().len(), length);
            }
            assert!(is_disconnected(here.recv_bytes()));
            process.result().unwrap();
        }
    });
}

#[test]
fn message_of_another_type_is_an_error_and_the_next_one_is_fine() {
    isolated(|| {
        let (a, b) = pipe().unwrap();
        a.send(&"a text").unwrap();
        a.send(&7_u32).unwrap();
        assert!(matches!(b.recv::<u8>().unwrap_err().kind(), ErrorKind::Codec { .. }));
        assert_eq!(b.recv::<u32>().unwrap(), 7);
        let error = a.send(&serde_json::json!([1])).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::NotRoundTrip { .. }), "{error:?}");
        assert!(!b.poll().unwrap(), "something was sent all the same");
    });
}

/// T133, T134 (_TestPicklingConnections.test_pickling, test_access).
#[test]
fn connection_is_an_argument_a_result_and_a_message() {
    fn make() -> (Connection, u32) {
        let (mine, yours) = pipe().unwrap();
        mine.send(&std::process::id()).unwrap();
        (yours, std::process::id())
    }
    fn pass_on(bus: Connection) -> u64 {
        let carried: Vec<(String, Connection)> = bus.recv().unwrap();
        carried.iter().map(|(name, end)| end.send(name).map(|()| end.recv::<u64>().unwrap()).unwrap()).sum()
    }
    isolated(|| {
        for context in &contexts() {
            let (end, pid) = run(context, make, ());
            assert_eq!(end.recv::<u32>().unwrap(), pid);
            assert!(is_disconnected(end.recv::<u32>()), "the maker has ended");

            let (bus, their_bus) = pipe().unwrap();
            let process = start(context, pass_on, (their_bus,));
            let (ends, others): (Vec<_>, Vec<_>) =
                (0..5).map(|n| pipe().map(|(a, b)| (a, (format!("end {n}"), b))).unwrap()).unzip();
            bus.send(&others).unwrap();
            drop(others);
            for (n, end) in (0_u64..).zip(&ends) {
                assert_eq!(end.recv::<String>().unwrap(), format!("end {n}"));
                end.send(&n).unwrap();
            }
            assert_eq!(process.result().unwrap(), 10);
            assert!(ends.iter().all(|end| is_disconnected(end.recv::<u8>())));
        }
    });
}

/// Many connections at once, over one: the numbers are beyond 256 in the end (T120, test_large_fd_transfer).
#[test]
fn two_hundred_connections_travel_in_one_message() {
    isolated(|| {
        let (ends, others): (Vec<_>, Vec<_>) = (0..200).map(|_| pipe().unwrap()).unzip();
        let sum = |ends: &Vec<Connection>| ends.iter().map(|end| end.recv::<u64>().unwrap()).sum::<u64>();
        for context in &contexts() {
            (0..).zip(&ends).for_each(|(n, end): (u64, _)| end.send(&n).unwrap());
            assert_eq!(run(context, sum, (&others,)), 199 * 100);
        }
    });
}

#[test]
fn several_threads_may_use_one_end() {
    const EACH: usize = 200;
    isolated(|| {
        let (a, b) = pipe().unwrap();
        let message = |thread: usize, n: usize| vec![thread as u8; 1 + (n * 7919) % 40_000];
        thread::scope(|scope| {
            let senders: Vec<_> = (0..4)
                .map(|t| {
                    scope.spawn({
                        let a = &a;
                        move || (0..EACH).for_each(|n| a.send_bytes(&message(t, n)).unwrap())
                    })
                })
                .collect();
            let receivers: Vec<_> = (0..3)
                .map(|_| scope.spawn(|| std::iter::from_fn(|| b.recv_bytes().ok()).map(check).sum::<usize>()))
                .collect();
            senders.into_iter().for_each(|sender| sender.join().unwrap());
            // One farewell for each receiver.
            (0..receivers.len()).for_each(|_| a.send_bytes(&[255; 3]).unwrap());
            eventually("all is read", || !b.poll().unwrap());
            shutdown(a.as_fd().as_raw_fd(), Shutdown::Both).unwrap();
            let bytes: usize = receivers.into_iter().map(|receiver| receiver.join().unwrap()).sum();
            let sent: usize = (0..4).flat_map(|t| (0..EACH).map(move |n| message(t, n).len())).sum();
            assert_eq!(bytes, sent + 9);
        });
    });
}

/// A message of one thread holds nothing of another's.
fn check(bytes: Vec<u8>) -> usize {
    assert!(bytes.iter().all(|byte| *byte == bytes[0]));
    bytes.len()
}

/// Sends a message that nobody takes whole.
fn send_much(connection: Connection) {
    connection.send_bytes(&vec![1; 64 << 20]).unwrap();
    park_forever();
}

#[test]
fn sender_killed_in_mid_message_leaves_a_torn_one() {
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let process: Process = start(context, send_much, (there,));
            // Something of it is there, and it cannot be all: no socket holds 64 MiB.
            assert!(here.poll_timeout(Duration::from_secs(60)).unwrap());
            process.kill().unwrap();
            process.join().unwrap();
            let error = here.recv_bytes().unwrap_err();
            let torn =
                matches!(error.kind(), ErrorKind::Torn { have, want } if have < want && *want >= 64 << 20);
            assert!(torn || *error.kind() == ErrorKind::Disconnected, "{error:?}");
            assert!(is_disconnected(here.recv_bytes()));
        }
    });
}

#[test]
fn receiver_killed_while_one_sends_disconnects_the_sender() {
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let process = start(context, |_end: Connection| park_forever(), (there,));
            thread::scope(|scope| {
                let sender = scope.spawn(|| here.send_bytes(&vec![1; 64 << 20]));
                process.kill().unwrap();
                assert!(is_disconnected(sender.join().unwrap()));
            });
        }
    });
}

#[test]
fn end_that_is_dropped_disconnects_the_other() {
    isolated(|| {
        let (a, b) = pipe().unwrap();
        a.send(&1_u8).unwrap();
        drop(a);
        assert_eq!(b.recv::<u8>().unwrap(), 1, "what was sent before is still there");
        assert!(is_disconnected(b.recv::<u8>()));
        assert!(is_disconnected(b.send(&1_u8)));
    });
}

/// T181 (TestIgnoreEINTR.test_ignore), without a handler: stopped and continued in the middle.
#[test]
fn stopped_and_continued_receiver_gets_the_whole_message() {
    use nix::{sys::signal::Signal, sys::signal::kill, unistd::Pid};
    fn receive(connection: Connection) -> usize {
        connection.recv_bytes().unwrap().len()
    }
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let process = start(context, receive, (there,));
            let pid = Pid::from_raw(process.pid().cast_signed());
            thread::scope(|scope| {
                let sender = scope.spawn(|| here.send_bytes(&vec![1; 16 << 20]));
                for _ in 0..20 {
                    let _ = kill(pid, Signal::SIGSTOP);
                    let _ = kill(pid, Signal::SIGCONT);
                }
                sender.join().unwrap().unwrap();
            });
            assert_eq!(process.result().unwrap(), 16 << 20);
        }
    });
}
