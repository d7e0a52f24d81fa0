//! Who has which task: the state that callers, the driver and the pool actor share.
//!
//! ```text
//! submit -> queue -> (driver) lane -> worker -> lane -> job
//!             ^                         |
//!             `---- untouched, retries -' a worker died: `settle`
//! ```
//!
//! Phases: *open* -> *closing* (no new tasks; ends when all are done) -> *ended*; or at any time -> *stopped* (terminated
//! or broken: each task that is left fails with the reason). Every task leaves this module exactly once, with results or
//! with an error.
//!
//! A worker's end has two sides, which may be seen in either order: its stream ended (whoever owns the lane puts it into
//! `wrecks`) and its process ended (the pool actor notes the status). Only when both are known is it settled: by then
//! everything that it wrote has been read.

use super::POOL;
use super::job::Bundle;
use super::lane::Lane;
use crate::{Error, Result};
use procession_ipc::child::{Child, ExitStatus};
use procession_ipc::gate::{self, Origin};
use procession_ipc::stream::{Stream, Wake};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Callers that feed many tasks wait while more than this many are queued.
const QUEUED_TASKS: usize = 8 * 1024;

/// Callers that feed many tasks wait while more than this many bytes are queued: 16 MiB.
const QUEUED_BYTES: usize = 16 << 20;

/// The driver takes no more from the queue while it has this many tasks that no lane has room for.
const DRIVER_TASKS: usize = 1024;

/// Where a pool is in its life.
#[derive(Debug, Clone)]
pub(super) enum Phase {
    /// Takes tasks.
    Open,
    /// Takes no more, but finishes those it has.
    Closing,
    /// Everything that is left fails; `None`: terminated, else the reason.
    Stopped(Option<Error>),
}

/// Whether a caller waits while the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// It waits: it feeds many tasks.
    Wait,
    /// It does not.
    None,
}

/// An amount of tasks.
#[derive(Debug, Clone, Copy, Default)]
struct Load {
    tasks: usize,
    bytes: usize,
}

impl Load {
    fn add(&mut self, bundle: &Bundle) {
        self.tasks += bundle.len();
        self.bytes += bundle.frames().len();
    }

    fn is_full(self) -> bool {
        self.tasks > QUEUED_TASKS || self.bytes > QUEUED_BYTES
    }
}

/// A worker process, until its end is settled.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) child: Arc<Child>,
    pub(super) stream: Arc<Stream>,
    /// How it ended, once it has.
    pub(super) ended: Option<ExitStatus>,
}

/// The state behind the lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// Tasks that the driver has not taken yet.
    queue: VecDeque<Bundle>,
    /// Tasks in `queue`, and their bytes.
    queued: Load,
    /// Tasks of dead workers: they come first.
    returned: VecDeque<Bundle>,
    /// Lanes without tasks, the most recently used last.
    pub(super) idle: Vec<Lane>,
    pub(super) seats: HashMap<u64, Seat>,
    /// Lanes whose stream has ended, by worker.
    pub(super) wrecks: HashMap<u64, Lane>,
    /// Lanes that callers have leased.
    pub(super) leased: usize,
    /// The driver waits, or is about to: it must be woken for news.
    pub(super) driver_sleeps: bool,
    /// The driver has left: no task is or will be on a lane of its.
    pub(super) driver_left: bool,
}

/// What callers, driver and actor share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Where all this happens: in a copy, nobody may even take the lock.
    pub(super) origin: Origin,
    state: Mutex<State>,
    /// The queue has room again.
    room: Condvar,
    /// Something that `join` waits for has happened.
    ended: Condvar,
    pub(super) wake: Wake,
}

/// Tasks that the driver has taken and no lane had room for.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bundles: VecDeque<Bundle>,
    tasks: usize,
}

impl Backlog {
    pub(super) fn tasks(&self) -> usize {
        self.tasks
    }

    fn push_front(&mut self, bundle: Bundle) {
        self.tasks += bundle.len();
        self.bundles.push_front(bundle);
    }

    fn append(&mut self, bundles: &mut VecDeque<Bundle>, tasks: usize) {
        self.tasks += tasks;
        self.bundles.append(bundles);
    }

