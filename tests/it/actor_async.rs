//! Calls that wait for nothing: many in flight, given up, awaited by any executor.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use procession::{ActorProcess, Call, Connection, pipe};

use crate::actor::{Counter, CounterProxy};
use crate::support::{fd_count, isolated, thread_count};

/// An actor that can be held up from outside.
pub struct Gate {
    connection: Connection,
    passed: u64,
}

#[procession::actor]
impl Gate {
    fn new(connection: Connection) -> Self {
        Self { connection, passed: 0 }
    }

    /// Waits until the gate is opened.
    pub fn wait(&mut self) -> u64 {
        // `Err` when the test is over.
        let _ = self.connection.recv::<()>();
        self.pass(0)
    }

    pub fn pass(&mut self, n: u64) -> u64 {
        self.passed += 1;
        self.passed + n
    }

    pub fn fill(&mut self, bytes: Vec<u8>) -> Vec<u8> {
        self.passed += 1;
        bytes
    }
}

/// The actor, and what opens its gate.
pub fn gate() -> (ActorProcess<Gate>, Connection) {
    let (here, there) = pipe().unwrap();
    (ActorProcess::spawn_with(Gate::new, (there,)).unwrap(), here)
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The smallest executor there is.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut context, mut future) = (Context::from_waker(&waker), pin!(future));
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

const MANY: u64 = 10_000;

#[test]
fn ten_thousand_calls_are_in_flight_before_the_first_answer_is_read() {
    isolated(|| {
        let counter = ActorProcess::spawn(Counter::default()).unwrap();
        for is_first in [true, false] {
            let calls: Vec<Call<i64>> = (0..MANY).map(|_| counter.add_async(1)).collect();
            // In the worst order, blocking and awaiting.
            for (call, n) in calls.into_iter().rev().zip((1..=MANY as i64).rev()) {
                let n = if is_first { n } else { n + MANY as i64 };
                let value = if n % 2 == 0 { call.wait() } else { block_on(call) };
                assert_eq!(value.unwrap(), n);
            }
        }
    });
}

#[test]
fn ten_thousand_calls_wait_for_an_actor_that_is_busy() {
    isolated(|| {
        let (gate, opener) = gate();
        let waits = gate.wait_async();
        let calls: Vec<Call<u64>> = (0..MANY).map(|n| gate.pass_async(n)).collect();
        opener.send(&()).unwrap();
        assert_eq!(waits.wait().unwrap(), 1);
        for (call, n) in calls.into_iter().zip(0..) {
            assert_eq!(call.wait().unwrap(), 2 + 2 * n);
        }
    });
}

#[test]
fn large_requests_and_replies_pass_each_other() {
    isolated(|| {
        let (gate, _opener) = gate();
        // Far more than both sockets take, in both directions, and nobody reads yet.
        let sent = |n: u8| vec![n; 100_000];
        let calls: Vec<Call<Vec<u8>>> = (0..50).map(|n| gate.fill_async(sent(n))).collect();
        for (call, n) in calls.into_iter().zip(0..) {
            assert!(block_on(call).unwrap() == sent(n));
        }
    });
}

#[test]
fn a_call_that_is_given_up_is_carried_out_and_leaves_nothing_behind() {
    isolated(|| {
        let counter = ActorProcess::spawn(Counter::default()).unwrap();
        assert_eq!(block_on(counter.add_async(1)).unwrap(), 1);
        let (descriptors, threads) = (fd_count(), thread_count());
        for n in 0..3000 {
            match n % 3 {
                0 => drop(counter.add_async(1)),
                1 => {
                    // Asked for once, and then given up.
                    let mut call = pin!(counter.add_async(1));
                    let _ = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                }
                _ => drop(counter.add(1).unwrap()),
            }
        }
        assert_eq!(counter.total().unwrap(), 3001);
        assert_eq!((fd_count(), thread_count()), (descriptors, threads));
    });
}

#[test]
fn calls_go_out_though_nobody_waits_for_them() {
    isolated(|| {
        let (gate, opener) = gate();
        let proxy = ActorProcess::proxy(&gate);
        // Dropped with its proxy, before the connection is even made.
        drop(proxy.wait_async());
        drop(proxy);
        opener.send(&()).unwrap();
        crate::support::eventually("the message is taken", || gate.pass(0).unwrap() > 1);
    });
}

#[test]
fn threads_and_tasks_share_a_connection() {
    isolated(|| {
        const EACH: i64 = 500;
        let counter = ActorProcess::spawn(Counter::default()).unwrap();
        thread::scope(|scope| {
            for thread in 0..6 {
                let counter: CounterProxy = ActorProcess::proxy(&counter);
                scope.spawn(move || {
                    for n in 0..EACH {
                        if thread % 2 == 0 {
                            counter.add(1).unwrap();
                        } else if n % 2 == 0 {
                            block_on(counter.add_async(1)).unwrap();
                        } else {
                            // Asked as a task, then waited for by the thread.
                            let mut call = counter.add_async(1);
                            let context = &mut Context::from_waker(Waker::noop());
                            if pin!(&mut call).as_mut().poll(context).is_pending() {
                                call.wait().unwrap();
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(counter.total().unwrap(), 6 * EACH);
    });
}

#[test]
fn calls_are_awaited_under_a_runtime_of_somebody_else() {
    isolated(|| {
        let counter = ActorProcess::spawn(Counter::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let total = runtime.block_on(async {
            let tasks: Vec<_> = (0..100)
                .map(|_| {
                    let counter = ActorProcess::proxy(&counter);
                    tokio::spawn(async move {
                        for _ in 0..10 {
                            counter.add_async(1).await.unwrap();
                            // Given up when it has hardly begun to wait.
                            let call = counter.add_async(1);
                            let _ = tokio::time::timeout(Duration::ZERO, call).await;
                        }
                    })
                })
                .collect();
            for task in tasks {
                task.await.unwrap();
            }
            counter.total_async().await.unwrap()
        });
        assert_eq!(total, 2000);
    });
}

/// How often the threads of a process were put on a processor; those that sleep are not.
pub fn switches(pid: u32) -> Vec<(String, u64)> {
    let mut all: Vec<(String, u64)> = std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map(|task| {
            let status = std::fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
            let count = |name| field(name).parse::<u64>().unwrap();
            let switches = count("voluntary_ctxt_switches:") + count("nonvoluntary_ctxt_switches:");
            (field("Name:").to_owned(), switches)
        })
        .collect();
    all.sort();
    all
}

#[test]
fn an_actor_without_calls_and_its_callers_use_no_processor_time() {
    isolated(|| {
        let counter = ActorProcess::spawn(Counter::default()).unwrap();
        let waits = counter.add_async(1);
        assert_eq!(block_on(waits).unwrap(), 1);
        for _ in 0..100 {
            counter.add(1).unwrap();
        }
        let pid = ActorProcess::process(&counter).pid();
        // The kernel keeps 15 bytes of a name.
        let calls = |own: Vec<(String, u64)>| own.into_iter().find(|(name, _)| name == "procession-call");
        let quiet = || (switches(pid), calls(switches(std::process::id())).unwrap());
        let (here, _there) = pipe().unwrap();
        // It may still be on its way to sleep.
        crate::support::eventually("both sleep", || {
            let before = quiet();
            here.poll_timeout(Duration::from_millis(300)).unwrap();
            quiet() == before
        });
    });
}
