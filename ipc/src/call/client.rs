//! One actor in another process, as this process knows it: its address, and the connection that all its callers share.
//!
//! The connection is made by the first call. When it is lost, calls in flight fail and are never repeated; the next call
//! connects again, once. Behind a supervised actor's address the next incarnation answers then.

use super::link::{Link, Loss, Unsent};
use super::serving::is_served;
use super::{Answer, CallFailure, End};
use crate::authkey::authkey;
use crate::child::ExitStatus;
use crate::gate::{self, Origin, PerProcess};
use crate::rendezvous::{Address, connect};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// How long an error waits for a process whose connection has ended to end too. It is about to: its descriptors are closed
/// by the kernel on its way out.
const MOMENT: Duration = Duration::from_secs(1);

/// Asks how the process at the address ended, if it does so in time.
type Obituary = dyn Fn(Duration) -> Option<End> + Send + Sync;

/// A process that is, or was, at an address.
#[derive(Clone)]
struct Incarnation {
    /// Before it was started, and after the end of the one before it.
    since: Instant,
    obituary: Arc<Obituary>,
}

/// The last two processes at an address, as far as this process knows them.
#[derive(Default)]
struct Incarnations {
    last: Option<Incarnation>,
    before: Option<Incarnation>,
}

impl Incarnations {
    /// That at the other end of a connection whose handshake ended at `met`; the last one if none did.
    fn behind(&self, met: Option<Instant>) -> Option<&Incarnation> {
        let known = [&self.last, &self.before].into_iter().flatten();
        known.into_iter().find(|known| met.is_none_or(|met| known.since <= met))
    }
}

struct Client {
    address: Address,
    /// In a copy of this process another one: both would read from the same socket.
    link: PerProcess<Mutex<Option<Arc<Link>>>>,
    incarnations: PerProcess<Mutex<Incarnations>>,
}

/// All actors that this process has callers of. Locked inside the gate only.
static CLIENTS: Mutex<BTreeMap<Address, Weak<Client>>> = Mutex::new(BTreeMap::new());

/// What a look into the list is to a fork that waits for it.
const LIST_IN_USE: &str = "the list of actors elsewhere";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Calls one actor in another process. Copies share a connection; it travels as its address, never with the key.
#[derive(Clone)]
pub struct Caller(Arc<Client>);

impl Caller {
    /// The caller of the actor at `address`; connects to nobody yet.
    #[must_use]
    pub fn at(address: Address) -> Self {
        let _passage = gate::enter(LIST_IN_USE);
        let mut clients = lock(&CLIENTS);
        if let Some(known) = clients.get(&address).and_then(Weak::upgrade) {
            return Self(known);
        }
        let (link, incarnations) = (PerProcess::default(), PerProcess::default());
        let client = Arc::new(Client { address, link, incarnations });
        clients.insert(address, Arc::downgrade(&client));
        Self(client)
    }

    /// Where the actor is.
    #[must_use]
    pub fn address(&self) -> Address {
        self.0.address
    }

    /// Has errors tell how the process ended that is at the address and was started after `since`, which only who started
    /// it can know. `obituary` waits for its end at most for the time that it gets.
    ///
    /// Of one process the first is kept, and none of a process that was there earlier.
    pub fn set_obituary(
        &self,
        since: Instant,
        obituary: impl Fn(Duration) -> Option<End> + Send + Sync + 'static,
    ) {
        let mut known = lock(self.0.incarnations.get());
        if known.last.as_ref().is_none_or(|last| last.since < since) {
            known.before = known.last.replace(Incarnation { since, obituary: Arc::new(obituary) });
        }
    }

    /// Whether this thread may wait for an answer.
    ///
    /// # Errors
    ///
    /// [`CallFailure::OwnActor`]: it carries out a method of that actor.
    pub fn check_wait(&self) -> Result<(), CallFailure> {
        self.0.check_wait()
    }

    /// Sends a request, which [`begin`](super::frame::begin) has begun, without waiting for its answer.
    ///
    /// # Errors
    ///
    /// Nobody listens, or too much waits there already. The request was not sent.
    pub fn send(&self, mut frame: Vec<u8>) -> Result<Ticket, CallFailure> {
        let link = self.0.link(None)?;
        let (link, id) = match link.send(&mut frame) {
            Ok(id) => (link, id),
            Err(Unsent::Full) => return Err(CallFailure::Overloaded),
            // Nothing of it was sent, so nothing is repeated.
            Err(Unsent::Lost) => {
                let link = self.0.link(Some(&link))?;
                match link.send(&mut frame) {
                    Ok(id) => (link, id),
                    Err(_) => return Err(self.0.gone(Some(&link))),
                }
            }
        };
        Ok(Ticket { client: Arc::clone(&self.0), link, id, origin: Origin::here() })
    }
}

impl Client {
    fn check_wait(&self) -> Result<(), CallFailure> {
        if is_served(self.address) { Err(CallFailure::OwnActor) } else { Ok(()) }
    }

