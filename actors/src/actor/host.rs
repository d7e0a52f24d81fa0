//! The ractor actor that owns the value, and the main thread that waits for its end.
//!
//! Work comes an inbox at a time, one for each connection, and goes back when it is worked off. Requests are carried out
//! one by one; an `async` method is awaited before the next one begins.
//!
//! Ends, and what the callers see:
//! - asked to stop: the call in hand is finished, the value dropped, every connection told goodbye. Code 0;
//! - a method panicked: its caller gets the report, and the process ends with code 1, since nobody knows what state the
//!   value is in. All other callers see a dead process;
//! - anything else that ends a process.

use super::door::{Guests, attend};
use super::peer::Peer;
use super::{Actor, Reply};
use crate::runtime::{self, RootMessage, register};
use procession_ipc::authkey::{AuthKey, authkey};
use procession_ipc::call::frame::{Status, next_request};
use procession_ipc::codec;
use procession_ipc::rendezvous::Listener;
use procession_ipc::start::Role;
use procession_ipc::start::outcome::Failure;
use procession_ipc::stream::{Inbox, Stream};
use procession_ipc::unwind::{PanicReport, catch};
use ractor::{ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::task::Poll;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

/// How long the last words to callers may take that do not read.
const FAREWELL: Duration = Duration::from_secs(1);

/// After so many requests of one connection, the others' sockets and the control stream are looked at.
const TURN: u32 = 64;

/// What each start of an actor brings along.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Props {
    pub(super) listener: Listener,
    /// Ends when the actor shall stop.
    pub(super) control: Stream,
}

/// Makes the value and hosts it.
pub(super) enum Hosting {}

impl<A: Actor> Role<A> for Hosting {
    type Props = Props;

    fn play(props: Props, make: impl FnOnce() -> Result<A, Failure>) -> Result<(), Failure> {
        let value = make()?;
        let not_hosted = |reason: &dyn std::fmt::Display| Failure::NotCalled(format!("no actor: {reason}"));
        let key = authkey().map_err(|error| not_hosted(&error))?;
        let (ended, end) = sync_channel(1);
        let start = Start { value, props, key, ended: ended.clone() };
        runtime::tell(RootMessage::Supervise(Box::new(move |root| {
            Box::pin(async move {
                let host = Host::<A>(PhantomData);
                if let Err(error) = ractor::Actor::spawn_linked(None, host, start, root.get_cell()).await {
                    let _ = ended.send(Err(Failure::NotCalled(format!("no actor: {error}"))));
                }
            })
        })))
        .map_err(|error| not_hosted(&error))?;
        end.recv().unwrap_or_else(|error| Err(not_hosted(&error)))
    }
}

/// What the host is told.
pub(super) enum Order {
    /// Carry these requests out.
    Work(Work),
    /// Stop.
    Stop,
}

/// Requests of one connection.
pub(super) struct Work {
    pub(super) inbox: Inbox,
    pub(super) peer: Arc<Peer>,
    /// Where the inbox goes back to.
    pub(super) done: oneshot::Sender<Inbox>,
}

type Ended = SyncSender<Result<(), Failure>>;

struct Start<A> {
    value: A,
    props: Props,
    key: AuthKey,
    ended: Ended,
}

/// The actor around an `A`.
struct Host<A>(PhantomData<fn(A)>);

struct State<A> {
    /// `None` once it has stopped.
    value: Option<A>,
    /// The next replies.
    out: Vec<u8>,
    guests: Guests,
    /// Lets callers in.
    door: AbortHandle,
    stopping: Arc<AtomicBool>,
    ended: Ended,
}

impl<A: Actor> ractor::Actor for Host<A> {
    type Msg = Order;
    type State = State<A>;
    type Arguments = Start<A>;

