//! Messages that nobody decodes: with the queue that they lie in, or when they are something else than was expected, what they
//! carry is given up. So locks and queues in them end, and whoever has the other end of a connection sees the end.
//!
//! Each test has an arena so small that 64 objects fill it, but for those that need room.

use crate::family::{contexts, park_forever, run, start};
use crate::handles::{ROOM, are_left, nothing_is_left, small_arena};
use crate::support::{eventually, fd_count, isolated};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procession::prelude::*;
use procession::{Context, ErrorKind, Wire};
use procession_ipc::{mailbox, usage};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What a message carries, and as much else as makes it a large one, or not.
type Load = (Lock, SimpleQueue<u8>, Connection, Lock, Vec<u8>);

/// Lengths of messages: one lies in the queue itself, the other in segments of its own.
const LENGTHS: [usize; 2] = [10, 300 << 10];

/// More messages, all together, than there is room for.
const ROUNDS: usize = 10;

/// A load, and the other end of its connection. One of its locks is in it twice.
fn load(length: usize) -> (Load, Connection) {
    let (here, there) = pipe().unwrap();
    let (lock, queue) = (Lock::new().unwrap(), SimpleQueue::new().unwrap());
    queue.put(1).unwrap();
    ((lock.clone(), queue, there, lock, vec![7; length]), here)
}

/// Puts one load of each length between messages that carry nothing. The other ends.
fn fill(queue: &Queue<Option<Load>>) -> Vec<Connection> {
    let ends = LENGTHS.map(|length| {
        let (load, end) = load(length);
        queue.put(None).unwrap();
        queue.put(Some(load)).unwrap();
        end
    });
    queue.put(None).unwrap();
    ends.into()
}

#[track_caller]
fn all_end(ends: Vec<Connection>) {
    for end in ends {
        end.recv::<()>().unwrap_err();
    }
}

fn fill_and_return(queue: Queue<Option<Load>>) -> Vec<Connection> {
    fill(&queue)
}

/// Whoever put it there, and whether any of it was taken out.
#[test]
fn a_queue_takes_with_it_what_is_left_in_it() {
    isolated(|| {
        small_arena();
        for context in contexts() {
            let mut before = 0;
            for round in 0..ROUNDS {
                let queue = Queue::new().unwrap();
                let mut ends = fill(&queue);
                if round == 0 {
                    // It is this process that keeps the connections, also those that somebody else puts.
                    ends.extend(run(&context, fill_and_return, (queue.clone(),)));
                    // The child's handle is given up when it is gone.
                    eventually("only this process is left", || usage().unwrap().processes == 1);
                }
                (0..round % 4).for_each(|_| drop(queue.get().unwrap()));
                drop(queue);
                all_end(ends);
                assert_eq!(usage().unwrap().objects, 0, "{context:?}, {round}");
                // Whatever is opened once is open by then.
                before = if round == 0 { fd_count() } else { before };
            }
            eventually("all is closed", || fd_count() <= before);
        }
        nothing_is_left();
        assert_eq!(usage().unwrap().segments, 0);
    });
}

fn fill_and_stay(line: Connection) {
    let queue = Queue::new().unwrap();
    line.send(&fill(&queue)).unwrap();
    park_forever();
}

#[test]
fn a_queue_that_ends_with_a_killed_process_takes_with_it_what_is_left_in_it() {
    isolated(|| {
        small_arena();
        // Somebody is left who looks after the dead.
        let here = Lock::new().unwrap();
        for context in contexts() {
            for _ in 0..ROUNDS {
                let (line, there) = pipe().unwrap();
                let process = start(&context, fill_and_stay, (there,));
                let ends = line.recv().unwrap();
                process.kill().unwrap();
                process.join().unwrap();
                are_left(1);
                all_end(ends);
            }
        }
        drop(here);
        nothing_is_left();
    });
}

/// A reply queue for each request, of which some are given up with the reply in them.
#[test]
fn replies_that_nobody_takes_end_with_their_queues() {
    fn serve(requests: Queue<Option<Queue<Lock>>>) {
        while let Some(replies) = requests.get().unwrap() {
            replies.put(Lock::new().unwrap()).unwrap();
        }
    }
    isolated(|| {
        small_arena();
        for context in contexts() {
            let requests = Queue::new().unwrap();
            let server = start(&context, serve, (requests.clone(),));
            for round in 0..3 * ROOM {
                let replies = Queue::new().unwrap();
                requests.put(Some(replies.clone())).unwrap();
                if round % 2 == 0 {
                    drop(replies.get().unwrap());
                }
                are_left(ROOM / 2);
            }
            requests.put(None).unwrap();
            server.result().unwrap();
        }
        nothing_is_left();
    });
}

/// In the order of the nesting, and without a call within a call for each.
#[test]
fn ten_thousand_queues_one_in_the_other_end_with_the_outermost() {
    #[derive(Serialize, Deserialize)]
    struct Nested(Queue<Self>);

    isolated(|| {
        const DEPTH: usize = 10_000;
        // As many segments, of which each has memory for one page.
        mailbox::set_limit((DEPTH as u64 + 100) << 18).unwrap();
        let outermost = (0..DEPTH).fold(Queue::new().unwrap(), |queue, _| {
            let outer = Queue::new().unwrap();
            outer.put(Nested(queue)).unwrap();
            outer
        });
        assert_eq!(usage().unwrap().objects, DEPTH + 1);
        drop(outermost);
        let left = usage().unwrap();
        assert_eq!((left.objects, left.segments), (0, 0));
    });
}

