//! Queues of tasks: they wait without a thread of their own, and lose nothing when they are given up.

use crate::actor_async::{block_on, switches};
use crate::family::{contexts, start};
use crate::support::{eventually, isolated, sleepers, thread_count};
use procession::prelude::*;
use std::future::Future;
use std::pin::pin;
use std::task::{Context as TaskContext, Waker};
use std::time::Duration;

fn double(from: Queue<u64>, to: Queue<u64>, count: u64) {
    for _ in 0..count {
        to.put(from.get().unwrap() * 2).unwrap();
    }
}

/// Executors of many threads need that.
fn is_send<T: Send>(future: T) -> T {
    future
}

#[test]
fn tasks_put_and_get_as_threads_do() {
    isolated(|| {
        for context in contexts() {
            let (there, back) = (Queue::bounded(3).unwrap(), Queue::new().unwrap());
            let process = start(&context, double, (there.clone(), back.clone(), 100));
            block_on(async {
                for number in 0..100 {
                    is_send(there.put_async(number)).await.unwrap();
                }
                for number in 0..100 {
                    assert_eq!(is_send(back.get_async()).await.unwrap(), number * 2, "{context:?}");
                }
            });
            process.result().unwrap();
        }
    });
}

/// More queues than one thread can sleep for, and more tasks than queues.
#[test]
fn hundreds_of_tasks_wait_with_a_thread_or_two() {
    isolated(|| {
        let queues: Vec<Queue<u32>> = (0..200).map(|_| Queue::new().unwrap()).collect();
        let threads = thread_count();
        let mut waits: Vec<_> =
            queues.iter().chain(&queues).map(|queue| Box::pin(queue.get_async())).collect();
        let mut context = TaskContext::from_waker(Waker::noop());
        assert!(waits.iter_mut().all(|wait| wait.as_mut().poll(&mut context).is_pending()));
        // One sleeps for 127 queues.
        assert_eq!(thread_count(), threads + 2);
        for (number, queue) in (0..).zip(&queues) {
            queue.put(number).unwrap();
            queue.put(number).unwrap();
        }
        for (number, wait) in (0..200).chain(0..200).zip(waits) {
            assert_eq!(block_on(wait).unwrap(), number);
        }
        assert_eq!(thread_count(), threads + 2, "the same ones");
    });
}

fn get_one(queue: Queue<u32>, there: Connection) {
    there.send(&()).unwrap();
    there.send(&queue.get().unwrap()).unwrap();
}

/// A wake-up that a task got and did not use is for whoever waits in another process.
#[test]
fn a_wait_that_is_given_up_takes_no_message_with_it() {
    isolated(|| {
        for _ in 0..50 {
            let queue = Queue::new().unwrap();
            let mut wait = Box::pin(queue.get_async());
            assert!(wait.as_mut().poll(&mut TaskContext::from_waker(Waker::noop())).is_pending());
            let (here, there) = pipe().unwrap();
            let process = Process::spawn(get_one, (queue.clone(), there)).unwrap();
            here.recv::<()>().unwrap();
            let pid = process.pid().cast_signed();
            eventually("it sleeps", || sleepers(pid).contains(&pid));
            queue.put(7).unwrap();
            drop(wait);
            assert_eq!(here.recv::<u32>().unwrap(), 7);
            process.result().unwrap();
        }
    });
}

#[test]
fn a_task_that_waits_is_told_that_the_queue_is_closed() {
    isolated(|| {
        let [empty, full] = [Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap()];
        full.put(1).unwrap();
        let (mut get, mut put) = (pin!(empty.get_async()), pin!(full.put_async(2)));
        let mut context = TaskContext::from_waker(Waker::noop());
        assert!(get.as_mut().poll(&mut context).is_pending() && put.as_mut().poll(&mut context).is_pending());
        [&empty, &full].into_iter().for_each(Queue::close);
        assert_eq!(block_on(get).unwrap_err().kind(), &ErrorKind::QueueClosed);
        let refused = block_on(put).unwrap_err();
        assert_eq!(refused.kind(), &ErrorKind::QueueClosed);
        assert_eq!(refused.into_value(), 2);
    });
}

fn wait_in_all_ways(empty: Queue<u32>, full: Queue<u32>) {
    std::thread::scope(|scope| {
        scope.spawn(|| empty.get().unwrap());
        scope.spawn(|| empty.get_timeout(Duration::MAX).unwrap());
        scope.spawn(|| full.put(1).unwrap());
        block_on(async { empty.get_async().await.unwrap() });
    });
}

#[test]
fn whoever_waits_for_a_queue_uses_no_processor_time() {
    isolated(|| {
        let (empty, full) = (Queue::new().unwrap(), Queue::bounded(1).unwrap());
        full.put(0).unwrap();
        let process = Process::spawn(wait_in_all_ways, (empty.clone(), full.clone())).unwrap();
        let pid = process.pid();
        let (here, _there) = pipe().unwrap();
        // Main thread, three others, the keeper, and the one that sleeps for tasks.
        eventually("all sleep", || {
            let before = switches(pid);
            here.poll_timeout(Duration::from_millis(300)).unwrap();
            before.len() == 6 && switches(pid) == before
        });
        (0..3).for_each(|number| empty.put(number).unwrap());
        full.get().unwrap();
        process.result().unwrap();
    });
}
