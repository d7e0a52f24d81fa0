//! The thread that all actors of this OS process live on, and the supervisor at their root.
//!
//! It starts when something is first given to the actors, so a child that only runs a function never has it (a runtime costs
//! three times the memory of such a child), nor has a program that joins what it starts. A fork leaves it behind: the handle
//! is keyed by the process id.
//!
//! Nobody waits for an actor to start or to join a process: the root is told afterwards.
//!
//! The thread is inside the gate (see `procession_ipc::gate`) while it runs anything, and outside while it sleeps; a fork
//! that waits has it step aside between two tasks. So a copy never finds a lock of ractor's registries taken. In the copy,
//! the runtime with all its actors is memory that nobody touches again: dropping it would reach for the parent's sockets.

use crate::process::{ProcessActor, Watched, tell_end};
use crate::{Error, Result};
use procession_ipc::child::Child;
use procession_ipc::gate::{self, Hook, Passage};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Once, PoisonError, mpsc};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Handle};

/// How long a new process is left alone: many have ended, and were joined, before an actor for them would have started.
pub(crate) const MOMENT: Duration = Duration::from_millis(5);

/// Processes that were started and have no actor yet.
static NEWCOMERS: Mutex<Vec<Arc<Child>>> = Mutex::new(Vec::new());

