//! Connections in what has no descriptors beside it: queues, tasks of pools, calls of actors.

use crate::family::{contexts, start};
use crate::support::{eventually, fd_count, isolated, kill9};
use procession::prelude::*;
use serde::{Deserialize, Serialize};

fn answer(connection: Connection) -> Connection {
    let number: u32 = connection.recv().unwrap();
    connection.send(&(number + 1)).unwrap();
    connection
}

/// Asks over `here` what [`answer`] answers.
#[track_caller]
fn is_answered(here: &Connection, number: u32) {
    here.send(&number).unwrap();
    assert_eq!(here.recv::<u32>().unwrap(), number + 1);
}

fn put_both_ends(queue: Queue<Connection>, said: Connection) {
    let (one, other) = pipe().unwrap();
    one.send(&"from the dead".to_owned()).unwrap();
    queue.put(one).unwrap();
    queue.put(other).unwrap();
    said.send(&std::process::id().cast_signed()).unwrap();
    crate::family::park_forever();
}

fn read_from_the_dead(queue: Queue<Connection>) -> String {
    let (_one, other) = (queue.get().unwrap(), queue.get().unwrap());
    other.recv().unwrap()
}

/// It arrives also when its sender is dead.
#[test]
fn a_connection_in_a_queue_outlives_its_sender() {
    isolated(|| {
        for context in contexts() {
            let queue = Queue::new().unwrap();
            for by_another_child in [false, true] {
                let (here, there) = pipe().unwrap();
                let sender = start(&context, put_both_ends, (queue.clone(), there));
                kill9(here.recv::<i32>().unwrap());
                sender.join().unwrap();
                let text = if by_another_child {
                    start(&context, read_from_the_dead, (queue.clone(),)).result().unwrap()
                } else {
                    read_from_the_dead(queue.clone())
                };
                assert_eq!(text, "from the dead", "{context:?}");
            }
        }
    });
}

fn answer_from_queue(queue: Queue<Connection>) {
    while let Ok(connection) = queue.get() {
        answer(connection);
    }
}

/// Many, and nothing of them stays open anywhere.
#[test]
fn connections_through_a_queue_leave_no_descriptor() {
    isolated(|| {
        let queue = Queue::new().unwrap();
        let process = Process::spawn(answer_from_queue, (queue.clone(),)).unwrap();
        let exchange = |number| {
            let (here, there) = pipe().unwrap();
            queue.put(there).unwrap();
            is_answered(&here, number);
            // The end that was sent is the only one.
            here.recv::<u32>().unwrap_err();
        };
        exchange(0);
        let before = fd_count();
        (1..700).for_each(exchange);
        eventually("all is closed", || fd_count() <= before);
        process.kill().unwrap();
    });
}

/// Who is killed takes with it at most what it had just taken out and not yet fetched.
#[test]
fn killed_receivers_leave_no_descriptor() {
    isolated(|| {
        for context in contexts() {
            let queue = Queue::new().unwrap();
            let process = start(&context, answer_from_queue, (queue.clone(),));
            let ends: Vec<_> = (0..40)
                .map(|number: u32| {
                    let (here, there) = pipe().unwrap();
                    here.send(&number).unwrap();
                    queue.put(there).unwrap();
                    here
                })
                .collect();
            assert_eq!(ends[3].recv::<u32>().unwrap(), 4, "{context:?}");
            process.kill().unwrap();
            process.join().unwrap();
            while queue.try_get().is_ok() {}
            let is_closed =
                |end: &&Connection| (0..2).any(|_| end.poll().unwrap() && end.recv::<u32>().is_err());
            eventually("all ends but one are closed", || {
                ends.iter().filter(is_closed).count() >= ends.len() - 1
            });
        }
    });
}

#[test]
fn a_connection_that_is_not_put_is_taken_back() {
    isolated(|| {
        let queue = Queue::bounded(1).unwrap();
        let (_here, there) = pipe().unwrap();
        queue.put(there).unwrap();
        let before = fd_count();
        for _ in 0..20 {
            let (here, there) = pipe().unwrap();
            queue.try_put(there).unwrap_err();
            here.recv::<()>().unwrap_err();
        }
        assert_eq!(fd_count(), before);
    });
}

/// More than are kept for others is an error of whoever sends, and nothing that was put is lost.
#[test]
fn so_many_connections_wait_in_queues_and_no_more() {
    isolated(|| {
        let queue = Queue::new().unwrap();
        let refused = (0..).find_map(|number| {
            let (_here, there) = pipe().unwrap();
            queue.put(there).err().map(|error| (number, error.to_string()))
        });
        let (number, error) = refused.unwrap();
        assert!(number > 100 && error.contains("descriptors are on their way"), "{number}: {error}");
        for _ in 0..number {
            queue.try_get().unwrap();
        }
        queue.put(pipe().unwrap().0).unwrap();
    });
}

#[test]
fn a_connection_is_an_argument_and_a_result_of_tasks() {
    isolated(|| {
        for context in contexts() {
            let pool = Pool::builder().processes(2).context(&context).start().unwrap();
            let mut before = usize::MAX;
            for number in 0..20 {
                let (here, there) = pipe().unwrap();
                let pending = pool.apply_async(answer, (there,)).unwrap();
                is_answered(&here, number);
                let back = pending.get().unwrap();
                back.send(&7).unwrap();
                assert_eq!(here.recv::<i32>().unwrap(), 7, "{context:?}");
                drop((here, back));
                before = before.min(fd_count());
            }
            let (heres, theres): (Vec<_>, Vec<_>) = (0..10).map(|_| pipe().unwrap()).unzip();
            heres.iter().for_each(|here| here.send(&1_u32).unwrap());
            assert_eq!(pool.map(answer, theres).unwrap().len(), 10);
            drop(heres);
            eventually("all is closed", || fd_count() <= before);
            pool.terminate();
            pool.join().unwrap();
        }
    });
}

#[derive(Default, Serialize, Deserialize)]
struct Desk {
    #[serde(skip)]
    kept: Option<Connection>,
}

#[procession::actor]
impl Desk {
    pub fn keep(&mut self, connection: Connection) {
        self.kept = Some(connection);
    }

    pub fn give(&mut self) -> Option<Connection> {
        self.kept.take()
    }
}

#[test]
fn a_connection_is_an_argument_and_an_answer_of_calls() {
    isolated(|| {
        for context in contexts() {
            let desk = ActorProcess::builder(Desk::default()).context(&context).start().unwrap();
            let (here, there) = pipe().unwrap();
            desk.keep(there).unwrap();
            let back = desk.give().unwrap().unwrap();
            assert!(desk.give().unwrap().is_none());
            here.send(&1_u32).unwrap();
            answer(back);
            assert_eq!(here.recv::<u32>().unwrap(), 2, "{context:?}");
        }
    });
}
