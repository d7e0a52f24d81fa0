//! Too much, too slow, too late: what a log may cost, and what it must not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};

use procession::{Connection, LevelFilter, Orphan, Process, pipe};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, info, info_span};

use super::collector;
use crate::family::{Memory, contexts, leave_mark, park_forever, run, start};
use crate::support::{eventually, is_gone, isolated, kill9, own_pid};

/// Counts events, and stands still while it is told to.
struct Counting;

static EVENTS: AtomicU64 = AtomicU64::new(0);
static LOST: AtomicU64 = AtomicU64::new(0);
static IS_STANDING: Mutex<bool> = Mutex::new(false);
static MOVED: Condvar = Condvar::new();

fn stand_still(is_standing: bool) {
    *IS_STANDING.lock().unwrap() = is_standing;
    MOVED.notify_all();
}

struct Lost;

impl Visit for Lost {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "lost" {
            LOST.fetch_add(value, Ordering::Relaxed);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl Subscriber for Counting {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= LevelFilter::INFO
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn event(&self, event: &Event<'_>) {
        let standing = IS_STANDING.lock().unwrap();
        drop(MOVED.wait_while(standing, |is_standing| *is_standing).unwrap());
        match event.metadata().target() {
            "burst" => drop(EVENTS.fetch_add(1, Ordering::Relaxed)),
            "procession::log" => event.record(&mut Lost),
            _ => {}
        }
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn burst(count: u64) {
    for number in 0..count {
        info!(target: "burst", number, "one of many");
    }
}

#[test]
fn every_event_of_a_burst_is_seen_or_counted_as_lost() {
    const BURST: u64 = 100_000;
    isolated(|| {
        tracing::subscriber::set_global_default(Counting).unwrap();
        for context in &contexts() {
            run(context, burst, (BURST,));
            let (seen, lost) = (EVENTS.swap(0, Ordering::Relaxed), LOST.swap(0, Ordering::Relaxed));
            assert_eq!(seen + lost, BURST, "{seen} seen, {lost} lost");
            assert!(seen > 0);
        }
    });
}

#[test]
fn a_subscriber_that_stands_still_stops_neither_child_nor_join() {
    const BURST: u64 = 20_000;
    isolated(|| {
        tracing::subscriber::set_global_default(Counting).unwrap();
        for context in &contexts() {
            stand_still(true);
            let process = start(context, burst, (BURST,));
            process.join().unwrap();
            assert_eq!(process.exitcode(), Some(0));
            assert_eq!(EVENTS.load(Ordering::Relaxed), 0);
            stand_still(false);
            eventually("it moves again", || EVENTS.load(Ordering::Relaxed) > 0);
            run(context, || (), ());
            let seen = EVENTS.swap(0, Ordering::Relaxed);
            assert!(seen > 1, "what lay in the socket was not lost");
            assert!(seen < BURST, "the socket is bounded");
            LOST.store(0, Ordering::Relaxed);
        }
    });
}

#[test]
fn lost_events_are_told_by_the_process_that_lost_them() {
    fn child(go_on: Connection) {
        burst(20_000);
        go_on.send(&()).unwrap();
        go_on.recv::<()>().unwrap();
        burst(1);
    }
    isolated(|| {
        tracing::subscriber::set_global_default(Counting).unwrap();
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            stand_still(true);
            let process = start(context, child, (there,));
            here.recv::<()>().unwrap();
            stand_still(false);
            eventually("the socket is empty", || {
                let before = EVENTS.load(Ordering::Relaxed);
                std::thread::yield_now();
                before > 0 && EVENTS.load(Ordering::Relaxed) == before
            });
            here.send(&()).unwrap();
            process.result().unwrap();
            let (seen, lost) = (EVENTS.swap(0, Ordering::Relaxed), LOST.swap(0, Ordering::Relaxed));
            assert!(lost > 0);
            assert_eq!(seen + lost, 20_001);
        }
    });
}

#[test]
fn huge_values_are_cut_and_marked() {
    isolated(|| {
        collector::listen(LevelFilter::INFO);
        for context in &contexts() {
            let child = || info!(text = "x".repeat(10 << 20).as_str(), "m{}", "y".repeat(10 << 20));
            run(context, child, ());
            let [event] = collector::take_events().try_into().unwrap();
            let all: usize = event.fields.values().map(String::len).sum();
            assert!(all < 10_000, "{all}");
            assert!(event.fields.values().any(|value| value.ends_with("(cut)")));
        }
    });
}

#[test]
fn names_that_are_too_long_for_a_message_are_counted_as_lost() {
    isolated(|| {
        tracing::subscriber::set_global_default(Counting).unwrap();
        for context in &contexts() {
            let name = "n".repeat(1 << 20);
            let process = Process::builder(burst).args((3,)).context(context).name(name).start().unwrap();
            process.join().unwrap();
            assert_eq!(EVENTS.swap(0, Ordering::Relaxed), 3, "a long name of a process is cut");
        }
    });
}

static IS_PANICKING: AtomicBool = AtomicBool::new(true);

#[test]
fn a_subscriber_that_panics_costs_one_event() {
    struct Panicking;
    impl<S: Subscriber> tracing_subscriber::Layer<S> for Panicking {
        fn on_event(&self, _: &Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            let is_first = IS_PANICKING.swap(false, Ordering::Relaxed);
            assert!(!is_first, "as it was told");
            EVENTS.fetch_add(1, Ordering::Relaxed);
        }
    }
    isolated(|| {
        use tracing_subscriber::layer::SubscriberExt;
        let subscriber = tracing_subscriber::registry().with(LevelFilter::WARN).with(Panicking);
        tracing::subscriber::set_global_default(subscriber).unwrap();
        for context in &contexts() {
            IS_PANICKING.store(true, Ordering::Relaxed);
            run(context, || (0..3).for_each(|_| tracing::warn!("x")), ());
            assert_eq!(EVENTS.swap(0, Ordering::Relaxed), 2);
        }
    });
}

#[test]
fn a_subscriber_may_start_and_join_processes() {
    struct Starting;
    impl<S: Subscriber> tracing_subscriber::Layer<S> for Starting {
        fn on_event(&self, event: &Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            if event.metadata().target() == "start" {
                EVENTS.fetch_add(Process::spawn(|| 7_u64, ()).unwrap().result().unwrap(), Ordering::Relaxed);
            }
        }
    }
    isolated(|| {
        use tracing_subscriber::layer::SubscriberExt;
        let subscriber = tracing_subscriber::registry().with(LevelFilter::DEBUG).with(Starting);
        tracing::subscriber::set_global_default(subscriber).unwrap();
        for context in &contexts() {
            run(context, || info!(target: "start", "go"), ());
            assert_eq!(EVENTS.swap(0, Ordering::Relaxed), 7);
        }
    });
}

#[test]
fn a_child_that_outlives_its_parent_logs_into_nothing() {
    fn parent(memory: String, is_spawn: bool, here: Connection) {
        collector::listen(LevelFilter::INFO);
        let context = &contexts()[usize::from(!is_spawn)];
        let builder = Process::builder(orphan).args((memory, here)).context(context);
        let _orphan: Process = builder.daemon(false).orphan(Orphan::Keep).start().unwrap();
        park_forever();
    }
    fn orphan(memory: String, here: Connection) {
        let span = info_span!("life").entered();
        here.send(&own_pid()).unwrap();
        here.recv::<()>().unwrap();
        burst(10_000);
        drop(span);
        leave_mark(&memory);
    }
    isolated(|| {
        for is_spawn in [true, false] {
            let memory = Memory::new(if is_spawn { "spawned" } else { "forked" });
            let (here, there) = pipe().unwrap();
            let process = Process::spawn(parent, (memory.path(), is_spawn, there)).unwrap();
            let orphan: i32 = here.recv().unwrap();
            kill9(process.pid().cast_signed());
            process.join().unwrap();
            here.send(&()).unwrap();
            eventually("it is done", || is_gone(orphan));
            assert_eq!(memory.marks(), 1);
        }
    });
}

/// What is left in the socket when a program returns from `main` is heard by its subscriber.
#[test]
fn events_of_children_are_heard_at_the_end_of_the_program() {
    struct Marking(String);
    impl<S: Subscriber> tracing_subscriber::Layer<S> for Marking {
        fn on_event(&self, _: &Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
            leave_mark(&self.0);
        }
    }
    fn program(memory: String, is_spawn: bool) {
        use tracing_subscriber::layer::SubscriberExt;
        let subscriber = tracing_subscriber::registry().with(LevelFilter::WARN).with(Marking(memory));
        tracing::subscriber::set_global_default(subscriber).unwrap();
        let context = &contexts()[usize::from(!is_spawn)];
        // Neither joined nor kept.
        drop(start(context, || (0..50).for_each(|number| tracing::warn!(number, "late")), ()));
    }
    isolated(|| {
        for is_spawn in [true, false] {
            let memory = Memory::new(if is_spawn { "spawned" } else { "forked" });
            Process::spawn(program, (memory.path(), is_spawn)).unwrap().result().unwrap();
            assert_eq!(memory.marks(), 50);
        }
    });
}
