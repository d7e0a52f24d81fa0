//! Handles of shared objects: they go everywhere in a family, and an object ends with its last one.
//!
//! Each test has an arena so small that 128 objects fill it. So what leaks is missed soon.

use crate::family::{Death, contexts, die, park_forever, run, start};
use crate::support::{eventually, isolated, kill9};
use nix::sys::resource::{Resource, setrlimit};
use procession::prelude::*;
use procession::{ChildSpec, Context, Supervisor};
use procession_ipc::{census, usage};
use serde::{Deserialize, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Length of the smallest arena, in bytes, and the objects that fit into it.
const SMALLEST: u64 = 8 << 20;
pub const ROOM: usize = 128;

/// How often objects come and go: more often than there is room.
const ROUNDS: usize = 200;

/// The same where each round starts a process.
const STARTS: usize = 140;

/// Makes the arena small, which is made later. Processes that are started have the limit too.
pub fn small_arena() {
    setrlimit(Resource::RLIMIT_FSIZE, SMALLEST, SMALLEST).unwrap();
}

/// Fills the arena. How many objects fit in.
pub fn room() -> usize {
    std::iter::from_fn(|| Lock::new().ok()).collect::<Vec<_>>().len()
}

/// Nobody has handles any more. Those of processes that have ended are given up a moment later.
#[track_caller]
pub fn nothing_is_left() {
    shows_what_is_left(|| eventually("all objects have ended", || room() == ROOM));
}

/// So many objects are there at most, once those who were killed have been swept for, which is a moment later.
#[track_caller]
pub fn are_left(most: usize) {
    shows_what_is_left(|| {
        eventually("what the dead had has ended", || usage().unwrap().objects <= most);
    });
}

/// Runs a check; if it fails, says who has what.
#[track_caller]
fn shows_what_is_left(check: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(check)) {
        eprintln!("{}", census().unwrap());
        resume_unwind(panic);
    }
}

/// A lock that is held: whoever gets it finds out whether it is the one.
fn held() -> Lock {
    let lock = Lock::new().unwrap();
    lock.acquire().unwrap().keep();
    lock
}

fn release(lock: Lock) -> Lock {
    lock.release().unwrap();
    lock
}

fn serve(requests: Connection) {
    while let Ok(lock) = requests.recv::<Lock>() {
        requests.send(&release(lock)).unwrap();
    }
}

fn serve_queues(requests: Queue<Lock>, replies: Queue<Lock>) {
    for _ in 0..ROUNDS {
        replies.put(release(requests.get().unwrap())).unwrap();
    }
}

#[test]
fn an_object_ends_with_its_last_handle() {
    isolated(|| {
        small_arena();
        assert_eq!(room(), ROOM);
        let lock = Lock::new().unwrap();
        let copy = lock.clone();
        assert_eq!(room(), ROOM - 1);
        drop(lock);
        assert_eq!(room(), ROOM - 1);
        drop(copy);
        assert_eq!(room(), ROOM);
        let all: Vec<_> = (0..ROOM).map(|_| Lock::new().unwrap()).collect();
        assert_eq!(Lock::new().unwrap_err().kind(), &ErrorKind::TooManyObjects);
        assert_eq!(Queue::<u8>::new().unwrap_err().kind(), &ErrorKind::TooManyObjects);
        drop(all);
        drop(Queue::<u8>::new().unwrap());
    });
}

/// Y11.
#[test]
fn a_lock_in_arguments_and_results_ends() {
    isolated(|| {
        small_arena();
        for context in contexts() {
            for _ in 0..STARTS {
                let lock = run(&context, release, (held(),));
                assert!(!lock.is_locked(), "{context:?}");
            }
        }
        nothing_is_left();
    });
}

