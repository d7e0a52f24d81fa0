//! Descriptors on their way through memory: deposited by who sends, taken by who receives.
//!
//! A descriptor can only go beside the bytes of a socket. What goes through a queue, or to the worker of a pool, is bytes alone;
//! so the descriptor is left with another process of the family, and the bytes have a [`Ticket`] for it. It is there also when the
//! sender has ended. Whoever keeps it is the *host*: the oldest process of those that use shared memory, which mostly is the first
//! one of the family. That one keeps what it sends itself; any other leaves it with somebody else, if there is anybody.
//!
//! ```text
//! deposited -> taken             by the first who shows the ticket
//!           -> taken back        by the sender: the message was not sent; or by who ends the queue in which it was left, or cannot
//!                                decode it
//! lent      -> lent ...          as often as the ticket is shown: the message may be decoded by several
//!           -> taken back        by the sender: it is settled; or the sender is gone, and nobody can need it
//! ```
//!
//! | who is killed | what becomes of the descriptor |
//! |---|---|
//! | the sender, before it has the ticket | the host cannot tell it, and drops it |
//! | the sender, then, before the message is sent | it stays until the host ends, unless it is lent |
//! | the sender, later | it is taken as if nothing had happened, or no longer lent |
//! | the receiver, before it asks | it stays until the host ends, unless it is lent |
//! | the receiver, as it asks | it ends with the receiver |
//! | who gives tickets back, before it asks | it stays until the host ends |
//! | the host | it ends; whoever shows the ticket is told so, and a sender that waits asks the next oldest |
//!
//! Invariants:
//! - a host keeps at most [`MOST`] descriptors; what nobody takes ends with it;
//! - what is kept is private: no copy of the host by fork has it;
//! - the host does for itself what it can do for itself; others are served by its thread `procession-deposit`, which starts when
//!   somebody first asks for it (see [`service`]);
//! - nobody waits longer than [`PATIENCE`], and a keeper not at all: tickets that it gives back are a thread's affair, `procession-give`.

mod service;

use crate::arena::{self, Arena, arena};
use crate::authkey::random_bytes;
use crate::codec::HandleFd;
use crate::gate::{self, Passage, PerProcess, PrivateFd};
use crate::liveness::ProcessId;
use crate::{Error, Result, start, travel};
use nix::sys::signal::SigSet;
use serde::{Deserialize, Serialize};
use service::{STACK, ask};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Most descriptors that a host keeps.
const MOST: usize = 512;

/// How long a host is waited for. It may be stopped, or gone; 5 s, as OTP's default for a call.
const PATIENCE: Duration = Duration::from_secs(5);

/// For errors.
const WHAT: &str = "descriptor";

/// Names a descriptor that was deposited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ticket {
    /// The [`ProcessId`] of the host.
    host: u32,
    number: Number,
}

/// Random, so that nobody takes what he was not given the ticket for.
type Number = [u8; 16];

/// What a host is asked for.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// Lent by a process of this [`ProcessId`], or to be taken once.
    Deposit {
        fd: HandleFd,
        lender: Option<u32>,
    },
    Take(Number),
    TakeBack(Vec<Number>),
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Deposited(Number),
    Taken(HandleFd),
    TakenBack,
    /// It keeps nothing by that number.
    Gone,
    Failed(String),
}

struct Entry {
    fd: PrivateFd,
    /// It is lent, by this process.
    lender: Option<ProcessId>,
}

/// What this process keeps.
#[derive(Default)]
struct Store(BTreeMap<Number, Entry>);

