//! Actors and copies of a process that calls them: a copy has proxies, and neither calls in flight nor actors of its own.

use std::cell::RefCell;
use std::rc::Rc;

use procession::{ActorProcess, CallError, ErrorKind, Process, Wire};

use crate::actor::Counter;
use crate::actor_async::{block_on, gate};
use crate::support::isolated;

/// A copy of this process that runs `closure`, though the harness has a thread.
fn copy<R: Wire>(closure: impl FnOnce() -> R) -> R {
    Process::fork_builder(closure).allow_threads().start().unwrap().result().unwrap()
}

#[test]
fn a_copy_calls_over_a_connection_of_its_own() {
    isolated(|| {
        let counter = ActorProcess::spawn(Counter::default()).unwrap();
        let proxy = ActorProcess::proxy(&counter);
        assert_eq!(block_on(counter.add_async(1)).unwrap(), 1);
        for n in 0..10 {
            let in_flight = counter.add_async(1);
            let before = 1 + 3 * n;
            let last = copy(|| {
                proxy.add(1).unwrap();
                block_on(proxy.clone().add_async(1)).unwrap()
            });
            assert!(last == before + 2 || last == before + 3, "{last}");
            in_flight.wait().unwrap();
            assert_eq!(counter.total().unwrap(), before + 3);
        }
    });
}

#[test]
fn a_call_in_flight_belongs_to_who_made_it() {
    isolated(|| {
        let (gate, opener) = gate();
        assert_eq!(gate.pass(0).unwrap(), 1);
        let waits = Rc::new(RefCell::new(Some(gate.wait_async())));
        let copied = Rc::clone(&waits);
        let is_refused = copy(move || match copied.take().unwrap().wait() {
            Err(CallError::Unreachable(error)) => matches!(error.kind(), ErrorKind::NotCreator { .. }),
            other => panic!("{other:?}"),
        });
        assert!(is_refused);
        let given_up = Rc::clone(&waits);
        copy(move || drop(given_up.take()));
        opener.send(&()).unwrap();
        assert_eq!(waits.take().unwrap().wait().unwrap(), 2);
    });
}

#[test]
fn a_copy_stops_no_actor_of_its_parent() {
    isolated(|| {
        let counter = RefCell::new(Some(ActorProcess::spawn(Counter::default()).unwrap()));
        assert_eq!(counter.borrow().as_ref().unwrap().add(1).unwrap(), 1);
        let reason = copy(|| {
            let counter = counter.take().unwrap();
            assert_eq!(counter.add(1).unwrap(), 2);
            ActorProcess::stop(&counter);
            let refused = ActorProcess::process(&counter).kill().unwrap_err();
            drop(counter);
            refused.to_string()
        });
        assert!(!reason.is_empty());
        assert_eq!(counter.borrow().as_ref().unwrap().add(1).unwrap(), 3);
    });
}
