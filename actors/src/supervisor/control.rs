//! The supervisor actor: does what the roster says, one step after the other, and listens in between.
//!
//! While it waits for a child to end, it hears nothing else, as OTP's supervisor; only this actor waits, not the thread that
//! it shares with others. What ended meanwhile is heard afterwards: each child is watched by a process actor that is linked
//! to this one.
//!
//! Invariants:
//! - a child of the roster is running exactly while it is in `watches`, between any two messages;
//! - news of a process that is not in `watches` any more are old, and ignored;
//! - a child that is an actor has a door while it runs or is being restarted, between any two messages;
//! - however this actor ends, `Shared` is told, and no process of its children is left.

use super::doors::Doors;
use super::living::Living;
use super::request::{Denial, Operation, Reply};
use super::spec::{ChildSpec, Shutdown, Start};
use super::state::{Body, Shared, State, info};
use super::strategy::{ChildState, Ending, Refusal, Step};
use crate::process::{Options, ProcessActor, SIGKILL, Watched};
use crate::{Error, Result};
use procession_ipc::start::StartMethod;
use ractor::concurrency::JoinHandle;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Instant;

/// Target of the log messages about supervision.
const TARGET: &str = "procession::supervisor";

/// What the actor is told.
#[derive(Debug)]
pub(super) enum Note {
    /// Start the children.
    Begin,
    /// Somebody asks for something.
    Ask(Box<Operation>, SyncSender<Reply>),
    /// Try again to restart this child.
    Retry(String),
    /// Stop everything.
    Stop,
}

/// What the actor starts with.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) shared: Arc<Shared>,
    pub(super) method: Option<StartMethod>,
    pub(super) allow_threads: bool,
}

/// The actor.
pub(super) struct SupervisorActor;

/// Its state.
pub(super) struct Control {
    setup: Setup,
    watches: HashMap<String, Watch>,
    doors: Doors,
    /// What happened to the child that had to be restarted last.
    last: Last,
}

/// Why a child has no process.
enum Last {
    Ended(String),
    NotStarted(String),
}

impl fmt::Display for Last {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(story) => f.write_str(story),
            Self::NotStarted(reason) => write!(f, "could not be started: {reason}"),
        }
    }
}

/// Who watches a process, and how to wait for its end.
struct Watch {
    actor: ActorId,
    ended: JoinHandle<()>,
}

impl Actor for SupervisorActor {
    type Msg = Note;
    type State = Control;
    type Arguments = Setup;

    async fn pre_start(&self, _: ActorRef<Note>, setup: Setup) -> Result<Control, ActorProcessingErr> {
        let last = Last::Ended(String::new());
        Ok(Control { setup, watches: HashMap::new(), doors: Doors::default(), last })
    }

    async fn handle(
        &self,
        myself: ActorRef<Note>,
        note: Note,
        control: &mut Control,
    ) -> Result<(), ActorProcessingErr> {
        match note {
            Note::Begin => {
                control.act(&myself).await;
                control.setup.shared.begin();
            }
            Note::Ask(operation, reply) => {
                let answer = control.answer(&myself, *operation).await;
                // Whoever asked may be gone.
                let _ = reply.send(answer);
            }
            Note::Retry(id) => {
                control.lock().roster.retry(&id, Instant::now());
                control.act(&myself).await;
            }
            Note::Stop => {
                control.lock().roster.stop();
                control.act(&myself).await;
            }
        }
        control.close_doors();
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Note>,
        event: SupervisionEvent,
        control: &mut Control,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorTerminated(who, ..) | SupervisionEvent::ActorFailed(who, _) = event {
            control.process_ended(who.get_id());
            control.act(&myself).await;
            control.close_doors();
        }
        Ok(())
    }
}

