//! Locks that tasks acquire: they wait without a thread of their own, and lose no wake-up when they are given up.

use crate::actor_async::block_on;
use crate::family::{contexts, start};
use crate::support::{eventually, isolated, process, thread_count};
use nix::unistd::gettid;
use procession::prelude::*;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context as TaskContext, Wake, Waker};

type Waiting<'a> = Pin<Box<dyn Future<Output = procession::Result<procession::LockGuard<'a>>> + Send + 'a>>;

/// A task that sleeps for the lock, which somebody holds.
fn waiting(lock: &Lock) -> Waiting<'_> {
    let mut wait: Waiting<'_> = Box::pin(lock.acquire_async());
    assert!(wait.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_pending());
    wait
}

fn hold_until_told(lock: Lock, there: Connection) {
    let guard = lock.acquire().unwrap();
    there.send(&guard.was_abandoned()).unwrap();
    let _: bool = there.recv().unwrap();
}

fn acquire_in_turns(lock: Lock, queue: Queue<u32>, rounds: u32) {
    block_on(async {
        for _ in 0..rounds {
            let _guard = lock.acquire_async().await.unwrap();
            let number = queue.try_get().unwrap();
            queue.put(number + 1).unwrap();
        }
    });
}

#[test]
fn a_free_lock_is_acquired_at_once_and_without_a_thread() {
    isolated(|| {
        let lock = Lock::new().unwrap();
        let before = thread_count();
        let guard = block_on(lock.acquire_async()).unwrap();
        assert!(!guard.was_abandoned() && lock.is_locked());
        assert_eq!(thread_count(), before);
        drop(guard);
        assert!(!lock.is_locked());
    });
}

/// Tasks and threads of several processes: the lock keeps what they do apart, and nobody is forgotten.
#[test]
fn tasks_and_threads_of_many_processes_take_turns() {
    isolated(|| {
        for context in contexts() {
            let (lock, queue) = (Lock::new().unwrap(), Queue::new().unwrap());
            queue.put(0).unwrap();
            let processes: Vec<_> = (0..3)
                .map(|_| start(&context, acquire_in_turns, (lock.clone(), queue.clone(), 200)))
                .collect();
            for _ in 0..200 {
                let _guard = lock.acquire().unwrap();
                let number = queue.try_get().unwrap();
                queue.put(number + 1).unwrap();
            }
            processes.into_iter().for_each(|process| process.result().unwrap());
            assert_eq!(queue.get().unwrap(), 800, "{context:?}");
        }
    });
}

#[test]
fn a_task_takes_the_lock_of_a_killed_process_over_and_is_told() {
    isolated(|| {
        for context in contexts() {
            let lock = Lock::new().unwrap();
            let (here, there) = pipe().unwrap();
            let process = start(&context, hold_until_told, (lock.clone(), there));
            here.recv::<bool>().unwrap();
            let wait = waiting(&lock);
            process.kill().unwrap();
            assert!(block_on(wait).unwrap().was_abandoned(), "{context:?}");
            assert!(!block_on(lock.acquire_async()).unwrap().was_abandoned());
        }
    });
}

/// Notes that its task was woken.
#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// A wake-up that a task got and did not use is for whoever waits beside it.
#[test]
fn a_task_that_is_woken_and_dropped_keeps_nobody_from_the_lock() {
    isolated(|| {
        let lock = Lock::new().unwrap();
        for _ in 0..20 {
            let guard = lock.acquire().unwrap();
            let bell = Arc::new(Bell::default());
            let mut task: Waiting<'_> = Box::pin(lock.acquire_async());
            let waker = Waker::from(Arc::clone(&bell));
            assert!(task.as_mut().poll(&mut TaskContext::from_waker(&waker)).is_pending());
            let (ready, other) = (mpsc::channel(), lock.clone());
            let thread = std::thread::spawn(move || {
                ready.0.send(gettid().as_raw()).unwrap();
                drop(other.acquire().unwrap());
            });
            let tid = ready.1.recv().unwrap();
            eventually("the thread sleeps", || process(tid).is_some_and(|thread| thread.state == 'S'));
            drop(guard);
            eventually("the task is woken, or the thread is", || {
                bell.0.load(Ordering::SeqCst) || thread.is_finished()
            });
            drop(task);
            thread.join().unwrap();
        }
        assert!(!lock.is_locked());
    });
}

#[test]
fn a_thousand_tasks_wait_for_one_lock_with_one_thread() {
    isolated(|| {
        let lock = Lock::new().unwrap();
        let guard = lock.acquire().unwrap();
        let before = thread_count();
        let waits: Vec<_> = (0..1000).map(|_| waiting(&lock)).collect();
        assert_eq!(thread_count(), before + 1);
        drop(guard);
        for wait in waits {
            drop(block_on(wait).unwrap());
        }
        assert!(!lock.is_locked());
    });
}
