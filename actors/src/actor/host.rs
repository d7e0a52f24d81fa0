//! The host: the value, its mailbox, and the main thread that works it off.
//!
//! Work comes an inbox at a time, one for each connection, and goes back when it is worked off. Requests are carried out
//! one by one; an `async` method is awaited before the next one begins.
//!
//! The main thread has a runtime of its own, which moves the sockets between the calls, and the user's code runs *outside*
//! of it. So the runtime of the supervisors stays free while a method blocks: it may start processes, pools and
//! supervisors, and wait for them; and it may use a library that starts a runtime where it is called. That is why the
//! host is a loop and no ractor actor, whose methods would run within.
//!
//! Ends, and what the callers see:
//! - asked to stop: the call in hand is finished, the value dropped, every connection told goodbye. Code 0;
//! - a method panicked: its caller gets the report, and the process ends with code 1, since nobody knows what state the
//!   value is in. All other callers see a dead process;
//! - anything else that ends a process.

use super::door::{Guests, attend};
use super::peer::{Peer, Reading};
use super::{Actor, Reply};
use crate::runtime::{self, register};
use procession_ipc::authkey::authkey;
use procession_ipc::call::frame::{Status, has_request, next_request};
use procession_ipc::call::serving;
use procession_ipc::codec;
use procession_ipc::rendezvous::{Address, Listener};
use procession_ipc::start::Role;
use procession_ipc::start::outcome::Failure;
use procession_ipc::stream::Stream;
use procession_ipc::unwind::{PanicReport, catch};
use serde::{Deserialize, Serialize};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// How long the last words to callers may take that do not read.
const FAREWELL: Duration = Duration::from_secs(1);

/// After so many requests of one connection, the other sockets and the control stream are looked at.
const TURN: u32 = 64;

/// What the control stream says once the actor is made.
pub(super) const MADE: &[u8] = b"m";

/// What each start of an actor brings along.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Props {
    pub(super) listener: Listener,
    /// Says when the actor is made; ends when it shall stop.
    pub(super) control: Stream,
}

/// Makes the value and hosts it.
pub(super) enum Hosting {}

impl<A: Actor> Role<A> for Hosting {
    type Props = Props;

    fn play(props: Props, make: impl FnOnce() -> Result<A, Failure>) -> Result<(), Failure> {
        let not_hosted = |reason: &dyn std::fmt::Display| Failure::NotCalled(format!("no actor: {reason}"));
        let runtime = runtime::of_this_thread().map_err(|error| not_hosted(&error))?;
        // The value may hold sockets of the runtime, and an `async` method may use its clock.
        let _context = runtime.enter();
        let value = make()?;
        let key = authkey().map_err(|error| not_hosted(&error))?;
        let (guests, stopping) = (Guests::default(), Arc::new(AtomicBool::new(false)));
        let address = props.listener.address();
        let (mailbox, orders) = unbounded_channel();
        let (listener, control) = register(props.listener, Interest::READABLE)
            .and_then(|listener| Ok((listener, register(props.control, Interest::READABLE)?)))
            .map_err(|error| not_hosted(&error))?;
        // Who started it may be gone; then the actor is about to be told.
        let _ = control.get_ref().try_write(MADE);
        runtime.spawn(attend(listener, key, guests.clone(), mailbox.clone()));
        runtime.spawn(obey(control, Arc::clone(&stopping), mailbox));
        Host { value, address, out: Vec::new(), guests, stopping, runtime: &runtime }.run(orders)
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
    pub(super) reading: Reading,
    pub(super) peer: Arc<Peer>,
    /// Where the inbox goes back to.
    pub(super) done: oneshot::Sender<Reading>,
}

impl Work {
    /// Whether there is a request; if `may_look`, also one that comes at once. A caller that calls again as soon as it has
    /// its answer is served without any hop this way.
    fn has_request(&mut self, may_look: bool) -> bool {
        while !has_request(&self.reading.inbox) {
            if !may_look || !self.peer.look(&mut self.reading) {
                return false;
            }
        }
        true
    }
}

/// Where orders arrive. It holds an inbox for each connection at most.
pub(super) type Mailbox = UnboundedSender<Order>;

struct Host<'a, A> {
    value: A,
    address: Address,
    /// The next reply.
    out: Vec<u8>,
    guests: Guests,
    stopping: Arc<AtomicBool>,
    /// Runs only while this waits for it.
    runtime: &'a Runtime,
}

