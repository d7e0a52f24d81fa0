//! Actors below supervisors: proxies that follow their child, and what callers are told when it does not come back.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procession::{
    CallError, ChildSpec, ChildState, Connection, Context, ErrorKind, Process, Restart, Shutdown,
    StartMethod, Strategy, Supervisor, pipe,
};

use crate::family::{Memory, contexts, leave_mark, park_forever, start};
use crate::supervisor::{HOUR, builder, child, worker};
use crate::support::{eventually, fd_count, is_gone, isolated, kill9};

struct Counter {
    total: i64,
}

#[procession::actor]
impl Counter {
    fn new(total: i64) -> Self {
        Self { total }
    }

    /// Waits for the order before it is made.
    fn slowly(orders: Connection) -> Self {
        let total = orders.recv::<Option<i64>>().unwrap();
        Self { total: total.expect("as it was told") }
    }

    pub fn add(&mut self, n: i64) -> i64 {
        self.total += n;
        self.total
    }

    pub fn pid(&self) -> i32 {
        std::process::id().cast_signed()
    }

    pub fn mark_and_hang(&self, memory: &String) {
        leave_mark(memory);
        park_forever();
    }
}

/// Answers when it is told to.
struct Gate(Connection);

#[procession::actor]
impl Gate {
    fn new(line: Connection) -> Self {
        Self(line)
    }

    pub fn pass(&self) -> u32 {
        self.0.send(&()).unwrap();
        self.0.recv().unwrap()
    }

    pub fn nothing(&self) {}
}

fn counter(id: &str) -> ChildSpec {
    ChildSpec::new(id, || Counter { total: 40 })
}

