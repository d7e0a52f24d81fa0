//! The process of a supervised child: starting, asking it to end, the story of its end.

use super::doors::Door;
use super::nested::{self, Line};
use super::spec::Start;
use super::strategy::End;
use crate::actor::Incarnation;
use crate::process::{Options, SIGKILL, SIGTERM, start_recipe};
use crate::{Error, Result};
use procession_ipc::child::{Child, ExitStatus};
use procession_ipc::start::{Reply, Started};
use ractor::concurrency::JoinHandle;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

/// How long a process may take to leave that could not make its actor.
const FAREWELL: Duration = Duration::from_secs(5);

/// A process that was started for a child.
#[derive(Debug)]
pub(super) struct Living {
    pub(super) child: Arc<Child>,
    /// Where it says why it failed.
    reply: Reply,
    way: Way,
}

/// The way to what runs in it.
#[derive(Debug)]
enum Way {
    /// Signals.
    Process,
    Actor(Incarnation),
    Supervisor(Arc<Line>),
}

impl Living {
    /// Starts the process of a function or a supervisor, or of an actor, which is called at `door`.
    pub(super) fn start(start: &Start, door: Option<&Door>, options: &Options) -> Result<Self> {
        let (Started { child, reply, .. }, way) = match (start, door) {
            (Start::Process(recipe), _) => (start_recipe(recipe, options)?, Way::Process),
            (Start::Supervisor(tree), _) => {
                let (started, line) = nested::start(tree, options)?;
                (started, Way::Supervisor(Arc::new(line)))
            }
            (Start::Actor(role), Some(door)) => {
                let incarnation = role.blueprint.start(&door.listener, options)?;
                // Not only when it is ready: it meets its first callers before this process knows that it is.
                incarnation.tell_its_end(&door.caller);
                let Started { child, reply, .. } = &incarnation.started;
                let (child, reply) = (Arc::clone(child), reply.clone());
                return Ok(Self { child, reply, way: Way::Actor(incarnation) });
            }
            (Start::Actor(_), None) => return Err(Error::Runtime("an actor without an address".to_owned())),
        };
        Ok(Self { child, reply, way })
    }

    /// Waits until what runs in the process is ready. An error is the story of its end; `ended` is the end of its watch.
    ///
    /// A function is ready at once, and so is a supervisor; an actor when it is made.
    pub(super) async fn wait_ready(&self, ended: &mut JoinHandle<()>) -> Result<(), String> {
        let Way::Actor(incarnation) = &self.way else { return Ok(()) };
        let mut made = pin!(incarnation.wait_made());
        let mut has_ended = false;
        let is_made = poll_fn(|context| {
            if let Poll::Ready(is_made) = made.as_mut().poll(context) {
                return Poll::Ready(is_made);
            }
            has_ended = Pin::new(&mut *ended).poll(context).is_ready();
            if has_ended { Poll::Ready(false) } else { Poll::Pending }
        });
        if is_made.await {
            return Ok(());
        }
        if !has_ended && tokio::time::timeout(FAREWELL, &mut *ended).await.is_err() {
            let _ = self.child.signal(SIGKILL);
            drop(ended.await);
        }
        // Also when the watch alone has ended.
        let _ = self.child.signal(SIGKILL);
        Err(self.story())
    }

    /// The way to its supervisor, if it is one.
    pub(super) fn line(&self) -> Option<Arc<Line>> {
        match &self.way {
            Way::Supervisor(line) => Some(Arc::clone(line)),
            Way::Process | Way::Actor(_) => None,
        }
    }

    /// Asks it to end: a supervisor by ending the way to it, so that it stops its own children, an actor likewise, so that it
    /// finishes the call in hand, and a function by SIGTERM.
    pub(super) fn ask_to_end(&self) {
        match &self.way {
            Way::Supervisor(line) => line.hang_up(),
            Way::Actor(incarnation) => incarnation.stop(),
            // One that cannot be signalled has changed its user; its time is bounded, and its lifeline ends it with us.
            Way::Process => drop(self.child.signal(SIGTERM)),
        }
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    fn status(&self) -> ExitStatus {
        match self.child.try_wait() {
            Ok(Some(status)) => status,
            Ok(None) | Err(_) => ExitStatus::Unknown { why: "its process could not be watched" },
        }
    }

    /// How it ended, for the strategy.
    pub(super) fn end(&self) -> End {
        if self.status() == ExitStatus::Exited(0) { End::Normal } else { End::Abnormal }
    }

    /// How it ended, for people: what it said about its failure, or its status.
    pub(super) fn story(&self) -> String {
        self.reply.failure().map_or_else(|| self.status().to_string(), |failure| failure.to_string())
    }
}