/// A copy by fork keeps nothing.
fn store() -> MutexGuard<'static, Store> {
    static STORE: OnceLock<PerProcess<Mutex<Store>>> = OnceLock::new();
    let store = STORE.get_or_init(PerProcess::default).get();
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    fn put(&mut self, fd: OwnedFd, lender: Option<ProcessId>) -> Result<Number> {
        if self.0.len() >= MOST {
            return Err(Error::TooManyDeposits { limit: MOST });
        }
        let number = random_bytes()?;
        self.0.insert(number, Entry { fd: fd.into(), lender });
        Ok(number)
    }

    fn take(&mut self, number: &Number) -> Result<OwnedFd> {
        let entry = self.0.get(number).ok_or(Error::Gone { what: WHAT })?;
        let fd = entry.fd.as_fd().try_clone_to_owned();
        let fd = fd.map_err(|error| Error::os("duplicate a descriptor that was deposited", error))?;
        if entry.lender.is_none() {
            self.0.remove(number);
        }
        Ok(fd)
    }

    /// What was lent by processes that are gone is lent no more.
    fn prune(&mut self, is_there: impl Fn(ProcessId) -> bool) {
        self.0.retain(|_, entry| entry.lender.is_none_or(&is_there));
    }
}

impl Request {
    /// Does it, in the host.
    fn carry_out(self) -> Result<Answer> {
        let _passage = gate::enter("keeping a descriptor for others");
        let mut store = store();
        match self {
            Self::Deposit { fd, lender } => {
                let lender =
                    lender.map(|bits| ProcessId::from_bits(bits).ok_or(Error::Malformed { what: "lender" }));
                store.put(fd.into_owned(), lender.transpose()?).map(Answer::Deposited)
            }
            Self::Take(number) => store.take(&number).map(|fd| Answer::Taken(fd.into())),
            Self::TakeBack(numbers) => {
                let ended: Vec<_> = numbers.iter().filter_map(|number| store.0.remove(number)).collect();
                drop(store);
                // Closed without the lock.
                drop(ended);
                Ok(Answer::TakenBack)
            }
        }
    }

    /// Has the host do it.
    fn send(self, host: ProcessId) -> Result<Answer> {
        self.send_until(host, Instant::now() + PATIENCE)
    }

    fn send_until(self, host: ProcessId, deadline: Instant) -> Result<Answer> {
        if arena::own() == Some(host) {
            return self.carry_out();
        }
        match ask(host, &self, deadline)? {
            Answer::Gone => Err(Error::Gone { what: WHAT }),
            Answer::Failed(reason) => {
                Err(Error::os("leave a descriptor with another process", std::io::Error::other(reason)))
            }
            answer => Ok(answer),
        }
    }
}

/// What a keeper does when it was woken: somebody may want this process as a host, or a lender may be gone.
pub(crate) fn look_after(own: ProcessId) {
    let Ok(arena) = arena() else { return };
    service::serve_if_wanted(arena, own);
    let _passage = gate::enter("keeping a descriptor for others");
    store().prune(|lender| arena.has_slot(lender));
}

/// Who shall keep what this process sends; of the hosts in `lost`, each was gone when it was asked.
fn host(arena: &Arena, own: ProcessId, lost: &[ProcessId]) -> ProcessId {
    // With the first one of the family, mostly all end.
    let keeps_its_own = start::origin().is_none();
    let is_fit = |host: ProcessId| (keeps_its_own || host != own) && !lost.contains(&host);
    arena.oldest(is_fit).unwrap_or(own)
}

/// A descriptor that was deposited for a message. Dropped, it is taken back.
#[derive(Debug)]
pub(crate) struct Deposit {
    ticket: Ticket,
    by: ProcessId,
    is_left: bool,
}

