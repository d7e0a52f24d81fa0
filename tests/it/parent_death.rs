//! The parent is killed at any moment, or replaces itself, or unwinds: nothing that it had armed survives.
//!
//! `PROCESSION_LONG=1` kills twenty times as often.

use std::{
    collections::HashSet,
    fs,
    os::unix::process::{CommandExt, parent_id},
    panic::{AssertUnwindSafe, catch_unwind},
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use procession::{
    ChildSpec, Connection, Context, ErrorKind, Pool, Process, StartMethod, Strategy, Supervisor,
    SupervisorBuilder, pipe, start_method,
};
use serde::{Deserialize, Serialize};

use crate::family::{Death, contexts, die, park_forever, run, start};
use crate::supervisor::{HOUR, worker};
use crate::support::{
    Chance, Options, ProcessState, amount, descendants_of, eventually, is_gone, isolated, isolated_with,
    own_pid,
};

/// What the parent is about when it is killed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Life {
    /// It has children and a pool, and waits.
    Idle,
    /// It starts and kills children all the time.
    Starting,
    /// Its children have children, who start others all the time.
    Nested,
    /// Its pool is busy, and so are the pools of its workers.
    Pooling,
    /// It supervises supervisors, whose children end all the time.
    Supervising,
}

const LIVES: [Life; 5] = [Life::Idle, Life::Starting, Life::Nested, Life::Pooling, Life::Supervising];

/// Lives until it is killed. Each message says that something has happened.
fn live(life: Life, line: Connection) {
    match life {
        Life::Idle => {
            let children: Vec<Process> = (0..3).map(|_| daemon(park_forever, ())).collect();
            let pool = Pool::new(2).unwrap();
            busily(&line, || ());
            drop((children, pool));
        }
        Life::Starting => busily(&line, || daemon(park_forever, ()).kill().unwrap()),
        Life::Nested => {
            let child: Process = daemon(descend, (&line, 2_u32));
            park_forever();
            drop(child);
        }
        Life::Pooling => {
            let pools = [Pool::new(2).unwrap(), Pool::new(1).unwrap()];
            let nested = pools[1].apply_async(keep_a_pool_busy, ()).unwrap();
            busily(&line, || assert_eq!(pools[0].map(|x: u64| x + 1, 0..100).unwrap().len(), 100));
            drop(nested);
        }
        Life::Supervising => {
            let restless = |id: &str| ChildSpec::process(id, die, (Death::Exit(1),));
            let inner = tree().strategy(Strategy::OneForAll).child(worker("x")).child(restless("y"));
            let tree =
                tree().child(worker("a")).child(restless("b")).child(ChildSpec::supervisor("c", inner));
            let tree = tree.child(ChildSpec::new("d", || Doorman)).start().unwrap();
            let doorman = tree.proxy::<Doorman>("d").unwrap();
            busily(&line, || assert_eq!(doorman.greet().unwrap(), 7));
        }
    }
}

struct Doorman;

#[procession::actor]
impl Doorman {
    pub fn greet(&self) -> u32 {
        7
    }
}

/// Does something again and again, and says so.
fn busily(line: &Connection, mut act: impl FnMut()) {
    loop {
        act();
        if line.send(&()).is_err() {
            return park_forever();
        }
    }
}

fn daemon<F, A, M>(f: F, args: A) -> Process
where
    F: procession::Target<A, M, Output = ()>,
{
    Process::builder(f).args(args).daemon(true).start().unwrap()
}

fn descend(line: &Connection, generations: u32) {
    if generations == 0 {
        return busily(line, || drop(daemon(park_forever, ()).kill()));
    }
    let children: Vec<Process> = (0..2).map(|_| daemon(descend, (line, generations - 1))).collect();
    park_forever();
    drop(children);
}

fn keep_a_pool_busy() {
    let pool = Pool::new(2).unwrap();
    loop {
        pool.map(|x: u64| x + 1, 0..100).unwrap();
    }
}

fn tree() -> SupervisorBuilder {
    Supervisor::builder().intensity(u32::MAX, HOUR).context(&Context::new(start_method()))
}

/// Processes that descend from this test but not from this process: their parents are gone.
fn orphans() -> Vec<ProcessState> {
    let ours: HashSet<i32> = descendants_of(own_pid()).iter().map(|process| process.pid).collect();
    let mut all = descendants_of(parent_id().cast_signed());
    all.retain(|process| process.pid != own_pid() && process.state != 'Z' && !ours.contains(&process.pid));
    all
}

/// The long form takes minutes.
fn patient() -> Options {
    Options { watchdog: Duration::from_secs(amount(60, 900)), ..Options::default() }
}

/// FB1, FB2.
#[test]
fn nothing_armed_survives_a_parent_that_is_killed_at_any_moment() {
    isolated_with(patient(), || {
        let mut chance = Chance::new();
        for _ in 0..amount(4, 80) {
            for context in &contexts() {
                for life in LIVES {
                    let (here, there) = pipe().unwrap();
                    let head = start(context, live, (life, there));
                    for _ in 0..=chance.below(12) {
                        here.recv::<()>().unwrap();
                    }
                    thread::park_timeout(Duration::from_micros(chance.below(3_000)));
                    head.kill().unwrap();
                    head.join().unwrap();
                    eventually("nothing survives", || orphans().is_empty());
                    let end = std::iter::repeat_with(|| here.recv::<()>()).find_map(Result::err).unwrap();
                    assert!(matches!(end.kind(), ErrorKind::Disconnected), "{life:?}: {end}");
                }
            }
        }
    });
}