impl Control {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.setup.shared.lock()
    }

    /// Does all that is due.
    async fn act(&mut self, myself: &ActorRef<Note>) {
        loop {
            let step = self.lock().roster.next_step();
            match step {
                None => return,
                Some(Step::Stop(id)) => {
                    self.stop(&id).await;
                    self.lock().roster.stopped(&id);
                }
                Some(Step::Start(id)) => self.start_due(myself, &id).await,
                // To the end of the queue: requests have their turn between two tries.
                Some(Step::Retry(id)) => drop(myself.cast(Note::Retry(id))),
                Some(Step::Leave(ending)) => {
                    let outcome = self.outcome(ending);
                    if let Err(error) = &outcome {
                        tracing::error!(target: TARGET, %error, "supervisor gave up");
                    }
                    self.doors = Doors::default();
                    self.setup.shared.end(outcome);
                    myself.stop(None);
                }
            }
        }
    }

    /// Nobody waits for a child that has ended for good, or is forgotten.
    fn close_doors(&mut self) {
        let state = self.setup.shared.lock();
        let child = |id: &str| state.roster.get(id);
        self.doors.close_unless(|id| child(id).is_some_and(|child| child.state != ChildState::Stopped));
    }

    fn outcome(&self, ending: Ending) -> Result<()> {
        let intensity = self.lock().roster.flags().intensity;
        let last = self.last.to_string();
        match ending {
            Ending::Stopped | Ending::Significant { .. } => Ok(()),
            Ending::StartFailed { child } => {
                let (Last::Ended(reason) | Last::NotStarted(reason)) = &self.last;
                Err(Error::ChildNotStarted { id: child, reason: reason.clone() })
            }
            Ending::GaveUp { child } => Err(Error::IntensityExceeded {
                child,
                restarts: intensity.restarts,
                period: intensity.period,
                last,
            }),
        }
    }

    async fn start_due(&mut self, myself: &ActorRef<Note>, id: &str) {
        let Some(start) = self.lock().roster.get(id).map(|child| child.body.start.clone()) else { return };
        let started = self.start(myself, id, &start).await;
        let mut state = self.setup.shared.lock();
        match started {
            Ok(living) => {
                state.roster.started(id);
                if let Some(child) = state.roster.get_mut(id) {
                    child.body.living = Some(living);
                }
            }
            Err(error) => {
                tracing::warn!(target: TARGET, child = id, error, "child not started");
                self.last = Last::NotStarted(error);
                state.roster.start_failed(id);
            }
        }
    }

    /// Starts a process for a child, has it watched, and waits until it is ready. An error says why it is not.
    async fn start(
        &mut self,
        myself: &ActorRef<Note>,
        id: &str,
        start: &Start,
    ) -> Result<Arc<Living>, String> {
        let options = Options {
            method: self.setup.method,
            allow_threads: self.setup.allow_threads,
            name: Some(id.to_owned()),
            daemon: Some(true),
            armed: Some(true),
            apart: None,
        };
        let door = match start.place() {
            Some(place) => Some(self.doors.open(id, place.address).await.map_err(|e| e.to_string())?),
            None => None,
        };
        let living = Living::start(start, door, &options).map_err(|error| error.to_string())?;
        let living = Arc::new(living);
        let watched = Watched(Arc::clone(&living.child));
        let spawned = Actor::spawn_linked(None, ProcessActor, watched, myself.get_cell()).await;
        let (actor, mut ended) = spawned.map_err(|error| {
            // It must not live on unseen.
            let _ = living.child.signal(SIGKILL);
            error.to_string()
        })?;
        // So that it can be killed by whoever has no more patience.
        self.lock().newcomer = Some(Arc::clone(&living));
        let ready = living.wait_ready(&mut ended).await;
        self.lock().newcomer = None;
        ready?;
        self.watches.insert(id.to_owned(), Watch { actor: actor.get_id(), ended });
        Ok(living)
    }

    /// Stops the process of a child and waits for its end.
    async fn stop(&mut self, id: &str) {
        let found = self.lock().roster.get(id).and_then(|child| {
            let living = child.body.living.clone()?;
            Some((living, child.rules.shutdown))
        });
        let (Some((living, shutdown)), Some(watch)) = (found, self.watches.remove(id)) else { return };
        let mut ended = watch.ended;
        if shutdown != Shutdown::Kill {
            living.ask_to_end();
        }
        let in_time = match shutdown {
            Shutdown::Kill => false,
            Shutdown::After(time) => tokio::time::timeout(time, &mut ended).await.is_ok(),
            Shutdown::Unlimited => (&mut ended).await.is_ok(),
        };
        // For one that has ended, this does nothing; it also reaches one whose watch alone has.
        let _ = living.child.signal(SIGKILL);
        if !in_time {
            drop(ended.await);
        }
        if let Some(child) = self.lock().roster.get_mut(id) {
            child.body.living = None;
        }
    }

    /// The process of a child has ended, unless the news are old.
    fn process_ended(&mut self, actor: ActorId) {
        let found = self.watches.iter().find(|(_, watch)| watch.actor == actor).map(|(id, _)| id.clone());
        let Some(id) = found else { return };
        self.watches.remove(&id);
        let mut state = self.setup.shared.lock();
        let Some(living) = state.roster.get_mut(&id).and_then(|child| child.body.living.take()) else {
            return;
        };
        if !living.has_ended() {
            // The watch itself failed: it must not live on unseen.
            let _ = living.child.signal(SIGKILL);
        }
        let story = living.story();
        state.roster.ended(&id, living.end(), Instant::now());
        drop(state);
        tracing::info!(target: TARGET, child = id, story, "child ended");
        self.last = Last::Ended(story);
    }

    async fn answer(&mut self, myself: &ActorRef<Note>, operation: Operation) -> Reply {
        match operation {
            Operation::Which => self.setup.shared.which(),
            Operation::Start(spec) => self.start_child(myself, spec).await,
            Operation::Restart(id) => self.restart_child(myself, id).await,
            Operation::Terminate(id) => {
                let asked = self.lock().roster.terminate(&id);
                asked.map_err(|refusal| Denial::Refused(id, refusal))?;
                self.act(myself).await;
                Ok(Vec::new())
            }
            Operation::Delete(id) => {
                let deleted = self.lock().roster.delete(&id);
                deleted.map_err(|refusal| Denial::Refused(id, refusal)).map(|()| Vec::new())
            }
        }
    }

    async fn start_child(&mut self, myself: &ActorRef<Note>, spec: ChildSpec) -> Reply {
        let id = spec.id.clone();
        {
            let state = self.lock();
            spec.check(state.roster.flags()).map_err(|error| Denial::from_check(&id, &error))?;
            let vacant = state.roster.check_vacant(&id);
            vacant.map_err(|refusal| Denial::Refused(id.clone(), refusal))?;
        }
        let living = self.start_asked(myself, &id, &spec.start).await?;
        let mut state = self.lock();
        state.roster.add(id.clone(), spec.rules, Body { start: spec.start, living: Some(living) });
        Ok(state.roster.get(&id).map(info).into_iter().collect())
    }

    async fn restart_child(&mut self, myself: &ActorRef<Note>, id: String) -> Reply {
        let start = {
            let state = self.lock();
            let stopped = state.roster.check_stopped(&id);
            stopped.map_err(|refusal| Denial::Refused(id.clone(), refusal))?;
            state.roster.get(&id).map(|child| child.body.start.clone())
        };
        let start = start.ok_or_else(|| Denial::Refused(id.clone(), Refusal::NotFound))?;
        let living = self.start_asked(myself, &id, &start).await?;
        let mut state = self.lock();
        state.roster.started(&id);
        if let Some(child) = state.roster.get_mut(&id) {
            child.body.living = Some(living);
        }
        Ok(state.roster.get(&id).map(info).into_iter().collect())
    }

    /// Starts a process because somebody asked for it: a failure is his, and nobody else's.
    async fn start_asked(
        &mut self,
        myself: &ActorRef<Note>,
        id: &str,
        start: &Start,
    ) -> Result<Arc<Living>, Denial> {
        let started = self.start(myself, id, start).await;
        started.map_err(|reason| Denial::NotStarted { id: id.to_owned(), reason })
    }
}

impl Drop for Control {
    /// However the actor ends, nobody waits for it in vain and no process is left behind.
    fn drop(&mut self) {
        self.setup.shared.kill_all();
        self.setup.shared.end(Err(Error::SupervisorEnded));
    }
}
