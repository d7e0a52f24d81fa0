//! The pool actor: replaces workers that ended, and ends the pool.
//!
//! It sees each worker through the process actor that it is linked to, and settles their ends (see `dispatch`). A worker
//! that did some work is replaced without further ado. One that ended before it did anything counts against the restart
//! intensity, as does one that could not be started; when that is exceeded, or when so many follow each other however slowly, the
//! pool is *broken*: every task fails with the story of the last worker.

use super::dispatch::{Phase, Seat, Settled, Shared};
use super::lane::Lane;
use super::worker::{self, Initializer};
use crate::process::{Options, ProcessActor, SIGKILL, SIGTERM, Watched, start_unwatched};
use crate::supervisor::intensity::{History, Intensity, Verdict};
use crate::{Error, Result};
use procession_ipc::child::{Child, ExitStatus};
use procession_ipc::start::{Apart, Border, StartMethod};
use procession_ipc::stream::Stream;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long terminated workers have before they are killed: 5 s, as OTP's default shutdown.
const GRACE: Duration = Duration::from_secs(5);

/// Ends without any work done are counted within this time: 5 s, as OTP's default period.
const PERIOD: Duration = Duration::from_secs(5);

/// How long the next try waits after a worker could not be started at all.
const PAUSE: Duration = Duration::from_millis(50);

/// What the pool's threads tell the actor.
#[derive(Debug)]
pub(super) enum Note {
    /// The stream of this worker ended, or carried garbage; its lane is in `wrecks`.
    StreamEnded(u64),
    /// The driver has left.
    DriverLeft,
    /// The pool was stopped.
    Stopped,
    /// The time that terminated workers had is over.
    GraceOver,
    /// Try again to start a worker.
    Hire,
}

/// How workers are started.
#[derive(Debug)]
pub(super) struct Hiring {
    pub(super) method: Option<StartMethod>,
    pub(super) allow_threads: bool,
    /// The memory of the workers, if it is not that of the family.
    pub(super) apart: Option<Apart>,
    pub(super) initializer: Option<Initializer>,
    pub(super) processes: usize,
}

impl Hiring {
    /// Starts a worker.
    pub(super) fn hire(&self, worker: u64) -> Result<(Seat, Lane)> {
        let (ours, theirs) = Stream::pair()?;
        let options = Options {
            method: self.method,
            allow_threads: self.allow_threads,
            name: Some(format!("PoolWorker-{worker}")),
            daemon: Some(true),
            armed: Some(true),
            apart: self.apart.clone(),
        };
        let initializer = self.initializer.as_ref().map(Initializer::duplicate).transpose()?;
        let args = (theirs, initializer, Border::of(self.apart.as_ref()));
        let started = start_unwatched(worker::run, &args, &options)?;
        let (child, stream) = (started.child, Arc::new(ours));
        let lane = Lane::new(worker, child.pid(), Arc::clone(&stream));
        Ok((Seat { child, stream, ended: None }, lane))
    }

    fn intensity(&self) -> Intensity {
        let workers = u32::try_from(self.processes).unwrap_or(u32::MAX / 4);
        Intensity { restarts: 8 + 2 * workers, period: PERIOD }
    }
}

/// The actor.
pub(super) struct PoolActor;

/// What it starts with.
pub(super) struct Start {
    pub(super) shared: Arc<Shared>,
    pub(super) hiring: Hiring,
    pub(super) children: Vec<(u64, Arc<Child>)>,
}

pub(super) struct Control {
    shared: Arc<Shared>,
    hiring: Hiring,
    next_worker: u64,
    watched: HashMap<ActorId, (u64, Arc<Child>)>,
    history: History,
    /// Workers that ended before they were ready or could not be started, with none that was ready in between: since when, and
    /// how many.
    stillborn: Option<(Instant, u32)>,
}

impl Actor for PoolActor {
    type Msg = Note;
    type State = Control;
    type Arguments = Start;

    async fn pre_start(&self, myself: ActorRef<Note>, start: Start) -> Result<Control, ActorProcessingErr> {
        let next_worker = start.children.len() as u64 + 1;
        let (shared, hiring, history) = (start.shared, start.hiring, History::default());
        let mut control =
            Control { shared, hiring, next_worker, watched: HashMap::new(), history, stillborn: None };
        for (worker, child) in start.children {
            control.watch(&myself, worker, child).await?;
        }
        Ok(control)
    }

    async fn handle(
        &self,
        myself: ActorRef<Note>,
        note: Note,
        control: &mut Control,
    ) -> Result<(), ActorProcessingErr> {
        match note {
            Note::StreamEnded(worker) => control.stream_ended(&myself, worker).await,
            Note::Hire => control.hire(&myself).await,
            Note::DriverLeft => control.driver_left(),
            Note::Stopped => drop(myself.send_after(GRACE, || Note::GraceOver)),
            Note::GraceOver => control.shared.signal_workers(SIGKILL),
        }
        control.stop_if_done(&myself);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Note>,
        event: SupervisionEvent,
        control: &mut Control,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorTerminated(who, ..) | SupervisionEvent::ActorFailed(who, _) = event {
            control.process_ended(&myself, who.get_id()).await;
            control.stop_if_done(&myself);
        }
        Ok(())
    }
}

impl Control {
    async fn watch(&mut self, myself: &ActorRef<Note>, worker: u64, child: Arc<Child>) -> Result<()> {
        let watched = Watched(Arc::clone(&child));
        let (actor, _) = Actor::spawn_linked(None, ProcessActor, watched, myself.get_cell())
            .await
            .map_err(|error| Error::Runtime(error.to_string()))?;
        self.watched.insert(actor.get_id(), (worker, child));
        Ok(())
    }

