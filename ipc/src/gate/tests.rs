//! The gate among the threads of one process; other tests go in and out meanwhile. What a copy finds is tested where
//! processes may be started.

use super::*;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::mpsc;

#[test]
fn a_fork_waits_for_whoever_is_inside() {
    let passage = enter("a test");
    let within = enter("something within it");
    assert_eq!(passage_count(), 1, "only the outermost counts");
    drop(within);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            drop(close(true).unwrap());
            sender.send(()).unwrap();
        });
        assert!(receiver.recv_timeout(SLICE * 4).is_err(), "it did not wait");
        drop(passage);
        receiver.recv().unwrap();
    });
}

/// Passages of this thread, which are called as in the test above.
fn passage_count() -> usize {
    lock().inside.iter().filter(|&&what| what == "a test" || what == "something within it").count()
}

#[test]
fn nobody_comes_in_while_the_gate_is_closed() {
    let closed = close(true).unwrap();
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            drop(enter("a newcomer"));
            sender.send(()).unwrap();
        });
        assert!(receiver.recv_timeout(SLICE).is_err(), "it came in");
        drop(closed);
        receiver.recv().unwrap();
    });
}

#[test]
fn a_thread_of_ours_begins_inside_and_is_no_stranger() {
    let (sender, receiver) = mpsc::channel::<()>();
    let (told, telling) = mpsc::channel();
    let body = move |passage: Passage| {
        let id = nix::unistd::gettid().as_raw();
        let others = threads::others(&mut lock());
        drop(passage);
        told.send((id, others)).unwrap();
        receiver.recv().unwrap_err();
    };
    let thread = spawn(std::thread::Builder::new().name("ours".to_owned()), body).unwrap();
    let (id, others) = telling.recv().unwrap();
    // The harness's threads are strangers to it, and to us it is none.
    assert!(matches!(others, Ok(Others::Strangers(_))), "{others:?}");
    let Ok(Others::Strangers(strangers)) = threads::others(&mut lock()) else { panic!("no strangers") };
    assert!(!strangers.contains(&id));
    drop(sender);
    thread.join().unwrap();
}

#[test]
fn threads_that_are_not_ours_are_refused_by_name() {
    let (sender, receiver) = mpsc::channel::<()>();
    let stranger = std::thread::Builder::new().name("stranger".to_owned());
    let stranger = stranger.spawn(move || receiver.recv().unwrap_err()).unwrap();
    let Err(Error::OtherThreads { count, names }) = close(false).map(drop) else { panic!("not refused") };
    assert!(count >= 2 && !names.is_empty(), "{count} {names:?}");
    drop(sender);
    stranger.join().unwrap();
}

#[test]
fn private_descriptors_are_known_as_long_as_they_are_open() {
    let numbers = || -> Vec<i32> { lock().registry.private_numbers().collect() };
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let (reader, writer) = (PrivateFd::from(reader), PrivateFd::captured(writer));
    let (own, other) = (reader.as_fd().as_raw_fd(), writer.as_fd().as_raw_fd());
    assert!(numbers().contains(&own) && !numbers().contains(&other));
    drop(reader);
    // Another test may have got the number meanwhile, but hardly for a private one twice.
    assert!(nix::unistd::write(&writer, b"x").is_err(), "the reading end is closed");
}
