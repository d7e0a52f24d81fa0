//! Queues between processes: Python's verbs, under every start method, and what Python's cannot do.

use crate::family::{contexts, run, start};
use crate::support::{eventually, isolated, own_pid, sleepers, thread_count};
use procession::prelude::*;
use serde::{Deserialize, Serialize, Serializer};
use std::time::{Duration, Instant};

const SHORT: Duration = Duration::from_millis(100);

/// Runs `act`, which has to fail like that, and not before the time is over.
fn fails_after<T, E: Into<Error>>(time: Duration, kind: &ErrorKind, act: impl FnOnce() -> Result<T, E>) {
    let start = Instant::now();
    let error = act().map(drop).map_err(Into::into).unwrap_err();
    assert_eq!(error.kind(), kind);
    assert!(start.elapsed() >= time);
}

fn take_six(queue: Queue<i32>, done: Connection) {
    let _: () = done.recv().unwrap();
    for expected in 1..=6 {
        assert_eq!(queue.get().unwrap(), expected);
    }
    done.send(&(queue.is_empty(), queue.is_full())).unwrap();
}

/// T28 (_TestQueue.test_put). Q2, Q4, Q5, Q6.
#[test]
fn a_bounded_queue_takes_so_many_and_no_more() {
    isolated(|| {
        for context in contexts() {
            let queue = Queue::bounded(6).unwrap();
            let (here, there) = pipe().unwrap();
            let process = start(&context, take_six, (queue.clone(), there));
            assert!(queue.is_empty() && !queue.is_full());
            queue.put(1).unwrap();
            queue.put_timeout(2, Duration::MAX).unwrap();
            queue.put_timeout(3, SHORT).unwrap();
            queue.put_timeout(4, Duration::ZERO).unwrap();
            queue.try_put(5).unwrap();
            queue.put(6).unwrap();
            assert!(!queue.is_empty() && queue.is_full());
            fails_after(Duration::ZERO, &ErrorKind::Full, || queue.try_put(7));
            fails_after(Duration::ZERO, &ErrorKind::Full, || queue.put_timeout(7, Duration::ZERO));
            fails_after(SHORT, &ErrorKind::Full, || queue.put_timeout(7, SHORT));
            assert_eq!(queue.try_put(8).unwrap_err().into_value(), 8);
            here.send(&()).unwrap();
            assert_eq!(here.recv::<(bool, bool)>().unwrap(), (true, false), "{context:?}");
            assert!(queue.is_empty() && !queue.is_full());
            process.result().unwrap();
            queue.close();
            queue.join_thread().unwrap();
        }
    });
}

fn put_four(queue: Queue<i32>, done: Connection) {
    let _: () = done.recv().unwrap();
    (2..=5).for_each(|number| queue.put(number).unwrap());
    done.send(&()).unwrap();
}

/// T29 (_TestQueue.test_get). Q4, Q7, Q8.
#[test]
fn values_are_taken_out_in_their_order_and_then_there_is_none() {
    isolated(|| {
        for context in contexts() {
            let queue = Queue::new().unwrap();
            let (here, there) = pipe().unwrap();
            let process = start(&context, put_four, (queue.clone(), there));
            assert!(queue.is_empty());
            here.send(&()).unwrap();
            here.recv::<()>().unwrap();
            assert!(!queue.is_empty());
            assert_eq!(queue.get().unwrap(), 2);
            assert_eq!(queue.get_timeout(Duration::MAX).unwrap(), 3);
            assert_eq!(queue.get_timeout(Duration::ZERO).unwrap(), 4);
            assert_eq!(queue.try_get().unwrap(), 5);
            assert!(queue.is_empty(), "{context:?}");
            fails_after(Duration::ZERO, &ErrorKind::Empty, || queue.try_get());
            fails_after(Duration::ZERO, &ErrorKind::Empty, || queue.get_timeout(Duration::ZERO));
            fails_after(SHORT, &ErrorKind::Empty, || queue.get_timeout(SHORT));
            process.result().unwrap();
        }
    });
}

