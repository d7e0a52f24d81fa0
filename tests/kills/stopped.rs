//! A process that is stopped while it has an end of a queue: whoever wants the same end waits as long as it was told to, or is
//! told what keeps it; the other end goes on, and so do all when the process does.

use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use procession::Target;
use procession::prelude::*;

use crate::points::stop_after;
use crate::queue::words;
use crate::support::{eventually, isolated, own_pid, sleepers};
use crate::trace::{Stepped, Traced, between_marks};

const SHORT: Duration = Duration::from_millis(10);

/// What a wait is told that was told not to wait.
const TOLD: &str = "getting at the queue, which a process that is stopped holds, did not happen within 1s";

fn put_two(queue: Queue<u8>, line: Connection) {
    use_once();
    between_marks(&line, || queue.put(2).unwrap());
}

fn get_one(queue: Queue<u8>, line: Connection) {
    use_once();
    between_marks(&line, || assert_eq!(queue.get().unwrap(), 1));
}

/// Whatever is done once in a process is done now.
fn use_once() {
    let first = Queue::new().unwrap();
    first.put(0_u8).unwrap();
    first.get().unwrap();
}

/// A process that has taken its end of the queue, and stands there: that is the first change that others see.
fn stopped<F, M>(act: F, queue: &Queue<u8>) -> Option<Traced>
where
    F: Target<(Queue<u8>, Connection), M, Output = ()>,
{
    let (words, (line, there)) = (words(), pipe().unwrap());
    let process = Process::builder(act).args((queue.clone(), there)).start().unwrap();
    stop_after((process, line), words, 1)
}

fn go_on(stopped: Traced) {
    while stopped.step() != Stepped::Behind {}
    stopped.kill();
}

/// Starts a thread that waits, and sees it asleep.
fn asleep<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    wait: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    let before = sleepers(own_pid()).len();
    let thread = scope.spawn(wait);
    eventually("it sleeps", || sleepers(own_pid()).len() > before);
    thread
}

#[test]
fn a_putter_that_is_stopped_keeps_nobody_from_getting() {
    isolated(|| {
        let queue = Queue::new().unwrap();
        queue.put(1).unwrap();
        let Some(stopped) = stopped(put_two, &queue) else { return };
        assert_eq!(queue.get().unwrap(), 1);
        assert_eq!(queue.try_get().unwrap_err().kind(), &ErrorKind::Empty);
        assert_eq!(queue.try_put(3).unwrap_err().to_string(), TOLD);
        assert_eq!(queue.put_timeout(3, SHORT).unwrap_err().kind(), &ErrorKind::Full);
        assert!(queue.is_empty(), "what is not put is not there");
        thread::scope(|scope| {
            let put = asleep(scope, || queue.put(4).unwrap());
            go_on(stopped);
            put.join().unwrap();
        });
        assert_eq!([queue.get().unwrap(), queue.get().unwrap()], [2, 4]);
    });
}

#[test]
fn a_getter_that_is_stopped_keeps_nobody_from_putting() {
    isolated(|| {
        let queue = Queue::new().unwrap();
        queue.put(1).unwrap();
        let Some(stopped) = stopped(get_one, &queue) else { return };
        queue.put(2).unwrap();
        assert_eq!(queue.try_get().unwrap_err().to_string(), TOLD);
        assert_eq!(queue.get_timeout(SHORT).unwrap_err().kind(), &ErrorKind::Empty);
        assert_eq!(queue.len(), 2, "what is not taken is there");
        thread::scope(|scope| {
            let get = asleep(scope, || queue.get().unwrap());
            go_on(stopped);
            assert_eq!(get.join().unwrap(), 2);
        });
        assert!(queue.is_empty());
    });
}