    /// The connection, other than `lost`; made now if there is none.
    fn link(&self, lost: Option<&Arc<Link>>) -> Result<Arc<Link>, CallFailure> {
        let mut slot = lock(self.link.get());
        let known = slot.as_ref().filter(|link| lost.is_none_or(|lost| !Arc::ptr_eq(link, lost)));
        if let Some(link) = known.filter(|link| link.is_usable()) {
            return Ok(Arc::clone(link));
        }
        let Some(stream) = connect(self.address, None)? else {
            drop(slot);
            return Err(self.gone(None));
        };
        Ok(Arc::clone(slot.insert(Arc::new(Link::new(stream, authkey()?)))))
    }

    /// The process is not there, or not any more: that at the other end of `lost`, if there was a connection.
    ///
    /// A connection may have waited for its process while that was started, and outlive it until the next one is there. Who
    /// it led to is known from the end of the handshake only.
    fn gone(&self, lost: Option<&Link>) -> CallFailure {
        let met = lost.and_then(Link::met);
        let incarnation = lock(self.incarnations.get()).behind(met).cloned();
        match incarnation.and_then(|incarnation| (incarnation.obituary)(MOMENT)) {
            // An actor that is stopped says goodbye to whoever it has met. This one left in the middle of something.
            Some(End::Stopped) if met.is_some() => {
                CallFailure::Died { reason: Some(ExitStatus::Exited(0).to_string()) }
            }
            Some(End::Stopped) => CallFailure::Stopped,
            Some(End::Died(reason)) => CallFailure::Died { reason: Some(reason) },
            None => CallFailure::Died { reason: None },
        }
    }

    fn failure(&self, loss: Loss, link: &Link) -> CallFailure {
        match loss {
            Loss::Died => self.gone(Some(link)),
            Loss::Stopped => CallFailure::Stopped,
            Loss::NotAuthenticated => crate::Error::NotAuthenticated.into(),
            Loss::Malformed => crate::Error::Malformed { what: "reply of an actor" }.into(),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _passage = gate::enter(LIST_IN_USE);
        let mut clients = lock(&CLIENTS);
        // Somebody may have made a new one for the same address meanwhile.
        if clients.get(&self.address).is_some_and(|known| known.strong_count() == 0) {
            clients.remove(&self.address);
        }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({})", self.0.address)
    }
}

impl PartialEq for Caller {
    fn eq(&self, other: &Self) -> bool {
        self.0.address == other.0.address
    }
}

impl Eq for Caller {}

impl Serialize for Caller {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.address.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Caller {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::at(Address::deserialize(deserializer)?))
    }
}

/// What a request is to people.
const CALL: &str = "the answer to a call";

/// A request that was sent. Dropping it gives the answer up; the request is carried out all the same.
pub struct Ticket {
    client: Arc<Client>,
    link: Arc<Link>,
    id: u64,
    /// A copy of this process does not get the answer.
    origin: Origin,
}

impl Ticket {
    /// Has the request go out although nobody waits for its answer yet.
    ///
    /// # Errors
    ///
    /// The thread that does so cannot be started.
    pub fn set_off(&self) -> crate::Result<()> {
        self.origin.check(CALL)?;
        self.link.see_to_requests()
    }

    /// Waits for the answer on the calling thread.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn wait(self) -> Result<Answer, CallFailure> {
        self.origin.check(CALL)?;
        self.client.check_wait()?;
        self.link.wait(self.id).map_err(|loss| self.client.failure(loss, &self.link))
    }

    /// The answer, or a promise to wake `context` when it is there. Not to be asked again after the answer.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn poll(&mut self, context: &Context<'_>) -> Poll<Result<Answer, CallFailure>> {
        self.origin.check(CALL)?;
        self.client.check_wait()?;
        self.link.poll(self.id, context).map_err(|loss| self.client.failure(loss, &self.link))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.origin.is_here() {
            self.link.forget(self.id);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("address", &self.client.address)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(text: &'static str) -> impl Fn(Duration) -> Option<End> {
        move |_| Some(End::Died(text.to_owned()))
    }

    #[test]
    fn loss_of_a_connection_is_explained_by_the_end_of_the_process_behind_it() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let caller = Caller::at(Address::random().unwrap());
        let reason = |met: Option<u64>| {
            let link = Link::met_at(met.map(at));
            match caller.0.gone(Some(&link)) {
                CallFailure::Died { reason } => reason,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(reason(Some(1)), None, "nobody said anything");
        caller.set_obituary(at(10), says("one"));
        assert_eq!(reason(Some(1)), None, "that was a process of which nothing is known");
        assert_eq!(reason(Some(11)).as_deref(), Some("one"));
        caller.set_obituary(at(20), says("two"));
        caller.set_obituary(at(20), says("two again"));
        caller.set_obituary(at(10), says("one, which is over"));
        let table = [(1, None), (11, Some("one")), (21, Some("two"))];
        for (met, expected) in table {
            assert_eq!(reason(Some(met)).as_deref(), expected, "met at {met}");
        }
        assert_eq!(reason(None).as_deref(), Some("two"), "it waited for the last one, which never answered");
    }
}