fn put_ten(queue: Queue<u32>) {
    (10..20).for_each(|number| queue.put(number).unwrap());
}

/// T30 (_TestQueue.test_fork): in Python the copy of a feeder thread is the trap.
#[test]
fn a_queue_that_was_used_before_works_in_a_child() {
    isolated(|| {
        for context in contexts() {
            let queue = Queue::new().unwrap();
            (0..10).for_each(|number| queue.put(number).unwrap());
            run(&context, put_ten, (queue.clone(),));
            let all: Vec<u32> = (0..20).map(|_| queue.get().unwrap()).collect();
            assert_eq!(all, (0..20).collect::<Vec<_>>(), "{context:?}");
            fails_after(Duration::ZERO, &ErrorKind::Empty, || queue.try_get());
        }
    });
}

/// T31 (_TestQueue.test_qsize). Q3, D27.
#[test]
fn the_length_is_exact() {
    isolated(|| {
        let queue = Queue::new().unwrap();
        assert_eq!(queue.len(), 0);
        for (put, expected) in [(true, 1), (true, 2), (false, 1), (false, 0)] {
            if put {
                queue.put(1_u8).unwrap();
            } else {
                queue.get().unwrap();
            }
            assert_eq!((queue.len(), queue.is_empty()), (expected, expected == 0));
        }
    });
}

/// T34 (_TestQueue.test_timeout).
#[test]
fn a_timeout_is_waited_for() {
    isolated(|| {
        let queue: Queue<()> = Queue::new().unwrap();
        fails_after(SHORT, &ErrorKind::Empty, || queue.get_timeout(SHORT));
    });
}

/// Some of these cannot be written.
#[derive(Debug, PartialEq, Deserialize)]
struct Picky(bool);

impl Serialize for Picky {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 { self.0.serialize(serializer) } else { Err(serde::ser::Error::custom("not this one")) }
    }
}

/// T35, T36 (_TestQueue.test_queue_feeder_donot_stop_onexc, test_queue_feeder_on_queue_feeder_error). D26: the error is the
/// caller's, nothing is queued, and no place is lost.
#[test]
fn a_value_that_cannot_travel_is_an_error_of_whoever_puts_it() {
    isolated(|| {
        let queue = Queue::bounded(1).unwrap();
        let error = queue.put(Picky(false)).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Codec { reason } if reason.contains("not this one")));
        assert_eq!(error.into_value(), Picky(false));
        assert!(queue.is_empty());
        queue.try_put(Picky(true)).unwrap();
        assert_eq!(queue.len(), 1);
        assert_eq!(queue.get_timeout(Duration::from_secs(30)).unwrap(), Picky(true));
        assert!(queue.is_empty());
    });
}

/// T37 (_TestQueue.test_closed_queue_put_get_exceptions). Q10, Q11, Q12, A10, A24.
#[test]
fn a_closed_queue_takes_and_gives_nothing() {
    isolated(|| {
        let queue = Queue::new().unwrap();
        let error = queue.join_thread().unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::QueueOpen);
        queue.put(5).unwrap();
        let clone = queue.clone();
        clone.close();
        clone.close();
        fails_after(Duration::ZERO, &ErrorKind::QueueClosed, || queue.put(6));
        fails_after(Duration::ZERO, &ErrorKind::QueueClosed, || queue.try_put(6));
        fails_after(Duration::ZERO, &ErrorKind::QueueClosed, || queue.get());
        fails_after(Duration::ZERO, &ErrorKind::QueueClosed, || queue.try_get());
        fails_after(Duration::ZERO, &ErrorKind::QueueClosed, || queue.put_timeout(6, Duration::MAX));
        fails_after(Duration::ZERO, &ErrorKind::QueueClosed, || queue.get_timeout(Duration::MAX));
        assert_eq!((queue.len(), queue.is_empty(), queue.is_full()), (1, false, false));
        queue.join_thread().unwrap();
        queue.cancel_join_thread();
        assert_eq!(queue.iter().map(Result::unwrap).collect::<Vec<i32>>(), [5]);
        assert_eq!(format!("{queue:?}"), "Queue { len: 0, is_closed: true }");
    });
}