    /// Takes the first tasks, at most `count` of them and all of one job. `None` when there are none, or when those were
    /// tasks that nobody waits for: they are dropped.
    pub(super) fn take(&mut self, count: usize) -> Option<Bundle> {
        let mut first = self.bundles.pop_front()?;
        if first.job.is_cancelled() {
            self.tasks -= first.len();
            return None;
        }
        if first.len() > count {
            let now = first.split_front(count);
            self.bundles.push_front(std::mem::replace(&mut first, now));
        }
        self.tasks -= first.len();
        Some(first)
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Bundle> {
        self.tasks = 0;
        self.bundles.drain(..)
    }
}

/// What was found out about the end of a worker, or about one that could not be started.
#[derive(Debug)]
pub(super) struct Settled {
    /// Whether it ended before it did anything.
    pub(super) unproven: bool,
    /// Whether it ended before it was ready for any.
    pub(super) stillborn: bool,
    /// What to tell people, if it is the last straw.
    pub(super) story: String,
}

impl Shared {
    pub(super) fn new() -> Result<Self> {
        let state = State {
            phase: Phase::Open,
            queue: VecDeque::new(),
            queued: Load::default(),
            returned: VecDeque::new(),
            idle: Vec::new(),
            seats: HashMap::new(),
            wrecks: HashMap::new(),
            leased: 0,
            driver_sleeps: false,
            driver_left: false,
        };
        let (room, ended) = (Condvar::new(), Condvar::new());
        Ok(Self { origin: Origin::here(), state: Mutex::new(state), room, ended, wake: Wake::new()? })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues tasks: all of them, or none; tasks that the pool refuses have the reason as their outcome too.
    pub(super) fn submit(&self, tasks: Bundle, patience: Patience) -> Result<()> {
        self.origin.check(POOL)?;
        let mut state = self.lock();
        while patience == Patience::Wait && state.is_crowded() {
            drop(state);
            self.wait_for_room();
            state = self.lock();
        }
        if let Err(refusal) = state.check_open() {
            tasks.fail(0, &refusal);
            return Err(refusal);
        }
        state.queued.add(&tasks);
        state.queue.push_back(tasks);
        self.wake_driver(&mut state);
        Ok(())
    }

    fn wait_for_room(&self) {
        let _rest = gate::rest();
        let crowded = |state: &mut State| state.is_crowded();
        let room = self.room.wait_while(self.lock(), crowded).unwrap_or_else(PoisonError::into_inner);
        drop(room);
    }

    /// Wakes the driver if it sleeps.
    pub(super) fn wake_driver(&self, state: &mut State) {
        if std::mem::take(&mut state.driver_sleeps) {
            self.wake.wake();
        }
    }

    /// Takes an idle lane for a call on the caller's own thread, if nobody is queued before it.
    pub(super) fn lease(&self) -> Result<Option<Lane>> {
        self.origin.check(POOL)?;
        let mut state = self.lock();
        state.check_open()?;
        if state.is_waiting() {
            return Ok(None);
        }
        let lane = state.idle.pop();
        state.leased += usize::from(lane.is_some());
        Ok(lane)
    }

    /// Gives a leased lane back.
    pub(super) fn give_back(&self, lane: Lane) {
        let mut state = self.lock();
        state.leased -= 1;
        state.idle.push(lane);
        if state.is_waiting() || !matches!(state.phase, Phase::Open) {
            self.wake_driver(&mut state);
        }
    }

    /// The stream of a leased lane has ended; `true` when the actor must be told.
    pub(super) fn give_back_wreck(&self, lane: Lane) -> bool {
        self.lock().leased -= 1;
        self.wrecked(lane)
    }

    /// Enters a lane whose stream has ended; `true` when the actor must be told, to settle it.
    ///
    /// A stopped pool waits for nobody: what was on the lane fails now.
    pub(super) fn wrecked(&self, mut lane: Lane) -> bool {
        let mut state = self.lock();
        let stopped = matches!(state.phase, Phase::Stopped(_));
        if stopped {
            state.fail_wreck(&mut lane);
        } else {
            state.wrecks.insert(lane.worker, lane);
        }
        self.wake_driver(&mut state);
        !stopped
    }

    /// Moves what is queued into the driver's own hands.
    pub(super) fn take_queue(&self, state: &mut State, into: &mut Backlog) {
        while let Some(bundle) = state.returned.pop_back() {
            into.push_front(bundle);
        }
        if into.tasks() < DRIVER_TASKS && !state.queue.is_empty() {
            let was_full = state.queued.is_full();
            into.append(&mut state.queue, state.queued.tasks);
            state.queued = Load::default();
            if was_full {
                self.room.notify_all();
            }
        }
    }

    /// Stops the pool: everything that is queued fails now, the driver fails what is on its lanes.
    pub(super) fn stop(&self, reason: Option<Error>) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Stopped(_)) {
            return;
        }
        state.phase = Phase::Stopped(reason);
        state.queued = Load::default();
        let (queue, returned) = (std::mem::take(&mut state.queue), std::mem::take(&mut state.returned));
        queue.iter().chain(&returned).for_each(|task| state.fail_stopped(task, 0));
        self.room.notify_all();
        self.ended.notify_all();
        self.wake_driver(&mut state);
    }

