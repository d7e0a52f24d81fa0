//! What methods of an actor may do in its process: all that any process may.

use std::sync::Mutex;
use std::thread;

use nix::unistd::{getpid, gettid};
use procession::{ActorProcess, CallError, ChildSpec, ErrorKind, Pool, Process, Supervisor, current_process};
use serde::{Deserialize, Serialize};

use crate::family::{Death, contexts, die, park_forever};
use crate::support::{eventually, is_gone, isolated};

/// Has a pool and a supervisor. Its factory runs in the process of the actor.
struct Boss {
    pool: Pool,
    tree: Supervisor,
}

fn double(x: u64) -> u64 {
    x * 2
}

fn die_by_kill(_: u64) -> u64 {
    die(Death::KILL)
}

#[procession::actor]
impl Boss {
    fn new() -> Self {
        let tree = Supervisor::builder().child(ChildSpec::process("child", park_forever, ()));
        Self { pool: Pool::new(2).unwrap(), tree: tree.start().unwrap() }
    }

    pub fn map(&mut self, n: u64) -> Vec<u64> {
        self.pool.map(double, 0..n).unwrap()
    }

    pub fn lose_a_worker(&mut self) -> bool {
        let error = self.pool.apply(die_by_kill, (1,)).unwrap_err();
        matches!(error.kind(), ErrorKind::WorkerLost { .. })
    }

    pub fn process(&self, n: u64) -> u64 {
        Process::spawn(double, (n,)).unwrap().result().unwrap()
    }

    /// By a copy of a plain function; a closure is refused.
    pub fn copies(&self, n: u64) -> (u64, bool) {
        let context = procession::Context::new(procession::StartMethod::Fork).allow_threads();
        let refused = Process::fork(|| n).unwrap_err();
        let is_refused = matches!(refused.kind(), ErrorKind::NotSupported { .. });
        (context.spawn(double, (n,)).unwrap().result().unwrap(), is_refused)
    }

    pub fn child(&self) -> u32 {
        self.tree.which_children().unwrap()[0].pid.unwrap()
    }

    pub fn thread(&self) -> (String, bool) {
        let name = current_process().name().to_owned();
        (name, gettid() == getpid())
    }
}

#[test]
fn a_method_may_wait_for_processes_pools_and_supervisors_of_its_own() {
    isolated(|| {
        for context in &contexts() {
            let boss =
                ActorProcess::builder_with(Boss::new, ()).context(context).name("boss").start().unwrap();
            assert_eq!(boss.process(21).unwrap(), 42);
            assert_eq!(boss.copies(4).unwrap(), (8, true));
            assert_eq!(boss.map(4).unwrap(), [0, 2, 4, 6]);
            assert!(boss.lose_a_worker().unwrap());
            assert_eq!(boss.map(3).unwrap(), [0, 2, 4]);
            assert_eq!(boss.thread().unwrap(), ("boss".to_owned(), true));
            let child = boss.child().unwrap().try_into().unwrap();
            ActorProcess::stop(&boss);
            ActorProcess::process(&boss).join().unwrap();
            assert_eq!(ActorProcess::process(&boss).exitcode(), Some(0));
            eventually("its children end with it", || is_gone(child));
        }
    });
}

#[derive(Debug, Serialize, Deserialize)]
struct Tokio;

#[procession::actor]
impl Tokio {
    /// As libraries do that hide a runtime behind functions that block.
    pub fn blocks_on_a_runtime_of_its_own(&self) -> u8 {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { 7 })
    }
}

#[test]
fn a_method_may_use_a_library_that_starts_a_runtime() {
    isolated(|| {
        let actor = ActorProcess::spawn(Tokio).unwrap();
        assert_eq!(actor.blocks_on_a_runtime_of_its_own().unwrap(), 7);
    });
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Narcissus {
    count: u32,
    own: Option<NarcissusProxy>,
    #[serde(skip)]
    later: Mutex<Option<thread::JoinHandle<u32>>>,
}

#[procession::actor]
impl Narcissus {
    pub fn know(&mut self, own: NarcissusProxy) {
        self.own = Some(own);
    }

    pub fn count(&mut self) -> u32 {
        self.count += 1;
        self.count
    }

    pub fn seen(&self) -> u32 {
        self.count
    }

    pub fn asks_itself(&self) -> String {
        let own = self.own.as_ref().unwrap();
        format!("{:?} {:?}", own.count(), own.count_async().wait())
    }

    pub async fn awaits_itself(&self) -> bool {
        let own = self.own.clone().unwrap();
        matches!(own.count_async().await, Err(CallError::OwnActor { .. }))
    }

    /// Somebody else may wait.
    pub fn asks_later(&self) {
        let own = self.own.clone().unwrap();
        *self.later.lock().unwrap() = Some(thread::spawn(move || own.count().unwrap()));
    }

    pub fn asked_later(&self) -> u32 {
        self.later.lock().unwrap().take().unwrap().join().unwrap()
    }
}

#[test]
fn a_method_that_would_wait_for_itself_is_told_so() {
    isolated(|| {
        let actor = ActorProcess::spawn(Narcissus::default()).unwrap();
        actor.know(ActorProcess::proxy(&actor)).unwrap();
        let told = r#"Err(OwnActor { method: "Narcissus::count" })"#;
        assert_eq!(actor.asks_itself().unwrap(), format!("{told} {told}"));
        assert!(actor.awaits_itself().unwrap());
        // The blocking call was not made, the other two were.
        eventually("the calls that were made are carried out", || actor.seen().unwrap() == 2);
        actor.asks_later().unwrap();
        eventually("the thread's call is carried out", || actor.seen().unwrap() == 3);
        assert_eq!(actor.asked_later().unwrap(), 3);
    });
}