/// The result of one that nobody asks for, and the arguments of one that cannot be started.
#[test]
fn what_never_arrives_ends_where_that_is_known() {
    isolated(|| {
        small_arena();
        for _ in 0..ROUNDS {
            let (here, there) = pipe().unwrap();
            drop(there);
            here.send(&held()).unwrap_err();
            let queue = Queue::bounded(1).unwrap();
            queue.put(None).unwrap();
            queue.try_put(Some(held())).unwrap_err();
        }
        nothing_is_left();
    });
}

fn hold_and_return() -> (Lock, Queue<Lock>) {
    (held(), Queue::new().unwrap())
}

/// Given up when it is there, before it is there, or with the handle of its process.
#[test]
fn a_lock_in_a_result_that_nobody_asks_for_ends() {
    isolated(|| {
        small_arena();
        for context in contexts() {
            for round in 0..STARTS {
                let process = start(&context, hold_and_return, ());
                if round % 3 > 0 {
                    process.join().unwrap();
                }
                if round % 3 > 1 {
                    process.close().unwrap();
                    drop(process);
                    are_left(0);
                }
            }
        }
        nothing_is_left();
    });
}

#[test]
fn a_lock_in_a_message_over_a_connection_ends() {
    isolated(|| {
        small_arena();
        for context in contexts() {
            let (here, there) = pipe().unwrap();
            let process = start(&context, serve, (there,));
            for _ in 0..ROUNDS {
                here.send(&held()).unwrap();
                assert!(!here.recv::<Lock>().unwrap().is_locked(), "{context:?}");
            }
            drop(here);
            process.result().unwrap();
        }
        nothing_is_left();
    });
}

#[test]
fn a_lock_in_a_queue_ends_and_so_does_the_queue() {
    isolated(|| {
        small_arena();
        for context in contexts() {
            let (requests, replies) = (Queue::new().unwrap(), Queue::new().unwrap());
            let process = start(&context, serve_queues, (requests.clone(), replies.clone()));
            for _ in 0..ROUNDS {
                requests.put(held()).unwrap();
                assert!(!replies.get().unwrap().is_locked(), "{context:?}");
            }
            process.result().unwrap();
        }
        nothing_is_left();
        for _ in 0..ROUNDS {
            let queues = Queue::new().unwrap();
            queues.put(Queue::<Vec<u8>>::new().unwrap()).unwrap();
            // With a segment of its own.
            queues.get().unwrap().put(vec![1; 1000]).unwrap();
        }
        nothing_is_left();
    });
}

fn prepare(lock: Lock) {
    drop(lock.acquire().unwrap());
}

fn die_once(lock: Lock) -> Lock {
    let was_abandoned = {
        let guard = lock.acquire().unwrap();
        let was_abandoned = guard.was_abandoned();
        if !was_abandoned {
            die(Death::KILL);
        }
        was_abandoned
    };
    assert!(was_abandoned);
    lock
}

#[test]
fn a_lock_in_tasks_and_their_results_ends() {
    isolated(|| {
        small_arena();
        for context in contexts() {
            let initial = Lock::new().unwrap();
            let pool = Pool::builder()
                .processes(2)
                .context(&context)
                .initializer(prepare, (initial,))
                .start()
                .unwrap();
            for _ in 0..ROUNDS {
                assert!(!pool.apply(release, (held(),)).unwrap().is_locked(), "{context:?}");
            }
            let locks = pool.map(release, (0..30).map(|_| held())).unwrap();
            assert!(locks.iter().all(|lock| !lock.is_locked()));
            drop(locks);
            pool.terminate();
            pool.join().unwrap();
        }
        nothing_is_left();
    });
}

#[test]
fn a_lock_in_a_task_is_there_for_all_its_tries() {
    isolated(|| {
        small_arena();
        for context in contexts() {
            // One worker after the other: who is killed as it starts may take a message with it.
            let pool = Pool::builder().processes(1).context(&context).start().unwrap();
            for _ in 0..5 {
                let arguments = (Lock::new().unwrap(),);
                let lock = pool.options().retries(1).apply(die_once, arguments).unwrap();
                assert!(lock.try_acquire().unwrap().is_some(), "{context:?}");
            }
            pool.terminate();
            pool.join().unwrap();
        }
        nothing_is_left();
    });
}

