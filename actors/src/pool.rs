//! The pool: worker processes that call functions for this one.
//!
//! ```text
//! caller                 driver thread                     worker process
//! ------------------     -----------------------------     -------------------
//! verbs: chunk, encode -> queue -> lane: window, frames -> read, call, reply
//! decode <- job         <------------------- replies    <-
//!                         pool actor: replaces workers that end
//! ```
//!
//! Each worker has a socket of its own, so a worker that dies takes nothing with it but what was on its lane, and the pool
//! knows what that was. A single call (`apply`) with a worker idle leases its lane and does not pass through any thread.
//! See the modules: `frame` (bytes), `job` (what a caller waits for), `lane` (one worker's tasks), `dispatch` (who has
//! which task), `driver`, `control` (the actor), `worker` (the other side), `chunk` and `gather` (items in, items out).

mod chunk;
mod control;
mod dispatch;
mod driver;
mod frame;
mod gather;
mod job;
mod lane;
mod mirror;
mod outbox;
mod verbs;
mod worker;

pub use gather::Imap;
pub use verbs::{CallOptions, Pending};

use crate::runtime;
use crate::{Error, Result};
use control::{Hiring, Note, PoolActor, Start};
use dispatch::{Phase, Shared};
use procession_ipc::gate;
use procession_ipc::start::target::TaskTarget;
use procession_ipc::start::{Apart, Border, StartMethod, method};
use ractor::ActorRef;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use worker::Initializer;

/// What a pool is to people.
const POOL: &str = "the pool";

/// How a pool shall be.
#[derive(Debug, Default)]
pub struct PoolOptions {
    /// Number of workers; `None`: as many as this process may use processors.
    pub processes: Option<usize>,
    /// Start method of the workers; `None` is the default method.
    pub method: Option<StartMethod>,
    /// Whether `fork` may leave threads behind that are not ours.
    pub allow_threads: bool,
    /// Whether the workers have memory of their own in place of that of the family.
    pub isolated: bool,
    initializer: Option<Initializer>,
}

impl PoolOptions {
    /// Has each worker call `f(args)` before its first task.
    ///
    /// # Errors
    ///
    /// Arguments that cannot travel.
    pub fn set_initializer<F, A, M>(&mut self, f: F, args: &A) -> Result<()>
    where
        F: TaskTarget<A, M, Output = ()>,
    {
        self.initializer = Some(Initializer::new(f, args)?);
        Ok(())
    }
}

/// A pool of worker processes. Dropping it terminates it.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
    actor: ActorRef<Note>,
    driver: Mutex<Option<JoinHandle<()>>>,
    processes: usize,
    /// What lies between callers and workers.
    border: Border,
}

impl Pool {
    /// Starts all workers. If one cannot be started, those before it are ended.
    ///
    /// # Errors
    ///
    /// [`Error::Zero`] for no processes; a process, thread or descriptor that is not to be had.
    pub fn new(options: PoolOptions) -> Result<Self> {
        let processes = match options.processes {
            Some(0) => return Err(Error::Zero { what: "number of processes" }),
            Some(processes) => processes,
            None => std::thread::available_parallelism().map_or(1, NonZero::get),
        };
        let PoolOptions { method, allow_threads, isolated, initializer, .. } = options;
        let apart = if isolated { Some(Apart::new()?) } else { None };
        let border = Border::of(apart.as_ref());
        let hiring = Hiring { method, allow_threads, apart, initializer, processes };
        let shared = Arc::new(Shared::new()?);
        let started = Self::hire_all(&shared, hiring).and_then(|start| runtime::spawn(PoolActor, start));
        let actor = started.inspect_err(|_| shared.terminate())?;
        let driver = Self::spawn_driver(&shared, &actor).inspect_err(|_| shared.terminate())?;
        Ok(Self { shared, actor, driver: Mutex::new(Some(driver)), processes, border })
    }

    fn hire_all(shared: &Arc<Shared>, mut hiring: Hiring) -> Result<Start> {
        let mut children = Vec::new();
        for worker in 1..=hiring.processes as u64 {
            let (seat, lane) = hiring.hire(worker)?;
            children.push((worker, Arc::clone(&seat.child)));
            let mut state = shared.lock();
            state.seats.insert(worker, seat);
            state.idle.push(lane);
        }
        if hiring.apart.is_some() {
            // By now it is known which default works. Whatever becomes of it, replacements shall not be copies of this process.
            hiring.method.get_or_insert_with(method::default);
        }
        Ok(Start { shared: Arc::clone(shared), hiring, children })
    }

    fn spawn_driver(shared: &Arc<Shared>, actor: &ActorRef<Note>) -> Result<JoinHandle<()>> {
        let (shared, actor) = (Arc::clone(shared), actor.clone());
        // An actor that is gone has settled everything: the pool has ended.
        let note = move |note| drop(actor.cast(note));
        let builder = std::thread::Builder::new().name("procession-pool".to_owned());
        gate::spawn(builder, move |passage| driver::run_guarded(&shared, &note, passage))
            .map_err(|error| Error::Runtime(format!("cannot start a pool's driver: {error}")))
    }

    /// How many workers there are, and what lies between callers and them.
    fn crew(&self) -> (usize, Border) {
        (self.processes, self.border)
    }

    /// Number of workers.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.processes
    }

    /// Process ids of the workers that are alive now, in no order; none in a copy of the process that made the pool.
    #[must_use]
    pub fn worker_pids(&self) -> Vec<i32> {
        if !self.shared.origin.is_here() {
            return Vec::new();
        }
        self.shared
            .lock()
            .seats
            .values()
            .filter(|seat| seat.ended.is_none())
            .map(|seat| seat.child.pid())
            .collect()
    }

    /// Takes no more tasks; the workers end when all that were taken are done. Nothing happens in a copy of the process that
    /// made the pool.
    pub fn close(&self) {
        if !self.shared.origin.is_here() {
            return;
        }
        let mut state = self.shared.lock();
        if matches!(state.phase, Phase::Open) {
            state.phase = Phase::Closing;
            self.shared.wake_driver(&mut state);
        }
    }

    /// Ends the workers now (SIGTERM, and SIGKILL 5 s later); every task without a result fails.
    pub fn terminate(&self) {
        if !self.shared.origin.is_here() {
            return;
        }
        self.shared.terminate();
        let _ = self.actor.cast(Note::Stopped);
    }

    /// Waits until every worker has ended.
    ///
    /// # Errors
    ///
    /// [`Error::PoolRunning`] before `close` or `terminate`; a copy of the process that made the pool.
    pub fn join(&self) -> Result<()> {
        self.shared.origin.check(POOL)?;
        self.shared.wait_end()?;
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(driver) = driver {
            // Its panics were caught and told.
            let _ = driver.join();
        }
        procession_ipc::log::settle();
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.terminate();
    }
}