    async fn pre_start(
        &self,
        myself: ActorRef<Order>,
        start: Start<A>,
    ) -> Result<State<A>, ActorProcessingErr> {
        let Start { value, props: Props { listener, control }, key, ended } = start;
        let (guests, stopping) = (Guests::default(), Arc::new(AtomicBool::new(false)));
        let listener = register(listener, Interest::READABLE)?;
        let door = tokio::spawn(attend(listener, key, guests.clone(), myself.clone())).abort_handle();
        tokio::spawn(obey(register(control, Interest::READABLE)?, Arc::clone(&stopping), myself));
        Ok(State { value: Some(value), out: Vec::new(), guests, door, stopping, ended })
    }

    async fn handle(
        &self,
        myself: ActorRef<Order>,
        order: Order,
        state: &mut State<A>,
    ) -> Result<(), ActorProcessingErr> {
        let end = match order {
            Order::Work(work) => match state.work(work).await {
                Ok(()) => return Ok(()),
                Err(report) => Err(Failure::Panicked(report)),
            },
            Order::Stop => state.stop().await,
        };
        // The process may have children to wait for yet: whoever calls now finds nobody, or the next incarnation.
        state.door.abort();
        let _ = state.ended.send(end);
        myself.stop(None);
        Ok(())
    }
}

/// Waits for the end of the control stream.
async fn obey(control: AsyncFd<Stream>, stopping: Arc<AtomicBool>, host: ActorRef<Order>) {
    while let Ok(mut ready) = control.readable().await {
        match control.get_ref().try_read(&mut [0; 16]) {
            Ok(None) => ready.clear_ready(),
            Ok(Some(0)) | Err(_) => break,
            Ok(Some(_)) => {}
        }
    }
    stopping.store(true, Ordering::Relaxed);
    let _ = host.cast(Order::Stop);
}

impl<A: Actor> State<A> {
    /// Works an inbox off. The error is the panic of a method.
    async fn work(&mut self, mut work: Work) -> Result<(), PanicReport> {
        let Some(value) = &mut self.value else { return Ok(()) };
        let mut count = 0;
        while !self.stopping.load(Ordering::Relaxed) && !work.peer.is_clogged() {
            let (id, message) = match next_request(&mut work.inbox) {
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(_) => {
                    // It has the key and still makes no sense: no answer of ours would either.
                    work.peer.hang_up();
                    return Ok(());
                }
            };
            self.out.clear();
            let carried_out = carry_out(value, id, message, &mut self.out).await;
            work.peer.send(&self.out);
            if let Err(report) = carried_out {
                let _ = tokio::time::timeout(FAREWELL, work.peer.flush()).await;
                return Err(report);
            }
            count += 1;
            if count % TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        let _ = work.done.send(work.inbox);
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), Failure> {
        let value = self.value.take();
        let dropped = catch(|| drop(value)).map_err(Failure::Panicked);
        self.out.clear();
        Reply::new(&mut self.out, 0).note(Status::Goodbye, &());
        let guests = self.guests.all();
        for guest in &guests {
            guest.send(&self.out);
        }
        let flushed = async {
            for guest in guests {
                // One that is gone needs no goodbye.
                let _ = guest.flush().await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, flushed).await;
        dropped
    }
}

/// Carries one request out and appends its reply. A message that cannot be read costs only itself.
async fn carry_out<A: Actor>(
    value: &mut A,
    id: u64,
    message: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), PanicReport> {
    // `Deserialize` is the user's code too.
    let decoded = catch(|| codec::decode::<A::Message>(message));
    let message = match decoded.map(|message| message.map_err(|error| error.to_string())) {
        Ok(Ok(message)) => message,
        Ok(Err(reason)) | Err(PanicReport { message: reason, .. }) => {
            Reply::new(out, id).note(Status::BadMessage, &reason);
            return Ok(());
        }
    };
    let handled = caught(value.handle(message, Reply::new(out, id))).await;
    if let Err(report) = &handled {
        // What was written of a reply is of no use.
        out.clear();
        Reply::new(out, id).note(Status::Panicked, report);
    }
    handled
}

/// The outcome of a future that may panic.
async fn caught<T>(future: impl Future<Output = T>) -> Result<T, PanicReport> {
    let mut future = pin!(future);
    poll_fn(|context| match catch(|| future.as_mut().poll(context)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Err(report) => Poll::Ready(Err(report)),
    })
    .await
}
