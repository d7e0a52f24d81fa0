//! How actors end, and what their callers are told: a stop, a panic, a death and an unmade actor are four things.

use procession::{ActorProcess, Call, CallError, Connection, NoError, Orphan, Process, Wire, pipe};

use crate::actor::{Counter, CounterProxy};
use crate::actor_async::{block_on, gate};
use crate::family::{contexts, park_forever};
use crate::support::{eventually, is_gone, isolated, kill9};

/// Panics unless the call failed because the process died; the reason, if it is known.
#[track_caller]
pub fn death<R: std::fmt::Debug>(result: Result<R, CallError<NoError>>) -> Option<String> {
    match result {
        Err(CallError::ActorDied { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn is_stopped<R: std::fmt::Debug>(result: Result<R, CallError<NoError>>) {
    assert!(matches!(result, Err(CallError::ActorStopped { .. })), "{result:?}");
}

#[test]
fn a_killed_actor_fails_the_calls_in_flight_and_all_later_ones() {
    isolated(|| {
        for waits in [true, false] {
            let (gate, _opener) = gate();
            assert_eq!(gate.pass(0).unwrap(), 1);
            let mut calls: Vec<Call<u64>> = vec![gate.wait_async()];
            calls.extend((0..100).map(|n| gate.pass_async(n)));
            kill9(ActorProcess::process(&gate).pid() as i32);
            for call in calls {
                let reason = death(if waits { call.wait() } else { block_on(call) }).unwrap();
                assert!(reason.contains("SIGKILL"), "{reason}");
            }
            for _ in 0..2 {
                assert!(death(gate.pass(0)).unwrap().contains("SIGKILL"));
            }
            ActorProcess::process(&gate).join().unwrap();
            assert_eq!(ActorProcess::process(&gate).exitcode(), Some(-9));
        }
    });
}

#[test]
fn a_panic_is_told_to_its_caller_and_ends_the_actor() {
    isolated(|| {
        for context in &contexts() {
            let counter = ActorProcess::builder(Counter::default()).context(context).start().unwrap();
            counter.add(1).unwrap();
            let panics = counter.panics_async("out of luck");
            let behind = counter.add_async(1);
            match panics.wait() {
                Err(CallError::Panicked { method, message, location, .. }) => {
                    assert_eq!((method, message.as_str()), ("Counter::panics", "out of luck"));
                    assert!(location.unwrap().contains("actor.rs"));
                }
                other => panic!("{other:?}"),
            }
            let reason = death(behind.wait()).unwrap();
            assert!(reason.contains("code 1") && reason.contains("out of luck"), "{reason}");
            let process = ActorProcess::process(&counter);
            process.join().unwrap();
            assert_eq!(process.exitcode(), Some(1));
            let error = process.result().unwrap_err();
            assert!(error.to_string().contains("out of luck"), "{error}");
        }
    });
}

#[test]
fn an_actor_that_leaves_by_itself_is_a_dead_one() {
    isolated(|| {
        for code in [3, 0] {
            let counter = ActorProcess::spawn(Counter::default()).unwrap();
            let reason = death(counter.leaves(code)).unwrap();
            assert!(reason.contains(&format!("code {code}")), "{reason}");
        }
    });
}

/// Says goodbye over a connection when it is dropped.
struct Farewell(Connection);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.send(&"goodbye".to_owned()).unwrap();
    }
}

#[procession::actor]
impl Farewell {
    fn new(connection: Connection) -> Self {
        Self(connection)
    }

    pub fn nothing(&self) {}

    pub fn wait(&self) {
        self.0.send(&"waiting".to_owned()).unwrap();
        self.0.recv::<()>().unwrap();
    }
}

#[test]
fn a_stopped_actor_finishes_the_call_in_hand_and_refuses_the_rest() {
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let farewell =
                ActorProcess::builder_with(Farewell::new, (there,)).context(context).start().unwrap();
            let proxy = ActorProcess::proxy(&farewell);
            farewell.nothing().unwrap();
            let in_hand = farewell.wait_async();
            let behind = farewell.nothing_async();
            assert_eq!(here.recv::<String>().unwrap(), "waiting");
            ActorProcess::stop(&farewell);
            here.send(&()).unwrap();
            in_hand.wait().unwrap();
            // It was perhaps carried out before the order to stop was read.
            let behind = behind.wait();
            assert!(matches!(behind, Ok(()) | Err(CallError::ActorStopped { .. })), "{behind:?}");
            assert_eq!(here.recv::<String>().unwrap(), "goodbye");
            let process = ActorProcess::process(&farewell);
            process.join().unwrap();
            assert_eq!(process.exitcode(), Some(0));
            is_stopped(proxy.nothing());
            is_stopped(block_on(proxy.nothing_async()));
        }
    });
}

#[test]
fn dropping_the_handle_stops_the_actor_and_waits_for_nothing() {
    isolated(|| {
        let (gate, opener) = gate();
        let pid = ActorProcess::process(&gate).pid() as i32;
        let (proxy, waits) = (ActorProcess::proxy(&gate), gate.wait_async());
        drop(gate);
        // It has ended by now only if it stopped before the call began.
        let _ = opener.send(&());
        let waited = waits.wait();
        assert!(matches!(waited, Ok(1) | Err(CallError::ActorStopped { .. })), "{waited:?}");
        eventually("the process ends", || is_gone(pid));
        is_stopped(proxy.pass(0));
    });
}

struct Unmade;

#[procession::actor]
impl Unmade {
    fn new(text: &str) -> Self {
        panic!("no camera: {text}");
    }

    pub fn look(&self) -> u8 {
        0
    }
}

#[test]
fn an_actor_that_could_not_be_made_says_why() {
    isolated(|| {
        for context in &contexts() {
            let unmade = ActorProcess::builder_with(Unmade::new, ("busy",)).context(context).start().unwrap();
            let reason = death(unmade.look()).unwrap();
            assert!(reason.contains("no camera: busy"), "{reason}");
            let process = ActorProcess::process(&unmade);
            process.join().unwrap();
            assert_eq!(process.exitcode(), Some(1));
        }
    });
}

/// Starts an actor and tells its pid; never ends.
fn starts_an_actor(connection: Connection) {
    let counter = ActorProcess::spawn(Counter::default()).unwrap();
    connection.send(&(counter.pid().unwrap(), ActorProcess::proxy(&counter))).unwrap();
    park_forever();
}

#[test]
fn an_actor_dies_with_the_process_that_started_it() {
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let builder = Process::builder(starts_an_actor).args((there,)).context(context);
            let process = builder.orphan(Orphan::Kill).start().unwrap();
            let (pid, proxy): (u32, CounterProxy) = here.recv().unwrap();
            assert_eq!(proxy.add(1).unwrap(), 1);
            kill9(process.pid() as i32);
            eventually("the actor is dead", || is_gone(pid as i32));
            // Who did not start it cannot know how it ended.
            assert_eq!(death(proxy.add(1)), None);
            process.join().unwrap();
        }
    });
}

fn must_be_wire<T: Wire>() {}

#[test]
fn the_error_of_methods_without_one_can_travel() {
    must_be_wire::<NoError>();
}