#[derive(Serialize, Deserialize)]
struct Keeper {
    own: Lock,
}

#[procession::actor]
impl Keeper {
    pub fn release(&mut self, lock: Lock) -> Lock {
        release(lock)
    }

    pub fn exchange(&mut self, lock: Lock) -> Lock {
        std::mem::replace(&mut self.own, lock)
    }
}

#[test]
fn a_lock_in_calls_and_their_answers_ends() {
    isolated(|| {
        small_arena();
        for context in contexts() {
            let first = held();
            let keeper =
                ActorProcess::builder(Keeper { own: first.clone() }).context(&context).start().unwrap();
            for _ in 0..ROUNDS {
                assert!(!keeper.release(held()).unwrap().is_locked(), "{context:?}");
            }
            let same = keeper.exchange(Lock::new().unwrap()).unwrap();
            same.release().unwrap();
            assert!(!first.is_locked(), "a handle is a handle of the same lock");
        }
        nothing_is_left();
    });
}

/// What a closure captures lives on in the copy, and ends there.
#[test]
fn a_lock_that_is_captured_ends_with_the_copy() {
    isolated(|| {
        small_arena();
        for _ in 0..STARTS {
            let lock = held();
            let other = Lock::new().unwrap();
            let closure = move || {
                assert!(lock.is_locked());
                release(lock)
            };
            let process = Process::fork_builder(closure).allow_threads().start().unwrap();
            drop(other);
            assert!(!process.result().unwrap().is_locked());
        }
        nothing_is_left();
    });
}

/// A specification is decoded by each incarnation, and ends with the supervisor.
#[test]
fn a_lock_in_a_specification_is_there_for_all_incarnations() {
    isolated(|| {
        small_arena();
        let (lock, said) = (Lock::new().unwrap(), Queue::new().unwrap());
        let spec = ChildSpec::process("holder", keep_and_wait, (lock.clone(), said.clone()));
        let tree = Supervisor::builder()
            .intensity(STARTS as u32, std::time::Duration::from_secs(1))
            .child(spec)
            .start()
            .unwrap();
        drop(lock);
        for round in 0..STARTS {
            let (pid, was_abandoned) = said.get().unwrap();
            assert_eq!(was_abandoned, round > 0);
            kill9(pid);
        }
        drop(tree);
        drop(said);
        nothing_is_left();
    });
}

fn keep_and_wait(lock: Lock, said: Queue<(i32, bool)>) {
    let guard = lock.acquire().unwrap();
    said.put((std::process::id().cast_signed(), guard.was_abandoned())).unwrap();
    park_forever();
}

/// FC: processes that hand locks around, killed at random. Each takes at most what is in its hands.
#[test]
fn killed_holders_leave_no_more_than_a_message_each() {
    isolated(|| {
        small_arena();
        const KILLS: usize = 12;
        let queue: Queue<Lock> = Queue::new().unwrap();
        for round in 0..KILLS {
            let (here, there) = pipe().unwrap();
            let context: &Context = &contexts()[round % 3];
            let process = start(context, hand_around, (queue.clone(), there));
            for _ in 0..10 {
                here.recv::<()>().unwrap();
                queue.put(Lock::new().unwrap()).unwrap();
            }
            process.kill().unwrap();
            process.join().unwrap();
            while queue.try_get().is_ok() {}
        }
        drop(queue);
        // One that it has taken out and not yet in its hands, and one on its way in.
        eventually("the others have ended", || room() >= ROOM - 2 * KILLS);
    });
}

fn hand_around(queue: Queue<Lock>, there: Connection) {
    loop {
        there.send(&()).unwrap();
        let lock = queue.get().unwrap();
        queue.put(Lock::new().unwrap()).unwrap();
        drop(queue.try_get());
        drop(lock);
    }
}
