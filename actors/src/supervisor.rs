//! Supervisors with OTP's meaning over operating system processes.
//!
//! ```text
//! caller                     supervisor actor                     child process
//! ----------------------     --------------------------------     ------------------------------
//! start(tree)        ---->   roster: start a, b, c        ---->   a function, an actor, or
//! which_children()           a ended -> roster -> stop c, b       `nested`: a supervisor, which
//! start_child(spec)  ---->   -> start a, b, c                     serves requests of its parent
//! join()             <----   roster: leave                        and stops when they end
//! ```
//!
//! What is to be done is decided by pure functions (`spec`, `strategy`, `intensity`); `control` is the actor that does it,
//! one step after the other, `living` is a child's process, `doors` are where those that are actors are called, `state` what
//! the actor and callers share, `nested` the life of a process that is a supervisor itself. All children are daemons and
//! armed: they end with the process of their supervisor, however it ends.

mod control;
mod doors;
pub mod intensity;
mod living;
mod nested;
mod request;
pub mod spec;
mod state;
pub mod strategy;

#[cfg(test)]
mod suite;

pub use request::ChildInfo;

use crate::runtime;
use crate::{Error, Result};
use control::{Note, Setup, SupervisorActor};
use procession_ipc::call::Caller;
use procession_ipc::gate;
use ractor::ActorRef;
use request::{Denial, Operation, Reply, Request};
use spec::{ChildSpec, PATH_SEPARATOR, Tree};
use state::Shared;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// How long the children of a supervisor that is dropped have to end: 5 s, as OTP's default shutdown.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a supervisor is to people.
const SUPERVISOR: &str = "the supervisor";

/// A supervisor in this process. Dropping it stops it.
///
/// Children of nested supervisors have paths: `inner/counter` is `counter` of `inner`.
#[derive(Debug)]
pub struct Supervisor {
    shared: Arc<Shared>,
    actor: ActorRef<Note>,
}

impl Supervisor {
    /// Starts all children, from the first to the last. If one cannot be started, those before it are stopped.
    ///
    /// # Errors
    ///
    /// A tree that cannot work; [`Error::ChildNotStarted`]; [`Error::IntensityExceeded`] when the first ones end faster than
    /// the last ones start.
    pub fn start(mut tree: Tree) -> Result<Self> {
        tree.check()?;
        tree.give_addresses()?;
        let (method, allow_threads) = (tree.method, tree.allow_threads);
        let shared = Arc::new(Shared::new(tree));
        let setup = Setup { shared: Arc::clone(&shared), method, allow_threads };
        let actor = runtime::spawn(SupervisorActor, setup)?;
        let supervisor = Self { shared, actor };
        supervisor.note(Note::Begin)?;
        supervisor.shared.wait_begun()?;
        Ok(supervisor)
    }

    /// The children of the supervisor at `path`, in the order of their starts; of this one, if the path is empty.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchChild`] and [`Error::SupervisorEnded`], for the supervisor and for those on the way;
    /// [`Error::NoAnswer`]; a copy of the process that made it.
    pub fn which_children(&self, path: &str) -> Result<Vec<ChildInfo>> {
        self.ask(path, Operation::Which)
    }

    /// Starts one more child of the supervisor at `path`, behind all others.
    ///
    /// # Errors
    ///
    /// A child that cannot work; [`Error::ChildIs`] for an id that is there already; [`Error::ChildNotStarted`], and then
    /// there is no such child; those of [`which_children`](Self::which_children).
    pub fn start_child(&self, path: &str, mut spec: ChildSpec) -> Result<ChildInfo> {
        spec.start.give_addresses()?;
        let id = spec.id.clone();
        only(id, self.ask(path, Operation::Start(spec))?)
    }

    /// Stops the process of a child. It stays a child, unless it is temporary; one that does not run is a success.
    ///
    /// # Errors
    ///
    /// Those of [`which_children`](Self::which_children).
    pub fn terminate_child(&self, path: &str) -> Result<()> {
        let (supervisor, id) = split(path);
        self.ask(supervisor, Operation::Terminate(id.to_owned())).map(drop)
    }