/// FB1: earlier than anything could be told.
#[test]
fn nothing_armed_survives_a_parent_that_is_killed_as_soon_as_it_is_there() {
    isolated_with(patient(), || {
        let mut chance = Chance::new();
        for _ in 0..amount(10, 200) {
            for context in &contexts() {
                for life in LIVES {
                    let (here, there) = pipe().unwrap();
                    let head = start(context, live, (life, there));
                    thread::park_timeout(Duration::from_micros(chance.below(10_000)));
                    head.kill().unwrap();
                    head.join().unwrap();
                    drop(here);
                }
            }
            eventually("nothing survives", || orphans().is_empty());
        }
    });
}

/// FB5: none of our code runs when another program takes the place of this one.
#[test]
fn pool_of_a_program_that_executes_another_is_gone() {
    fn become_another(line: Connection, program: String, argument: String) {
        let pool = Pool::new(2).unwrap();
        let busy = pool.apply_async(park_forever, ()).unwrap();
        let child = daemon(park_forever, ());
        let workers = pool.worker_pids().into_iter().chain([child.pid()]);
        line.send(&workers.map(u32::cast_signed).collect::<Vec<i32>>()).unwrap();
        let error = Command::new(program).arg(argument).exec();
        drop(busy);
        panic!("{error}");
    }
    isolated(|| {
        for context in &contexts() {
            for (program, goes_on) in [("sleep", true), ("true", false)] {
                let (here, there) = pipe().unwrap();
                let args = (there, program.to_owned(), "1000".to_owned());
                let head = start(context, become_another, args);
                let family: Vec<i32> = here.recv().unwrap();
                eventually("its workers are gone", || family.iter().all(|&pid| is_gone(pid)));
                assert!(matches!(here.recv::<u8>().unwrap_err().kind(), ErrorKind::Disconnected));
                if goes_on {
                    let name = fs::read_to_string(format!("/proc/{}/comm", head.pid())).unwrap();
                    assert_eq!(name.trim(), program);
                    head.kill().unwrap();
                }
                head.join().unwrap();
                assert_eq!(head.exitcode(), Some(if goes_on { -9 } else { 0 }));
            }
        }
    });
}

/// FB5.
#[test]
fn what_is_dropped_by_a_panic_leaves_nothing() {
    isolated(|| {
        for context in &contexts() {
            let mut family = Vec::new();
            let panicking = catch_unwind(AssertUnwindSafe(|| {
                let pool = Pool::builder().processes(2).context(context).start().unwrap();
                let tasks: Vec<_> = (0..10).map(|_| pool.apply_async(park_forever, ()).unwrap()).collect();
                let tree = Supervisor::builder().context(context).child(worker("a")).child(worker("b"));
                let tree = tree.start().unwrap();
                let children = tree.which_children().unwrap();
                let children = children.iter().filter_map(|child| child.pid);
                family.extend(pool.worker_pids().into_iter().chain(children).map(u32::cast_signed));
                assert!(tasks.is_empty(), "as it was told");
            }));
            assert!(panicking.is_err());
            assert_eq!(family.len(), 4);
            eventually("all are gone", || family.iter().all(|&pid| is_gone(pid)));
        }
    });
}

/// FE11: what the threads of the parent are doing at that moment is nothing to a child.
#[test]
fn children_start_while_64_threads_allocate_log_and_lock() {
    static LOCK: Mutex<Vec<String>> = Mutex::new(Vec::new());
    static DONE: AtomicBool = AtomicBool::new(false);
    fn work(n: usize) -> usize {
        let mut kept = LOCK.lock().unwrap();
        kept.push("x".repeat(n % 5_000));
        tracing::info!(n, "works");
        let _output = std::io::stdout().lock();
        if kept.len() > 100 {
            kept.clear();
        }
        n
    }
    isolated_with(patient(), || {
        tracing_subscriber::fmt().with_writer(std::io::sink).init();
        thread::scope(|scope| {
            for n in 0..64 {
                scope.spawn(move || {
                    while !DONE.load(Ordering::Relaxed) {
                        work(n);
                        thread::yield_now();
                    }
                });
            }
            for context in &contexts() {
                // A copy would have the locks of threads that it has not.
                if context.start_method() == StartMethod::Fork {
                    let refused = Context::new(StartMethod::Fork).spawn(work, (0,)).unwrap_err();
                    let ErrorKind::OtherThreads { count, .. } = refused.kind() else { panic!("{refused}") };
                    assert!(*count >= 64, "{refused}");
                    continue;
                }
                for n in 0..amount(20, 500) {
                    assert_eq!(run(context, work, (n,)), n);
                }
            }
            DONE.store(true, Ordering::Relaxed);
        });
    });
}
