//! Forks of a process in which everything of this library is busy, and what stands in their way.
//!
//! `PROCESSION_LONG=1` forks 10,000 times.

use std::{
    io, process,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use procession::{
    ActorProcess, ChildSpec, Context, ErrorKind, Pool, Process, Restart, StartMethod, Supervisor,
    active_children,
};
use tracing::info;

use crate::actor::{Counter, CounterProxy};
use crate::family::{contexts, run};
use crate::support::{Options, amount, eventually, isolated, isolated_with};

/// Each copy must find all locks free that it needs: for processes, pools, supervisors, actors, for printing and logging.
fn use_everything(round: usize, counter: &CounterProxy) -> usize {
    assert!(active_children().is_empty());
    info!(round, "in a copy");
    counter.add(1).unwrap();
    let brief = Process::builder(|x: usize| x + 1).args((round,)).context(&contexts()[round % 3]);
    let next = brief.start().unwrap().result().unwrap();
    if round.is_multiple_of(10) {
        let pool = Pool::builder().processes(1).context(&Context::new(StartMethod::Fork)).start().unwrap();
        assert_eq!(pool.map(|x: u64| x * x, [2, 3]).unwrap(), [4, 9]);
        let tree = Supervisor::builder().context(&Context::new(StartMethod::Fork));
        drop(tree.child(ChildSpec::process("a", || (), ()).restart(Restart::Temporary)).start().unwrap());
    }
    next - 1
}

/// D7: a copy that inherited a lock in the hands of another thread would hang. Pool, starts, restarts and calls go on
/// while the copies are made, on threads of ours and on threads of the program that are in the middle of our functions.
#[test]
fn copies_of_a_busy_process_find_every_lock_free() {
    let options = Options { watchdog: Duration::from_secs(amount(180, 3_000)), ..Options::default() };
    isolated_with(options, || {
        tracing_subscriber::fmt().with_writer(io::sink).init();
        let counter = ActorProcess::spawn(Counter::default()).unwrap();
        let (pool, proxy, done) =
            (Pool::new(2).unwrap(), ActorProcess::proxy(&counter), &AtomicBool::new(false));
        // It ends again and again.
        let restless = Supervisor::builder().intensity(u32::MAX, Duration::from_secs(1));
        let restless =
            restless.child(ChildSpec::process("restless", || info!("started again"), ())).start().unwrap();
        let rounds = amount(500, 10_000);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(pool.map(|x: u64| x + 1, 0..500).unwrap().len(), 500);
                }
            });
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let process = Process::spawn(|x: u8| x, (7,)).unwrap();
                    assert_eq!(process.result().unwrap(), 7);
                    restless.which_children().unwrap();
                }
            });
            for round in 0..rounds {
                let proxy = &proxy;
                let copy = Process::fork_builder(move || use_everything(round, proxy)).allow_threads();
                assert_eq!(copy.start().unwrap().result().unwrap(), round);
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(counter.total().unwrap(), i64::try_from(rounds).unwrap());
        restless.stop().unwrap();
    });
}

/// P16: what belongs to the parent alone says so in a copy, and dropping it there does nothing to it.
#[test]
fn supervisors_and_actors_of_the_parent_go_on_when_a_copy_drops_them() {
    isolated(|| {
        let tree = Supervisor::builder().child(ChildSpec::process("a", crate::family::park_forever, ()));
        let (tree, counter) = (tree.start().unwrap(), ActorProcess::spawn(Counter::default()).unwrap());
        let children = tree.which_children().unwrap();
        let mut held = Some((tree, counter));
        let copy = Process::fork_builder(|| {
            let (tree, counter) = held.take().unwrap();
            assert_eq!(counter.add(5).unwrap(), 5, "a proxy works everywhere");
            let errors = [tree.which_children().map(drop), tree.stop(), tree.join()];
            errors.map(|error| format!("{:?}", error.unwrap_err().kind()))
        });
        let kinds = copy.allow_threads().start().unwrap().result().unwrap();
        let creator = format!("creator: {}", process::id());
        assert!(kinds.iter().all(|kind| kind.contains("NotCreator") && kind.contains(&creator)), "{kinds:?}");
        let (tree, counter) = held.unwrap();
        assert_eq!((tree.which_children().unwrap(), counter.add(1).unwrap()), (children, 6));
        tree.stop().unwrap();
    });
}

/// Who keeps a fork waiting is named, and everything goes on.
#[test]
fn fork_that_waits_in_vain_says_for_what() {
    static IS_STUCK: AtomicBool = AtomicBool::new(false);
    static MAY_GO: AtomicBool = AtomicBool::new(false);
    /// A subscriber that stands still when it is told of something.
    fn stand_still() -> io::Sink {
        IS_STUCK.store(true, Ordering::Relaxed);
        eventually("it may go on", || MAY_GO.load(Ordering::Relaxed));
        io::sink()
    }
    isolated(|| {
        tracing_subscriber::fmt().with_writer(stand_still).init();
        let speaker = Process::spawn(|| info!("here"), ()).unwrap();
        eventually("the subscriber stands still", || IS_STUCK.load(Ordering::Relaxed));
        let context = Context::new(StartMethod::Fork).allow_threads();
        let error = context.spawn(|| (), ()).unwrap_err();
        let ErrorKind::Quiesce { what, after } = error.kind() else { panic!("{error:?}") };
        assert_eq!((*what, after.as_secs()), ("the subscriber that gets the log of children", 5));
        assert!(error.to_string().contains(what), "{error}");
        MAY_GO.store(true, Ordering::Relaxed);
        run(&context, || (), ());
        speaker.join().unwrap();
    });
}