fn close_and_fail(queue: Queue<i32>) -> bool {
    queue.close();
    queue.put(1).is_err()
}

/// Q10: `close` is for one process.
#[test]
fn a_queue_that_one_process_closes_goes_on_for_the_others() {
    isolated(|| {
        for context in contexts() {
            let queue = Queue::new().unwrap();
            assert!(run(&context, close_and_fail, (queue.clone(),)));
            queue.put(5).unwrap();
            assert_eq!(queue.get().unwrap(), 5, "{context:?}");
        }
    });
}

#[test]
fn whoever_waits_stops_waiting_when_the_queue_is_closed() {
    isolated(|| {
        let [empty, full] = [Queue::bounded(1).unwrap(), Queue::bounded(1).unwrap()];
        full.put(1).unwrap();
        std::thread::scope(|scope| {
            let getter = scope.spawn(|| empty.get().unwrap_err().kind().clone());
            let putter = scope.spawn(|| full.put(2).unwrap_err().kind().clone());
            let all = scope.spawn(|| empty.iter().map(Result::unwrap).collect::<Vec<i32>>());
            // All but this thread, and the one that learns of deaths.
            eventually("they sleep", || sleepers(own_pid()).len() == thread_count() - 2);
            [&empty, &full].into_iter().for_each(Queue::close);
            assert_eq!(getter.join().unwrap(), ErrorKind::QueueClosed);
            assert_eq!(putter.join().unwrap(), ErrorKind::QueueClosed);
            assert!(all.join().unwrap().is_empty());
        });
    });
}

fn answer(questions: Queue<String>, answers: Queue<String>) {
    answers.put(questions.get().unwrap().to_uppercase()).unwrap();
}

fn make(context: String) -> Queue<String> {
    let queue = Queue::new().unwrap();
    queue.put(context).unwrap();
    queue
}

fn put_again(queue: Queue<String>) -> String {
    let message = queue.get().unwrap();
    queue.put(message.clone()).unwrap();
    message
}

/// T188 (TestStartMethod.test_mixed_startmethod): in Python a queue of one start method is no argument for another.
/// Q15: handles travel in arguments, results and other queues.
#[test]
fn one_queue_connects_processes_of_all_start_methods() {
    isolated(|| {
        let (questions, answers) = (Queue::new().unwrap(), Queue::new().unwrap());
        let processes =
            contexts().map(|context| start(&context, answer, (questions.clone(), answers.clone())));
        processes.iter().for_each(|_| questions.put("yes".to_owned()).unwrap());
        for process in processes {
            assert_eq!(answers.get().unwrap(), "YES");
            process.result().unwrap();
        }
        let queues = Queue::new().unwrap();
        for context in contexts() {
            let made = run(&context, make, (format!("{context:?}"),));
            for other in contexts() {
                assert_eq!(run(&other, put_again, (made.clone(),)), format!("{context:?}"), "{other:?}");
            }
            queues.put(made).unwrap();
            assert_eq!(queues.get().unwrap().get().unwrap(), format!("{context:?}"));
        }
    });
}

fn pass_on(queue: Queue<i32>, method: String) {
    let context = contexts().into_iter().find(|context| format!("{context:?}") == method).unwrap();
    run(&context, |queue: Queue<i32>| queue.put(77).unwrap(), (queue,));
}

/// T189 (TestStartMethod.test_nested_startmethod), T164 (TestStdinBadfiledescriptor.test_queue_in_process).
#[test]
fn a_child_passes_its_queue_on_to_its_own_child() {
    isolated(|| {
        for context in contexts() {
            let queue = Queue::new().unwrap();
            run(&context, pass_on, (queue.clone(), format!("{context:?}")));
            assert_eq!(queue.get().unwrap(), 77, "{context:?}");
        }
    });
}