fn take_newcomers() -> Vec<Arc<Child>> {
    std::mem::take(&mut NEWCOMERS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Has the root watch a process that was just started; wakes it only for the first of many.
///
/// It runs already, so it is no error if the root cannot be started: then it is reaped by whoever joins it, or by a later
/// start.
pub(crate) fn watch(child: Arc<Child>) {
    let _passage = gate::enter("the list of new processes");
    let mut newcomers = NEWCOMERS.lock().unwrap_or_else(PoisonError::into_inner);
    newcomers.push(child);
    let first = newcomers.len() == 1;
    drop(newcomers);
    if first && tell(RootMessage::Watch).is_err() {
        // Nobody takes them; whoever comes next is the first again.
        take_newcomers();
    }
}

/// What the root supervisor is told.
pub(crate) enum RootMessage {
    /// Processes were started: watch those in [`NEWCOMERS`] that are still there in a moment.
    Watch,
    /// The moment is over.
    WatchNow,
    /// Something that starts an actor of its own below the root.
    Supervise(Box<StartBelow>),
}

/// Starts an actor that is linked to the root.
pub(crate) type StartBelow =
    dyn FnOnce(ActorRef<RootMessage>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send;

/// Has the runtime, on whose thread this is called, watch a descriptor.
#[allow(
    deprecated,
    reason = "the new name is an unsafe fn; all types given here own their descriptor, which is all it asks"
)]
pub(crate) fn register<T: AsRawFd>(owner: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(owner, interest)
}

/// The supervisor at the root. What ends below it has told its story already, so it only goes on.
struct Root;

impl Actor for Root {
    type Msg = RootMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<RootMessage>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<RootMessage>,
        message: RootMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RootMessage::Watch => drop(myself.send_after(MOMENT, || RootMessage::WatchNow)),
            RootMessage::WatchNow => {
                for child in take_newcomers() {
                    // The end of a helper is more work than to be told.
                    if let (false, Ok(Some(status))) = (child.is_helper(), child.try_wait()) {
                        tell_end(&child, status);
                        continue;
                    }
                    // Without a descriptor for the watch, the child is reaped by whoever joins it or at the next start.
                    let _ = Actor::spawn_linked(None, ProcessActor, Watched(child), myself.get_cell()).await;
                }
            }
            RootMessage::Supervise(start) => start(myself).await,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<RootMessage>,
        _: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

struct Runtime {
    /// Who started it: after a fork the thread is not there.
    owner: u32,
    root: ActorRef<RootMessage>,
    handle: Handle,
}

static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

/// Whether the thread is there: whoever is told something then starts none.
pub(crate) fn is_running() -> bool {
    let _passage = gate::enter("a look for the actors");
    let slot = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    slot.as_ref().is_some_and(|runtime| runtime.owner == std::process::id())
}

/// Tells the root supervisor, starting it if this is the first time.
pub(crate) fn tell(message: RootMessage) -> Result<()> {
    let _passage = gate::enter("a message to the actors");
    let mut slot = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    let own = std::process::id();
    let runtime = match slot.take().filter(|runtime| runtime.owner == own) {
        Some(runtime) => runtime,
        None => launch()?,
    };
    let runtime = slot.insert(runtime);
    runtime.root.cast(message).map_err(|error| Error::Runtime(error.to_string()))
}

/// Starts an actor below the root, and waits until it is there.
pub(crate) fn spawn<A: Actor>(actor: A, arguments: A::Arguments) -> Result<ActorRef<A::Msg>> {
    let (sender, receiver) = mpsc::sync_channel(1);
    tell(RootMessage::Supervise(Box::new(move |root| {
        Box::pin(async move {
            let spawned = Actor::spawn_linked(None, actor, arguments, root.get_cell()).await;
            // Whoever asked waits below.
            let _ = sender.send(spawned.map(|(actor, _)| actor).map_err(|e| Error::Runtime(e.to_string())));
        })
    })))?;
    receiver.recv().map_err(|error| Error::Runtime(error.to_string()))?
}

/// What all runtimes of ours are: they run while one thread waits for them.
fn builder() -> Builder {
    let mut builder = Builder::new_current_thread();
    builder.enable_io().enable_time();
    builder
}

/// A runtime that runs while the calling thread waits for it.
pub(crate) fn of_this_thread() -> io::Result<tokio::runtime::Runtime> {
    builder().build()
}

fn launch() -> Result<Runtime> {
    join_forks();
    let (sender, receiver) = mpsc::sync_channel(1);
    let body = move |passage: Passage| {
        INSIDE.set(Some(passage));
        let runtime = match builder().on_thread_park(go_out).on_thread_unpark(come_in).build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(sender.send(Err(error.to_string()))),
        };
        let handle = runtime.handle().clone();
        runtime.block_on(async {
            match Actor::spawn(None, Root, ()).await {
                Ok((root, end)) => {
                    let _ = sender.send(Ok(Runtime { owner: std::process::id(), root, handle }));
                    // The root never stops; this keeps the thread with it.
                    let _ = end.await;
                }
                Err(error) => drop(sender.send(Err(error.to_string()))),
            }
        });
    };
    gate::spawn(std::thread::Builder::new().name("procession".to_owned()), body)
        .map_err(|error| Error::Runtime(error.to_string()))?;
    receiver.recv().map_err(|error| Error::Runtime(error.to_string()))?.map_err(Error::Runtime)
}

thread_local! {
    /// The passage of the runtime's thread while it runs.
    static INSIDE: RefCell<Option<Passage>> = const { RefCell::new(None) };
}

fn go_out() {
    drop(INSIDE.take());
}

fn come_in() {
    INSIDE.set(Some(gate::enter("the thread of the actors")));
}

/// On the runtime's thread: runs `body` outside the gate. It blocks all actors meanwhile.
fn step_aside<T>(body: impl FnOnce() -> T) -> T {
    let was_inside = INSIDE.take().is_some();
    let result = body();
    if was_inside {
        come_in();
    }
    result
}

/// Whether the calling thread is in the context of an async runtime, ours or the user's. What forks there copies a thread
/// that is inside a runtime, where none can be started.
pub(crate) fn is_current() -> bool {
    Handle::try_current().is_ok()
}

/// Runs `body` on a plain thread, for callers inside a runtime, and waits for it.
pub(crate) fn on_plain_thread<T: Send>(body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let run = || gate::run_aside("procession-hop", body);
    step_aside(run).unwrap_or_else(|| Err(Error::Runtime("no thread for a fork".to_owned())))
}

/// Has forks take care of the runtime. Before there is one, there is nothing to take care of.
fn join_forks() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| gate::register(Hook { nudge, forget }));
}

/// Has a busy runtime go outside between two tasks.
fn nudge() {
    let slot = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*slot {
        runtime.handle.spawn(async { step_aside(|| ()) });
    }
}

/// In a copy of this process.
fn forget() {
    take_newcomers();
    RUNTIME.lock().unwrap_or_else(PoisonError::into_inner).take();
}