/// What keeps itself is kept: nobody looks for rings.
#[test]
fn a_queue_in_itself_stays() {
    #[derive(Serialize, Deserialize)]
    struct Ring(Queue<Self>);

    isolated(|| {
        let queue = Queue::new().unwrap();
        queue.put(Ring(queue.clone())).unwrap();
        drop(queue);
        assert_eq!(usage().unwrap().objects, 1);
    });
}

/// A value that reads nothing but its first part, and then fails.
#[derive(Debug)]
struct FirstOnly;

impl Serialize for FirstOnly {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for FirstOnly {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The lock is taken up, and ends here; so is the connection, behind the queue.
        <(Lock, SimpleQueue<u8>)>::deserialize(deserializer)?;
        Err(D::Error::custom("only the first part"))
    }
}

/// Another handle of the same queue, of which somebody thinks that it has something else in it.
fn as_queue_of<T: Wire>(queue: &Queue<Load>) -> Queue<T> {
    let (here, there) = pipe().unwrap();
    here.send(queue).unwrap();
    there.recv().unwrap()
}

fn cannot_be_decoded_as<T: Wire + std::fmt::Debug>(queue: &Queue<Load>, length: usize) {
    let (load, end) = load(length);
    let kept = load.0.clone();
    queue.put(load).unwrap();
    let error = as_queue_of::<T>(queue).get().unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Codec { .. }), "{error}");
    end.recv::<()>().unwrap_err();
    // Neither too little nor too much was given up.
    assert_eq!(usage().unwrap().objects, 2);
    assert!(kept.try_acquire().unwrap().is_some());
}

#[test]
fn a_message_that_cannot_be_decoded_gives_up_what_it_carries() {
    isolated(|| {
        small_arena();
        let queue = Queue::new().unwrap();
        for length in LENGTHS {
            for _ in 0..ROUNDS {
                cannot_be_decoded_as::<String>(&queue, length);
                cannot_be_decoded_as::<Vec<u8>>(&queue, length);
                cannot_be_decoded_as::<Vec<String>>(&queue, length);
                cannot_be_decoded_as::<FirstOnly>(&queue, length);
                cannot_be_decoded_as::<(Lock, SimpleQueue<u8>, bool)>(&queue, length);
                assert_eq!(usage().unwrap().objects, 1);
            }
        }
        drop(queue);
        nothing_is_left();
    });
}

/// Joins first, so it keeps the descriptors of the others.
fn keep_for_others(line: Connection) {
    let _lock = Lock::new().unwrap();
    line.send(&()).unwrap();
    park_forever();
}

/// Gives the lock away, and waits for it and for the end of the queue.
fn watch(line: Connection) {
    let lock = Lock::new().unwrap();
    line.send(&lock).unwrap();
    line.recv::<()>().unwrap();
    assert!(lock.acquire().unwrap().was_abandoned());
    eventually("the queue has ended", || usage().unwrap().objects == 2);
    line.send(&()).unwrap();
    park_forever();
}

fn put_and_stay(lock: Vec<u8>, line: Connection) {
    let (to_self, from_self) = pipe().unwrap();
    to_self.send_bytes(&lock).unwrap();
    let lock: Lock = from_self.recv().unwrap();
    lock.acquire().unwrap().keep();
    let queue = Queue::new().unwrap();
    let ends = Vec::from([(); 3].map(|()| {
        let (here, there) = pipe().unwrap();
        queue.put(there).unwrap();
        here
    }));
    line.send(&ends).unwrap();
    park_forever();
}

/// The sender of connections is killed, with the queue in which they are. Another process keeps them, and a third one sees to the queue,
/// unless the one who keeps them does; that one may be stopped.
fn sender_is_killed(context: &Context, host_is_stopped: bool) {
    let [(at_host, host), (at_watcher, watcher), (at_sender, sender)] = [(); 3].map(|()| pipe().unwrap());
    let host = start(context, keep_for_others, (host,));
    at_host.recv::<()>().unwrap();
    let watcher = start(context, watch, (watcher,));
    // This process uses no shared memory: it keeps nothing, and looks after nobody.
    let lock = at_watcher.recv_bytes().unwrap();
    let sender = start(context, put_and_stay, (lock, sender));
    let ends: Vec<Connection> = at_sender.recv().unwrap();
    if host_is_stopped {
        // It may stand still only after it was woken by the end of the sender.
        kill(Pid::from_raw(host.pid().cast_signed()), Signal::SIGSTOP).unwrap();
    }
    at_watcher.send(&()).unwrap();
    sender.kill().unwrap();
    sender.join().unwrap();
    at_watcher.recv::<()>().unwrap();
    if !host_is_stopped {
        all_end(ends);
    }
    for process in [host, watcher] {
        process.kill().unwrap();
        process.join().unwrap();
    }
}

#[test]
fn a_connection_in_a_queue_that_ends_is_closed_where_it_is_kept() {
    isolated(|| {
        for context in contexts() {
            (0..ROUNDS).for_each(|_| sender_is_killed(&context, false));
        }
    });
}

#[test]
fn nobody_waits_for_a_stopped_process_that_keeps_the_connections_of_a_queue_that_ends() {
    isolated(|| contexts().iter().for_each(|context| sender_is_killed(context, true)));
}