impl Deposit {
    /// Deposits a duplicate of `fd`: to be taken once, or as often as the ticket is shown.
    pub(crate) fn new(fd: BorrowedFd<'_>, is_lent: bool) -> Result<Self> {
        let arena = arena()?;
        let own = arena.own()?;
        let mut lost = Vec::new();
        loop {
            let host = host(arena, own, &lost);
            let duplicate = fd.try_clone_to_owned();
            let duplicate = duplicate.map_err(|error| Error::os("duplicate a descriptor", error))?;
            let lender = is_lent.then(|| own.bits());
            match (Request::Deposit { fd: duplicate.into(), lender }).send(host) {
                Ok(Answer::Deposited(number)) => {
                    let ticket = Ticket { host: host.bits(), number };
                    return Ok(Self { ticket, by: own, is_left: false });
                }
                Ok(_) => return Err(Error::Malformed { what: "answer of whoever keeps descriptors" }),
                // It has been killed. Each is asked once.
                Err(Error::Gone { .. }) if !lost.contains(&host) => lost.push(host),
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn ticket(&self) -> Ticket {
        self.ticket
    }

    /// The message has left: whoever shows the ticket takes it.
    pub(crate) fn leave(mut self) {
        self.is_left = true;
    }
}

impl Drop for Deposit {
    fn drop(&mut self) {
        // In a copy by fork, it is the parent's.
        let is_ours = arena::own() == Some(self.by);
        let host = ProcessId::from_bits(self.ticket.host).filter(|_| is_ours && !self.is_left);
        if let Some(host) = host {
            // If the host is gone, so is the descriptor.
            let _ = Request::TakeBack(vec![self.ticket.number]).send(host);
        }
    }
}

/// Takes what a ticket is for. Whatever comes of it, nobody need give the ticket back.
pub(crate) fn take(ticket: Ticket) -> Result<OwnedFd> {
    travel::note_ticket(ticket);
    let host = ProcessId::from_bits(ticket.host).ok_or(Error::Malformed { what: "ticket" })?;
    match Request::Take(ticket.number).send(host)? {
        Answer::Taken(fd) => Ok(fd.into_owned()),
        _ => Err(Error::Malformed { what: "answer of whoever keeps descriptors" }),
    }
}

/// Tickets of messages that nobody will decode.
#[derive(Debug, Default, Serialize, Deserialize)]
#[must_use = "the descriptors stay where they are until the tickets are given back"]
pub(crate) struct Tickets(Vec<Ticket>);

impl Tickets {
    /// Takes those over.
    pub(crate) fn append(&mut self, mut more: Self) {
        self.0.append(&mut more.0);
    }

    /// One less; mostly the last one.
    pub(crate) fn remove(&mut self, ticket: Ticket) {
        if let Some(at) = self.0.iter().rposition(|&other| other == ticket) {
            self.0.swap_remove(at);
        }
    }

    /// Has the hosts drop what the tickets are for. For all of them together, they are waited for no longer than [`PATIENCE`]; what
    /// one does not drop then stays until it ends.
    ///
    /// Whoever is inside the gate waits for nobody: then it is done [aside](Self::give_back_aside).
    pub(crate) fn give_back(self) {
        if self.0.is_empty() || gate::is_inside() {
            return self.give_back_aside();
        }
        let deadline = Instant::now() + PATIENCE;
        for (host, numbers) in self.by_host() {
            let host = ProcessId::from_bits(host);
            let _ = host.map(|host| Request::TakeBack(numbers).send_until(host, deadline));
        }
    }

    /// Does it on a thread of its own, if somebody else has to be asked. Without one to be had, the descriptors stay until their hosts end.
    pub(crate) fn give_back_aside(self) {
        let own = arena::own().map(ProcessId::bits);
        if self.0.iter().all(|ticket| Some(ticket.host) == own) {
            let numbers = self.by_host().into_values();
            return numbers.for_each(|numbers| drop(Request::TakeBack(numbers).carry_out()));
        }
        let run = move |passage: Passage| {
            let _ = SigSet::all().thread_block();
            drop(passage);
            self.give_back();
        };
        let _ = gate::spawn(Builder::new().name("procession-give".to_owned()).stack_size(STACK), run);
    }

    /// Not more of each host than it can keep.
    fn by_host(self) -> BTreeMap<u32, Vec<Number>> {
        let mut hosts: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for Ticket { host, number } in self.0 {
            let numbers = hosts.entry(host).or_default();
            if numbers.len() < MOST {
                numbers.push(number);
            }
        }
        hosts
    }
}

impl FromIterator<Ticket> for Tickets {
    fn from_iter<I: IntoIterator<Item = Ticket>>(tickets: I) -> Self {
        Self(tickets.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