fn look_and_answer(queue: SimpleQueue<bool>, go: Connection, there: Connection) {
    let before = queue.is_empty();
    there.send(&before).unwrap();
    let _: () = go.recv().unwrap();
    queue.put(true).unwrap();
    queue.put(false).unwrap();
    there.send(&queue.is_empty()).unwrap();
}

/// T196 (TestSimpleQueue.test_empty). Q17.
#[test]
fn a_simple_queue_is_empty_until_something_is_put() {
    isolated(|| {
        for context in contexts() {
            let queue = SimpleQueue::new().unwrap();
            let ((here, there), (go, going)) = (pipe().unwrap(), pipe().unwrap());
            let process = start(&context, look_and_answer, (queue.clone(), going, there));
            assert!(here.recv::<bool>().unwrap() && queue.is_empty());
            go.send(&()).unwrap();
            assert!(!here.recv::<bool>().unwrap() && !queue.is_empty());
            assert_eq!([queue.get().unwrap(), queue.get().unwrap()], [true, false], "{context:?}");
            assert!(queue.is_empty());
            process.result().unwrap();
        }
    });
}

/// T197, T198 (TestSimpleQueue.test_close, test_closed). A15.
#[test]
fn a_simple_queue_is_closed_once_and_for_all() {
    isolated(|| {
        let queue = SimpleQueue::new().unwrap();
        queue.put(1).unwrap();
        queue.close();
        queue.close();
        fails_after(Duration::ZERO, &ErrorKind::QueueClosed, || queue.put(2));
        fails_after(Duration::ZERO, &ErrorKind::QueueClosed, || queue.get());
        assert!(!queue.is_empty(), "in Python that is an error too");
    });
}

/// Q2: in Python no bound, here a mistake.
#[test]
fn a_queue_for_no_message_is_refused() {
    let error = Queue::<u8>::bounded(0).unwrap_err();
    assert_eq!(error.kind(), &ErrorKind::Zero { what: "the number of messages of a bounded queue" });
}

fn put_row(queue: Queue<(usize, u32)>, own: usize) {
    (0..500).for_each(|number| queue.put((own, number)).unwrap());
}

fn get_all(queue: Queue<(usize, u32)>, count: usize) -> Vec<(usize, u32)> {
    (0..count).map(|_| queue.get().unwrap()).collect()
}

/// Q1, Q9: several put and several get; each message comes once, and what one has put comes in its order.
#[test]
fn what_each_of_several_producers_puts_comes_once_and_in_order() {
    isolated(|| {
        for (queue, context) in [Queue::new(), Queue::bounded(3), Queue::new()].into_iter().zip(contexts()) {
            let queue = queue.unwrap();
            let getters = [700, 800].map(|count| start(&context, get_all, (queue.clone(), count)));
            let putters = [0, 1, 2].map(|own| start(&context, put_row, (queue.clone(), own)));
            putters.into_iter().for_each(|process| process.result().unwrap());
            let got = getters.map(|process| process.result().unwrap());
            for row in
                got.iter().flat_map(|got| [0, 1, 2].map(|own| got.iter().filter(move |one| one.0 == own)))
            {
                assert!(row.is_sorted_by(|before, after| before < after), "{context:?}");
            }
            let mut all = got.concat();
            all.sort_unstable();
            assert!(all.into_iter().eq((0..3).flat_map(|own| (0..500).map(move |number| (own, number)))));
        }
    });
}

/// Q21: in Python only a manager's queue may be in a task.
#[test]
fn a_queue_goes_to_the_workers_of_a_pool() {
    isolated(|| {
        for context in contexts() {
            let pool = Pool::builder().processes(2).context(&context).start().unwrap();
            let queue = Queue::new().unwrap();
            pool.map(put_ten, vec![queue.clone(); 3]).unwrap();
            let mut got: Vec<_> = (0..30).map(|_| queue.try_get().unwrap()).collect();
            got.sort_unstable();
            assert!(got.into_iter().eq((10..20).flat_map(|number| [number; 3])), "{context:?}");
            assert!(queue.is_empty());
            pool.close();
            pool.join().unwrap();
        }
    });
}