/// Calls until another process than `old` answers; the call that was in flight at the kill is told.
#[track_caller]
fn next_pid(proxy: &CounterProxy, old: i32) -> i32 {
    loop {
        match proxy.pid() {
            Ok(pid) if pid != old => return pid,
            Ok(_) | Err(CallError::ActorDied { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Tells from a process of its own which process answers, each time it is asked.
fn follow(proxy: CounterProxy, line: Connection) {
    while let Ok(old) = line.recv::<i32>() {
        line.send(&next_pid(&proxy, old)).unwrap();
    }
}

/// In a process with one thread, where nothing has to be allowed.
#[test]
fn actor_is_back_by_a_fork_while_its_caller_waits_for_the_answer() {
    let alone = || {
        let tree = Supervisor::builder().intensity(10, HOUR).context(&Context::new(StartMethod::Fork));
        let tree = tree.child(counter("counter")).start().unwrap();
        let proxy = tree.proxy::<Counter>("counter").unwrap();
        let mut pid = proxy.pid().unwrap();
        for _ in 0..5 {
            kill9(pid);
            pid = next_pid(&proxy, pid);
        }
    };
    isolated(|| Process::fork_builder(alone).allow_threads().start().unwrap().result().unwrap());
}

#[test]
fn actor_killed_a_hundred_times_is_back_each_time_and_its_proxies_follow() {
    isolated(|| {
        for context in contexts() {
            let tree = Supervisor::builder().intensity(100, HOUR).context(&context);
            let tree = tree.child(counter("counter")).child(worker("other")).start().unwrap();
            let proxy = tree.proxy::<Counter>("counter").unwrap();
            assert_eq!(proxy.add(2).unwrap(), 42);
            let (line, theirs) = pipe().unwrap();
            let third = start(&context, follow, (proxy.clone(), theirs));
            let mut pid = proxy.pid().unwrap();
            let mut descriptors = 0;
            for round in 0..100 {
                kill9(pid);
                let next = next_pid(&proxy, pid);
                line.send(&pid).unwrap();
                assert_eq!(line.recv::<i32>().unwrap(), next);
                eventually("the supervisor says so", || {
                    child(&tree, "counter").pid == Some(next.unsigned_abs())
                });
                assert_eq!(proxy.add(1).unwrap(), 41, "it begins anew");
                pid = next;
                if round == 0 {
                    descriptors = fd_count();
                }
            }
            eventually("descriptors of old processes are closed", || fd_count() <= descriptors);
            drop(line);
            third.join().unwrap();
            kill9(pid);
            assert!(matches!(tree.join().unwrap_err().kind(), ErrorKind::IntensityExceeded { .. }));
            let died = proxy.pid().unwrap_err();
            let CallError::ActorDied { reason: Some(reason), .. } = &died else { panic!("{died}") };
            assert!(reason.contains("SIGKILL"), "{reason}");
        }
    });
}

#[test]
fn call_in_flight_at_the_kill_fails_and_is_not_repeated() {
    isolated(|| {
        for context in contexts() {
            let memory = Memory::new("calls");
            let tree = builder(&context).child(counter("counter")).start().unwrap();
            let proxy = tree.proxy::<Counter>("counter").unwrap();
            let pid = proxy.pid().unwrap();
            let hanging = proxy.mark_and_hang_async(&memory.path());
            let behind = proxy.add_async(1);
            eventually("it runs", || memory.marks() == 1);
            kill9(pid);
            for error in [hanging.wait().unwrap_err(), behind.wait().map(drop).unwrap_err()] {
                assert!(matches!(error, CallError::ActorDied { .. }), "{error}");
            }
            assert_eq!(proxy.add(1).unwrap(), 41);
            assert_eq!(memory.marks(), 1);
        }
    });
}

#[test]
fn call_that_is_made_while_the_actor_restarts_waits_for_it() {
    isolated(|| {
        for context in contexts() {
            let (orders, theirs) = pipe().unwrap();
            orders.send(&Some(1_i64)).unwrap();
            let spec = ChildSpec::with_args("counter", Counter::slowly, (theirs,));
            let tree = builder(&context).child(spec).start().unwrap();
            let proxy = tree.proxy::<Counter>("counter").unwrap();
            let pid = proxy.pid().unwrap();
            kill9(pid);
            eventually("it is gone", || is_gone(pid));
            let waiting = proxy.add_async(1);
            orders.send(&Some(10_i64)).unwrap();
            assert_eq!(waiting.wait().unwrap(), 11);
        }
    });
}

#[test]
fn error_of_a_call_that_waited_for_a_restart_tells_the_end_of_the_process_that_it_reached() {
    isolated(|| {
        for context in contexts() {
            let memory = Memory::new("reached");
            let (orders, theirs) = pipe().unwrap();
            orders.send(&Some(1_i64)).unwrap();
            let spec = ChildSpec::with_args("counter", Counter::slowly, (theirs,));
            let tree = builder(&context).child(spec).start().unwrap();
            let proxy = tree.proxy::<Counter>("counter").unwrap();
            let first = proxy.pid().unwrap();
            kill(Pid::from_raw(first), Signal::SIGUSR1).unwrap();
            eventually("it is gone", || is_gone(first));
            // It connects to the listener, and meets the next process only once that is made.
            let waiting = proxy.pid_async();
            orders.send(&Some(1_i64)).unwrap();
            let second = waiting.wait().unwrap();
            assert_eq!(tree.proxy::<Counter>("counter").unwrap(), proxy, "asking again changes nothing");
            let hanging = proxy.mark_and_hang_async(&memory.path());
            eventually("it runs", || memory.marks() == 1);
            kill9(second);
            let died = hanging.wait().unwrap_err();
            let CallError::ActorDied { reason: Some(reason), .. } = &died else { panic!("{died}") };
            assert!(reason.contains("SIGKILL"), "{reason}");
            orders.send(&Some(1_i64)).unwrap();
            next_pid(&proxy, second);
        }
    });
}

#[test]
fn call_that_waits_for_an_actor_that_never_comes_back_is_told() {
    isolated(|| {
        for context in contexts() {
            let (orders, theirs) = pipe().unwrap();
            orders.send(&Some(1_i64)).unwrap();
            let spec = ChildSpec::with_args("counter", Counter::slowly, (theirs,));
            let tree = Supervisor::builder().intensity(1, HOUR).context(&context).child(spec);
            let tree = tree.start().unwrap();
            let proxy = tree.proxy::<Counter>("counter").unwrap();
            let pid = proxy.pid().unwrap();
            kill9(pid);
            eventually("it is gone", || is_gone(pid));
            let waiting = proxy.add_async(1);
            orders.send(&None::<i64>).unwrap();
            let error = tree.join().unwrap_err();
            let ErrorKind::IntensityExceeded { child, last, .. } = error.kind() else { panic!("{error}") };
            assert_eq!(child, "counter");
            assert!(last.contains("could not be started") && last.contains("as it was told"), "{last}");
            for error in [waiting.wait().unwrap_err(), proxy.add(1).unwrap_err()] {
                let CallError::ActorDied { reason: Some(reason), .. } = &error else { panic!("{error}") };
                assert!(reason.contains("as it was told"), "{reason}");
            }
        }
    });
}

/// `sup_start_fail`, `child_adm`.
#[test]
fn factory_that_panics_is_a_start_that_failed() {
    isolated(|| {
        for context in contexts() {
            let hopeless = || {
                let (orders, theirs) = pipe().unwrap();
                orders.send(&None::<i64>).unwrap();
                ChildSpec::with_args("hopeless", Counter::slowly, (theirs,))
            };
            let is_told = |error: &procession::Error| {
                let ErrorKind::ChildNotStarted { id, reason } = error.kind() else { panic!("{error}") };
                assert_eq!(id, "hopeless");
                assert!(reason.contains("as it was told") && !reason.contains("could not"), "{reason}");
            };
            let tree = builder(&context).child(counter("a")).child(hopeless());
            is_told(&tree.start().unwrap_err());
            let tree = builder(&context).child(counter("a")).start().unwrap();
            is_told(&tree.start_child(hopeless()).unwrap_err());
            assert_eq!(tree.count_children().unwrap().specs, 1);
            let error = tree.proxy::<Counter>("hopeless").unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NoSuchChild { .. }), "{error}");
        }
    });
}

#[test]
fn stopped_actor_refuses_calls_until_it_is_started_again() {
    isolated(|| {
        for context in contexts() {
            let (here, there) = pipe().unwrap();
            let spec = ChildSpec::with_args("gate", Gate::new, (there,)).shutdown(Shutdown::Unlimited);
            let tree = builder(&context).child(spec).start().unwrap();
            let proxy = tree.proxy::<Gate>("gate").unwrap();
            let in_hand = proxy.pass_async();
            here.recv::<()>().unwrap();
            std::thread::scope(|scope| {
                let stop = scope.spawn(|| tree.terminate_child("gate"));
                here.send(&7_u32).unwrap();
                assert_eq!(in_hand.wait().unwrap(), 7, "it finishes the call in hand");
                stop.join().unwrap().unwrap();
            });
            for _ in 0..2 {
                let error = proxy.nothing().unwrap_err();
                assert!(matches!(error, CallError::ActorStopped { .. }), "{error}");
            }
            tree.restart_child("gate").unwrap();
            proxy.nothing().unwrap();
            tree.stop().unwrap();
            let error = proxy.nothing().unwrap_err();
            assert!(matches!(error, CallError::ActorStopped { .. }), "{error}");
        }
    });
}

#[test]
fn proxies_follow_the_actors_that_a_strategy_restarts_together() {
    isolated(|| {
        for context in contexts() {
            let tree = builder(&context).strategy(Strategy::OneForAll);
            let tree = tree.child(counter("a")).child(worker("process")).child(counter("b")).start().unwrap();
            let [a, b] = ["a", "b"].map(|id| tree.proxy::<Counter>(id).unwrap());
            assert_eq!((a.add(1).unwrap(), b.add(2).unwrap()), (41, 42));
            let [old_a, old_b] = [a.pid().unwrap(), b.pid().unwrap()];
            kill9(old_a);
            next_pid(&a, old_a);
            eventually("the other one answers anew", || b.pid().is_ok_and(|pid| pid != old_b));
            assert_eq!((a.add(1).unwrap(), b.add(2).unwrap()), (41, 42));
        }
    });
}

fn nested(context: &Context) -> Supervisor {
    let inner = builder(context).child(counter("counter"));
    builder(context).child(ChildSpec::supervisor("inner", inner)).start().unwrap()
}

/// Right after the start, a nested supervisor may not have its children yet.
#[track_caller]
fn proxy_of(tree: &Supervisor, path: &str) -> CounterProxy {
    let mut proxy = None;
    eventually("the nested supervisor answers", || {
        proxy = tree.proxy::<Counter>(path).ok();
        proxy.is_some()
    });
    proxy.unwrap()
}

#[test]
fn proxies_follow_the_children_of_nested_supervisors() {
    isolated(|| {
        for context in contexts() {
            let tree = nested(&context);
            let proxy = proxy_of(&tree, "inner/counter");
            let mut pid = proxy.pid().unwrap();
            kill9(pid);
            pid = next_pid(&proxy, pid);
            // With its supervisor killed, it is killed too; both come back, and the address is the same.
            kill9(child(&tree, "inner").pid.unwrap().cast_signed());
            pid = next_pid(&proxy, pid);
            assert_eq!(proxy, proxy_of(&tree, "inner/counter"));

            tree.start_child_of("inner", counter("later")).unwrap();
            let later = proxy_of(&tree, "inner/later");
            assert_eq!(later.add(1).unwrap(), 41);
            assert_ne!(later, proxy);
            assert_eq!(proxy.pid().unwrap(), pid);
        }
    });
}

#[test]
fn clones_of_one_specification_are_actors_of_their_own() {
    isolated(|| {
        for context in contexts() {
            let spec = counter("a").restart(Restart::Temporary);
            let tree =
                builder(&context).child(spec.clone()).child(spec.clone().with_id("b")).start().unwrap();
            tree.start_child(spec.with_id("c")).unwrap();
            for (n, id) in (1..).zip(["a", "b", "c"]) {
                assert_eq!(tree.proxy::<Counter>(id).unwrap().add(n).unwrap(), 40 + n);
            }
            let proxy = tree.proxy::<Counter>("a").unwrap();
            kill9(proxy.pid().unwrap());
            eventually("it is forgotten", || tree.count_children().unwrap().specs == 2);
            let error = proxy.add(1).unwrap_err();
            assert!(matches!(error, CallError::ActorDied { .. }), "{error}");
        }
    });
}

#[test]
fn proxy_is_made_for_the_type_that_the_child_is() {
    isolated(|| {
        let spec = ChildSpec::with_args("given", Counter::new, (7,));
        let tree = Supervisor::builder().child(spec).child(worker("process")).start().unwrap();
        assert_eq!(tree.proxy::<Counter>("given").unwrap().add(1).unwrap(), 8);
        let kind = |path| tree.proxy::<Gate>(path).unwrap_err().kind().clone();
        let ErrorKind::OtherChild { id, wanted, found } = kind("given") else {
            panic!("{:?}", kind("given"))
        };
        assert_eq!(id, "given");
        assert!(wanted.ends_with("Gate") && found.unwrap().ends_with("Counter"));
        assert!(matches!(kind("process"), ErrorKind::OtherChild { found: None, .. }));
        assert!(matches!(kind("nobody"), ErrorKind::NoSuchChild { .. }));
        assert!(matches!(kind("process/x"), ErrorKind::NoSuchChild { .. }));
    });
}

/// A factory that never returns costs a drop its patience.
#[test]
fn dropped_supervisor_kills_an_actor_that_is_still_being_made() {
    isolated(|| {
        let (orders, theirs) = pipe().unwrap();
        orders.send(&Some(1_i64)).unwrap();
        let spec =
            ChildSpec::with_args("counter", Counter::slowly, (theirs,)).shutdown(Duration::from_secs(1));
        let tree = Supervisor::builder().child(spec).start().unwrap();
        let pid = child(&tree, "counter").pid.unwrap().cast_signed();
        assert_eq!(child(&tree, "counter").state, ChildState::Running);
        kill9(pid);
        eventually("it is gone", || is_gone(pid));
        drop(tree);
        let end = orders.recv::<u8>().unwrap_err();
        assert!(matches!(end.kind(), ErrorKind::Disconnected), "{end}");
    });
}
