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

use super::job::Task;
use super::lane::Lane;
use crate::{Error, Result};
use procession_ipc::child::{Child, ExitStatus};
use procession_ipc::stream::{Stream, Wake};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Callers that feed many tasks wait while more than this many are queued.
const QUEUED_TASKS: usize = 64 * 1024;

/// Callers that feed many tasks wait while more than this many bytes are queued: 16 MiB.
const QUEUED_BYTES: usize = 16 << 20;

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
    pub(super) queue: VecDeque<Task>,
    queued_bytes: usize,
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
    state: Mutex<State>,
    /// The queue has room again.
    room: Condvar,
    /// Something that `join` waits for has happened.
    ended: Condvar,
    pub(super) wake: Wake,
}

/// What was found out about the end of a worker.
#[derive(Debug)]
pub(super) struct Settled {
    /// Whether it ended before it did anything.
    pub(super) unproven: bool,
    /// What to tell people, if it is the last straw.
    pub(super) story: String,
}

impl Shared {
    pub(super) fn new() -> Result<Self> {
        let state = State {
            phase: Phase::Open,
            queue: VecDeque::new(),
            queued_bytes: 0,
            idle: Vec::new(),
            seats: HashMap::new(),
            wrecks: HashMap::new(),
            leased: 0,
            driver_sleeps: false,
            driver_left: false,
        };
        Ok(Self { state: Mutex::new(state), room: Condvar::new(), ended: Condvar::new(), wake: Wake::new()? })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues tasks; waits for room first. Takes all of them or none.
    pub(super) fn submit(&self, tasks: &mut Vec<Task>) -> Result<()> {
        let mut state = self.lock();
        while state.is_full() && matches!(state.phase, Phase::Open) {
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.check_open()?;
        for task in tasks.drain(..) {
            state.queued_bytes += task.payload.bytes().len();
            state.queue.push_back(task);
        }
        self.wake_driver(&mut state);
        Ok(())
    }

    /// Queues one task.
    pub(super) fn submit_one(&self, task: Task) -> Result<()> {
        let mut state = self.lock();
        state.check_open()?;
        state.queued_bytes += task.payload.bytes().len();
        state.queue.push_back(task);
        self.wake_driver(&mut state);
        Ok(())
    }

    /// Wakes the driver if it sleeps.
    pub(super) fn wake_driver(&self, state: &mut State) {
        if std::mem::take(&mut state.driver_sleeps) {
            self.wake.wake();
        }
    }

    /// Takes an idle lane for a call on the caller's own thread, if nobody is queued before it.
    pub(super) fn lease(&self) -> Result<Option<Lane>> {
        let mut state = self.lock();
        state.check_open()?;
        if !state.queue.is_empty() {
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
        if !state.queue.is_empty() || !matches!(state.phase, Phase::Open) {
            self.wake_driver(&mut state);
        }
    }

    /// The stream of a leased lane has ended.
    pub(super) fn give_back_wreck(&self, lane: Lane) {
        let mut state = self.lock();
        state.leased -= 1;
        state.wrecks.insert(lane.worker, lane);
        self.wake_driver(&mut state);
    }

    /// Takes the next task for a lane. Tasks that nobody waits for are dropped here.
    pub(super) fn next_task(&self, state: &mut State) -> Option<Task> {
        let was_full = state.is_full();
        let task = loop {
            let Some(task) = state.queue.pop_front() else { break None };
            state.queued_bytes -= task.payload.bytes().len();
            if !task.job.is_cancelled() {
                break Some(task);
            }
        };
        if was_full && !state.is_full() {
            self.room.notify_all();
        }
        task
    }

    /// Stops the pool: everything that is queued fails now, the driver fails what is on its lanes.
    pub(super) fn stop(&self, reason: Option<Error>) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Stopped(_)) {
            return;
        }
        state.phase = Phase::Stopped(reason);
        state.queued_bytes = 0;
        for task in std::mem::take(&mut state.queue) {
            state.fail_stopped(&task, 0);
        }
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
    fn is_full(&self) -> bool {
        self.queue.len() > QUEUED_TASKS || self.queued_bytes > QUEUED_BYTES
    }

    fn check_open(&self) -> Result<()> {
        match &self.phase {
            Phase::Open => Ok(()),
            Phase::Closing | Phase::Stopped(None) => Err(Error::PoolClosed),
            Phase::Stopped(Some(reason)) => Err(reason.clone()),
        }
    }

    /// Whether work is left that needs a worker.
    pub(super) fn has_work(&self) -> bool {
        !self.queue.is_empty() || self.leased > 0 || !self.driver_left
    }

    /// Fails a task of a stopped pool.
    pub(super) fn fail_stopped(&self, task: &Task, pid: i32) {
        let reason = match &self.phase {
            Phase::Stopped(Some(reason)) => reason.clone(),
            _ => Error::PoolTerminated { task: task.job.task },
        };
        task.job.fail(task.place, pid, reason);
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
            return Some(Settled { unproven: false, story: status.to_string() });
        };
        let unproven = !lane.is_proven();
        let story =
            lane.refusal().map_or_else(|| status.to_string(), |failure| format!("{status}: {failure}"));
        let wreck = lane.wreck();
        if stopped {
            wreck.lost.iter().chain(&wreck.untouched).for_each(|task| self.fail_stopped(task, lane.pid));
            return Some(Settled { unproven, story });
        }
        // In reverse, since each goes to the front: the order of the tasks is kept.
        for task in wreck.untouched.into_iter().rev() {
            self.put_back(task);
        }
        for mut task in wreck.lost.into_iter().rev() {
            if task.retries > 0 {
                task.retries -= 1;
                self.put_back(task);
            } else {
                let (job, index, pid) = (&task.job, task.place.first, lane.pid);
                job.fail(task.place, pid, Error::WorkerLost { task: job.task, index, pid, status });
            }
        }
        Some(Settled { unproven, story })
    }

    fn put_back(&mut self, task: Task) {
        self.queued_bytes += task.payload.bytes().len();
        self.queue.push_front(task);
    }
}
