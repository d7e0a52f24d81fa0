//! Typed actors in processes of their own.
//!
//! ```text
//! caller's process                 the actor's process
//! -----------------------------    ------------------------------------------------------------
//! ..Proxy -> ipc::call  ------->   door: accepts at the rendezvous, has the caller prove itself
//!                       <------>   peer: one per connection, reads requests, writes what is left
//!                                  host: owns the value, carries out one by one
//! ```
//!
//! Everything lives on the main thread of the actor's process, which leaves with code 0 when the actor was stopped and 1
//! when a method panicked.
//!
//! The value, or how to make it, is a [`Blueprint`]: data that can be kept, sent, and started any number of times. Each
//! start is an [`Incarnation`]. Who starts one brings the [`Listener`] along. A supervisor binds one for each child, keeps
//! it, and hands it to [`Blueprint::start`] again and again: callers then wait in its queue while there is no
//! incarnation, and their proxies follow the child. When the listener is dropped too, they are told that nobody listens.

mod door;
mod host;
mod peer;
mod reply;

pub use reply::Reply;

use crate::Result;
use crate::process::{self, Options};
use crate::runtime::{self, register};
use host::{Hosting, MADE, Props};
use procession_ipc::call::{Caller, End};
use procession_ipc::child::ExitStatus;
use procession_ipc::codec::Wire;
use procession_ipc::gate::Origin;
use procession_ipc::rendezvous::Listener;
use procession_ipc::start::target::{ByValue, Target};
use procession_ipc::start::{Script, Started};
use procession_ipc::stream::Stream;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::Interest;

/// A type whose methods can be called from other processes. `#[procession::actor]` implements it.
pub trait Actor: Sized + Send + 'static {
    /// What callers hold.
    type Proxy: Proxy;

    /// What travels for a call.
    #[doc(hidden)]
    type Message: DeserializeOwned + Send + 'static;

    /// The type's name, without its parameters.
    const NAME: &'static str;

    /// Carries one message out.
    #[doc(hidden)]
    fn handle(&mut self, message: Self::Message, reply: Reply<'_>) -> impl Future<Output = ()> + Send;
}

/// Calls an actor in another process. `#[procession::actor]` makes one for each actor.
///
/// A proxy can be sent to any process of the family, which then talks to the actor directly.
pub trait Proxy: Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The proxy of the actor that `caller` calls.
    #[doc(hidden)]
    fn from_caller(caller: Caller) -> Self;

    /// Who calls.
    #[doc(hidden)]
    fn caller(&self) -> &Caller;
}

/// How to make an actor, and what to run around it: it can be started any number of times, also by another process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Blueprint(Script<Props>);

impl Blueprint {
    /// An actor that is made here and sent: each start begins with this value.
    ///
    /// # Errors
    ///
    /// A value that cannot travel, or code outside the main image.
    pub fn of_value<A: Actor + Wire>(value: A) -> Result<Self> {
        Self::of_factory::<_, _, (ByValue,)>(|value: A| value, &(value,))
    }

    /// An actor that `f(args)` makes in its own process.
    ///
    /// # Errors
    ///
    /// Arguments that cannot travel, or a function outside the main image.
    pub fn of_factory<F, A, M>(f: F, args: &A) -> Result<Self>
    where
        F: Target<A, M, Output: Actor>,
    {
        Ok(Self(Script::new::<Hosting, F, A, M>(f, args)?))
    }

    /// Starts one for who calls it from here and gives it away: watched, with a listener of its own.
    ///
    /// Unless told otherwise it is a daemon, which ends with this process however that ends: nobody else can stop it.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn spawn(&self, options: &Options) -> Result<(Incarnation, Caller)> {
        let daemon = options.daemon.unwrap_or(true);
        let options =
            Options { daemon: Some(daemon), armed: options.armed.or(Some(true)), ..options.clone() };
        let listener = Listener::new()?;
        let incarnation = self.start(&listener, &options)?;
        runtime::watch(Arc::clone(&incarnation.started.child));
        let caller = Caller::at(listener.address());
        incarnation.tell_its_end(&caller);
        Ok((incarnation, caller))
    }

    /// Starts one in a process of its own, which answers whoever calls at `listener`. Whoever starts it watches it.
    ///
    /// # Errors
    ///
    /// The start method does not work here, or no process or descriptor is left.
    pub fn start(&self, listener: &Listener, options: &Options) -> Result<Incarnation> {
        let (control, theirs) = Stream::pair()?;
        let props = Props { listener: listener.try_clone()?, control: theirs };
        let since = Instant::now();
        let started = process::start_encoded(self.0.encoded(&props)?, options)?;
        Ok(Incarnation { started, since, control, origin: Origin::here() })
    }
}

/// One actor in its process.
#[derive(Debug)]
pub struct Incarnation {
    /// Its process.
    pub started: Started,
    /// Before it was started.
    since: Instant,
    control: Stream,
    /// A copy of the process that started it shares the stream.
    origin: Origin,
}

impl Incarnation {
    /// Asks it to stop: it finishes the call in hand and leaves with code 0. Never waits. Dropping asks too. Nothing happens
    /// in a copy of the process that started it.
    pub fn stop(&self) {
        if self.origin.is_here() {
            self.control.hang_up();
        }
    }

    /// Waits until the actor is made; `false` when it will not be.
    pub(crate) async fn wait_made(&self) -> bool {
        let registered = self.control.try_clone().and_then(|control| register(control, Interest::READABLE));
        let Ok(control) = registered else { return false };
        loop {
            let Ok(mut ready) = control.readable().await else { return false };
            match control.get_ref().try_read(&mut [0]) {
                Ok(None) => ready.clear_ready(),
                Ok(Some(count)) => return count == MADE.len(),
                Err(_) => return false,
            }
        }
    }

    /// Has the errors of this process's callers tell how this incarnation ended.
    pub fn tell_its_end(&self, caller: &Caller) {
        let Started { child, reply, .. } = &self.started;
        let (child, reply) = (child.clone(), reply.clone());
        caller.set_obituary(self.since, move |patience| {
            let status = child.wait(Some(Instant::now() + patience)).ok().flatten()?;
            Some(match (status, reply.failure()) {
                (ExitStatus::Exited(0), _) => End::Stopped,
                (status, Some(failure)) => End::Died(format!("{status}: it {failure}")),
                (status, None) => End::Died(status.to_string()),
            })
        });
    }
}

impl Drop for Incarnation {
    fn drop(&mut self) {
        // Closing would do, if no copy of the descriptor were anywhere else.
        self.stop();
    }
}