    /// Tells those who wait in [`wait_end`](Self::wait_end) to look again.
    pub(super) fn notify_end(&self) {
        self.ended.notify_all();
    }

    /// Waits until the driver has left and every worker has been reaped.
    pub(super) fn wait_end(&self) -> Result<()> {
        let _rest = gate::rest();
        let mut state = self.lock();
        if matches!(state.phase, Phase::Open) {
            return Err(Error::PoolRunning);
        }
        while !(state.driver_left && state.seats.is_empty()) {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

impl State {
    fn check_open(&self) -> Result<()> {
        match &self.phase {
            Phase::Open => Ok(()),
            Phase::Closing | Phase::Stopped(None) => Err(Error::PoolClosed),
            Phase::Stopped(Some(reason)) => Err(reason.clone()),
        }
    }

    /// Whether the pool takes tasks, but more than enough are queued.
    fn is_crowded(&self) -> bool {
        self.queued.is_full() && matches!(self.phase, Phase::Open)
    }

    /// Whether tasks wait for the driver.
    pub(super) fn is_waiting(&self) -> bool {
        !self.queue.is_empty() || !self.returned.is_empty()
    }

    /// Fails tasks of a stopped pool.
    pub(super) fn fail_stopped(&self, tasks: &Bundle, pid: i32) {
        let reason = match &self.phase {
            Phase::Stopped(Some(reason)) => reason.clone(),
            _ => Error::PoolTerminated { task: tasks.job.task },
        };
        tasks.fail(pid, &reason);
    }

    /// Fails everything on a lane of a stopped pool.
    pub(super) fn fail_wreck(&self, lane: &mut Lane) {
        let wreck = lane.wreck();
        wreck.lost.iter().chain(&wreck.untouched).for_each(|tasks| self.fail_stopped(tasks, lane.pid));
    }

    /// Notes that a worker's process has ended.
    pub(super) fn note_end(&mut self, worker: u64, status: ExitStatus) {
        if let Some(at) = self.idle.iter().position(|lane| lane.worker == worker) {
            let mut lane = self.idle.swap_remove(at);
            // Its last words: why it could not prepare itself.
            let _ = lane.receive();
            self.wrecks.insert(worker, lane);
        }
        if let Some(seat) = self.seats.get_mut(&worker) {
            seat.ended = Some(status);
            // Whoever owns the lane sees the end, also if a grandchild still holds the other side open.
            seat.stream.hang_up();
        }
    }

    /// Settles the end of a worker, if both sides of it are known: its tasks go back into the queue, or fail.
    pub(super) fn settle(&mut self, worker: u64) -> Option<Settled> {
        let status = self.seats.get(&worker)?.ended?;
        let stopped = matches!(self.phase, Phase::Stopped(_));
        let lane = self.wrecks.remove(&worker);
        if lane.is_none() && !stopped && !self.driver_left {
            return None;
        }
        self.seats.remove(&worker);
        let Some(mut lane) = lane else {
            return Some(Settled { unproven: false, stillborn: false, story: status.to_string() });
        };
        let (unproven, stillborn) = (!lane.is_proven(), !lane.is_ready());
        let story =
            lane.refusal().map_or_else(|| status.to_string(), |failure| format!("{status}: {failure}"));
        if stopped {
            self.fail_wreck(&mut lane);
            return Some(Settled { unproven, stillborn, story });
        }
        let wreck = lane.wreck();
        for mut bundle in wreck.lost {
            let (task, pid) = (bundle.job.task, lane.pid);
            match bundle.retries.checked_sub(1) {
                None => bundle.fail_each(pid, |index| Error::WorkerLost { task, index, pid, status }),
                Some(retries) => {
                    bundle.retries = retries;
                    self.returned.push_back(bundle);
                }
            }
        }
        self.returned.extend(wreck.untouched);
        Some(Settled { unproven, stillborn, story })
    }
}