    /// Starts the process of a child that is stopped.
    ///
    /// # Errors
    ///
    /// [`Error::ChildIs`] unless it is stopped; [`Error::ChildNotStarted`]; those of
    /// [`which_children`](Self::which_children).
    pub fn restart_child(&self, path: &str) -> Result<ChildInfo> {
        let (supervisor, id) = split(path);
        only(id.to_owned(), self.ask(supervisor, Operation::Restart(id.to_owned()))?)
    }

    /// Forgets a child that is stopped.
    ///
    /// # Errors
    ///
    /// [`Error::ChildIs`] unless it is stopped; those of [`which_children`](Self::which_children).
    pub fn delete_child(&self, path: &str) -> Result<()> {
        let (supervisor, id) = split(path);
        self.ask(supervisor, Operation::Delete(id.to_owned())).map(drop)
    }

    /// Who calls the child at `path`, which is an actor of the type with this name. It follows the child over all its
    /// incarnations.
    ///
    /// # Errors
    ///
    /// [`Error::OtherChild`]; those of [`which_children`](Self::which_children).
    pub fn caller(&self, path: &str, actor: &'static str) -> Result<Caller> {
        let (supervisor, id) = split(path);
        let children = self.which_children(supervisor)?;
        let child = children.into_iter().find(|child| child.id == id);
        let child = child.ok_or_else(|| Error::NoSuchChild { id: id.to_owned() })?;
        let Some(place) = child.place.as_ref().filter(|place| place.actor == actor) else {
            let found = child.place.map(|place| place.actor);
            return Err(Error::OtherChild { id: child.id, wanted: actor, found });
        };
        Ok(Caller::at(place.address))
    }

    /// Asks for the end of all children, from the last to the first, and of the supervisor; does not wait. Nothing happens
    /// in a copy of the process that made it.
    pub fn ask_to_stop(&self) {
        if !self.shared.origin.is_here() {
            return;
        }
        // An actor that is gone has ended already.
        let _ = self.actor.cast(Note::Stop);
    }

    /// Waits for the end of the supervisor, until `deadline` if there is one; says whether it has ended.
    ///
    /// # Errors
    ///
    /// [`Error::IntensityExceeded`] if it gave up; a copy of the process that made it.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<bool> {
        self.shared.origin.check(SUPERVISOR)?;
        self.shared.wait_ended(deadline)
    }

    fn note(&self, note: Note) -> Result<()> {
        self.actor.cast(note).map_err(|_| Error::SupervisorEnded)
    }

    fn ask(&self, path: &str, operation: Operation) -> Result<Vec<ChildInfo>> {
        self.shared.origin.check(SUPERVISOR)?;
        Ok(self.serve(Request::new(path, operation))?)
    }

    /// Answers a request on the caller's thread: passes it on to the nested supervisor that it is for, looks the answer up,
    /// or has the actor do it.
    fn serve(&self, mut request: Request) -> Reply {
        if let Some(nested) = request.path.pop() {
            return self.shared.nested(&nested)?.ask(&request);
        }
        if matches!(request.operation, Operation::Which) {
            return self.shared.which();
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        let note = Note::Ask(Box::new(request.operation), sender);
        self.actor.cast(note).map_err(|_| Denial::Ended)?;
        let _rest = gate::rest();
        // An actor that ends drops the requests that it has not read.
        receiver.recv().unwrap_or(Err(Denial::Ended))
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.ask_to_stop();
        if !matches!(self.wait(Some(Instant::now() + PATIENCE)), Ok(false)) {
            return;
        }
        self.shared.kill_all();
        let _ = self.wait(Some(Instant::now() + PATIENCE));
    }
}

/// The supervisor's path and the child's id.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once(PATH_SEPARATOR).unwrap_or(("", path))
}

fn only(id: String, children: Vec<ChildInfo>) -> Result<ChildInfo> {
    children.into_iter().next().ok_or(Error::NoSuchChild { id })
}