/// Waits for the end of the control stream.
async fn obey(control: AsyncFd<Stream>, stopping: Arc<AtomicBool>, host: Mailbox) {
    while let Ok(mut ready) = control.readable().await {
        match control.get_ref().try_read(&mut [0; 16]) {
            Ok(None) => ready.clear_ready(),
            Ok(Some(0)) | Err(_) => break,
            Ok(Some(_)) => {}
        }
    }
    stopping.store(true, Ordering::Relaxed);
    let _ = host.send(Order::Stop);
}

impl<A: Actor> Host<'_, A> {
    /// Carries orders out until one ends it. Whoever calls later finds nobody, or the next incarnation.
    fn run(mut self, mut orders: UnboundedReceiver<Order>) -> Result<(), Failure> {
        while let Some(Order::Work(work)) = self.runtime.block_on(orders.recv()) {
            self.work(work).map_err(Failure::Panicked)?;
        }
        self.stop()
    }

    /// Works an inbox off. The error is the panic of a method.
    fn work(&mut self, mut work: Work) -> Result<(), PanicReport> {
        let is_alone = self.guests.is_one();
        let mut count = 0;
        while !self.stopping.load(Ordering::Relaxed)
            && !work.peer.is_clogged()
            && work.has_request(is_alone && count < TURN)
        {
            let (id, message) = match next_request(&mut work.reading.inbox) {
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(_) => {
                    // It has the key and still makes no sense: no answer of ours would either.
                    work.peer.hang_up();
                    return Ok(());
                }
            };
            let carried_out = self.carry_out(id, message);
            work.peer.send(&self.out);
            if let Err(report) = carried_out {
                let _ = self.runtime.block_on(timeout(FAREWELL, work.peer.flush()));
                return Err(report);
            }
            count += 1;
            if count % TURN == 0 {
                self.runtime.block_on(tokio::task::yield_now());
            }
        }
        let _ = work.done.send(work.reading);
        Ok(())
    }

    /// Carries one request out and writes its reply. A message that cannot be read costs only itself.
    fn carry_out(&mut self, id: u64, message: &[u8]) -> Result<(), PanicReport> {
        let Self { value, out, runtime, address, .. } = self;
        out.clear();
        // `Deserialize` is the user's code too.
        let decoded = catch(|| codec::decode::<A::Message>(message));
        let message = match decoded.map(|message| message.map_err(|error| error.to_string())) {
            Ok(Ok(message)) => message,
            Ok(Err(reason)) | Err(PanicReport { message: reason, .. }) => {
                Reply::new(out, id).note(Status::BadMessage, &reason);
                return Ok(());
            }
        };
        let handled = catch(|| finish(runtime, *address, value.handle(message, Reply::new(out, id))));
        if let Err(report) = &handled {
            // What was written of a reply is of no use.
            out.clear();
            Reply::new(out, id).note(Status::Panicked, report);
        }
        handled
    }

    fn stop(mut self) -> Result<(), Failure> {
        let dropped = catch(|| drop(self.value)).map_err(Failure::Panicked);
        self.out.clear();
        Reply::new(&mut self.out, 0).note(Status::Goodbye, &());
        let guests = self.guests.dismiss(self.out);
        let flushed = async {
            for guest in guests {
                // One that is gone needs no goodbye.
                let _ = guest.flush().await;
            }
        };
        let _ = self.runtime.block_on(async { timeout(FAREWELL, flushed).await });
        dropped
    }
}

/// Runs a method to its end. One that waits for nothing has none of the runtime around it.
fn finish(runtime: &Runtime, address: Address, method: impl Future<Output = ()>) {
    let mut method = pin!(method);
    let mut step = |context: &mut Context<'_>| serving(address, || method.as_mut().poll(context));
    if step(&mut Context::from_waker(Waker::noop())).is_pending() {
        runtime.block_on(poll_fn(step));
    }
}