    async fn process_ended(&mut self, myself: &ActorRef<Note>, actor: ActorId) {
        let Some((worker, child)) = self.watched.remove(&actor) else { return };
        let status = match child.try_wait() {
            Ok(Some(status)) => status,
            // The watch itself failed: the worker must not live on unseen.
            Ok(None) | Err(_) => {
                let _ = child.signal(SIGKILL);
                ExitStatus::Unknown { why: "its process could not be watched" }
            }
        };
        let settled = {
            let mut state = self.shared.lock();
            state.note_end(worker, status);
            state.settle(worker)
        };
        self.after(myself, settled).await;
    }

    async fn stream_ended(&mut self, myself: &ActorRef<Note>, worker: u64) {
        let settled = {
            let mut state = self.shared.lock();
            if let Some(seat) = state.seats.get(&worker) {
                // Dead already, or sending garbage.
                let _ = seat.child.signal(SIGKILL);
            }
            state.settle(worker)
        };
        self.after(myself, settled).await;
    }

    /// Ends that came before the driver's own were waiting for it.
    fn driver_left(&self) {
        let mut state = self.shared.lock();
        let ended: Vec<u64> =
            state.seats.iter().filter(|(_, seat)| seat.ended.is_some()).map(|(&worker, _)| worker).collect();
        for worker in ended {
            state.settle(worker);
        }
    }

    async fn after(&mut self, myself: &ActorRef<Note>, settled: Option<Settled>) {
        let Some(settled) = settled else { return };
        if self.is_over(&settled) {
            return;
        }
        let needed = {
            let state = self.shared.lock();
            match state.phase {
                Phase::Open => true,
                Phase::Closing => !state.driver_left,
                Phase::Stopped(_) => false,
            }
        };
        if needed {
            self.hire(myself).await;
        }
    }

    /// Counts an end, or a worker that could not be started; `true` when it was one too many.
    fn is_over(&mut self, settled: &Settled) -> bool {
        self.is_hopeless(settled) || settled.unproven && self.give_up(&settled.story)
    }

    /// Counts workers that end before they are ready, however slowly: `true` when no more than that ever comes.
    fn is_hopeless(&mut self, settled: &Settled) -> bool {
        if !settled.stillborn {
            self.stillborn = None;
            return false;
        }
        let (since, count) = self.stillborn.map_or((Instant::now(), 1), |(since, count)| (since, count + 1));
        self.stillborn = Some((since, count));
        if count <= self.hiring.intensity().restarts {
            return false;
        }
        self.break_up(count, since.elapsed(), &settled.story);
        true
    }

    /// Counts an end without any work; `true` when it was one too many.
    fn give_up(&mut self, story: &str) -> bool {
        let intensity = self.hiring.intensity();
        if intensity.judge(&mut self.history, Instant::now()) == Verdict::Restart {
            return false;
        }
        self.break_up(intensity.restarts + 1, intensity.period, story);
        true
    }

    fn break_up(&self, restarts: u32, period: Duration, story: &str) {
        self.shared.stop(Some(Error::PoolBroken { restarts, period, last: story.to_owned() }));
        self.shared.signal_workers(SIGKILL);
    }

    async fn hire(&mut self, myself: &ActorRef<Note>) {
        let worker = self.next_worker;
        self.next_worker += 1;
        let (seat, lane) = match self.hiring.hire(worker) {
            Ok(hired) => hired,
            Err(error) => {
                let story = format!("could not be started: {error}");
                if !self.is_over(&Settled { unproven: true, stillborn: true, story }) {
                    drop(myself.send_after(PAUSE, || Note::Hire));
                }
                return;
            }
        };
        let child = Arc::clone(&seat.child);
        {
            let mut state = self.shared.lock();
            if matches!(state.phase, Phase::Stopped(_)) || state.driver_left {
                // It comes too late: nobody will give it a task, or end its stream.
                let _ = child.signal(SIGKILL);
            }
            state.seats.insert(worker, seat);
            state.idle.push(lane);
            self.shared.wake_driver(&mut state);
        }
        tracing::info!(
            target: "procession::pool", name = child.name(), pid = child.pid(), "worker replaced"
        );
        if self.watch(myself, worker, Arc::clone(&child)).await.is_err() {
            let _ = child.signal(SIGKILL);
            let mut state = self.shared.lock();
            state.note_end(worker, ExitStatus::Unknown { why: "its process could not be watched" });
            state.settle(worker);
            drop(state);
            if !self.give_up("could not be watched") {
                drop(myself.send_after(PAUSE, || Note::Hire));
            }
        }
    }

    fn stop_if_done(&self, myself: &ActorRef<Note>) {
        let state = self.shared.lock();
        let done = state.driver_left && state.seats.is_empty() && !matches!(state.phase, Phase::Open);
        drop(state);
        if done {
            self.shared.notify_end();
            myself.stop(None);
        }
    }
}

impl Shared {
    /// Sends a signal to every worker that has not ended.
    pub(super) fn signal_workers(&self, signal: i32) {
        for seat in self.lock().seats.values() {
            // A worker that cannot be signalled has ended or changed its user; its lifeline ends it with us.
            let _ = seat.child.signal(signal);
        }
    }

    /// Stops the pool and asks its workers to end.
    pub(super) fn terminate(&self) {
        self.stop(None);
        self.signal_workers(SIGTERM);
    }
}
