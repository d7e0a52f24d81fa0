//! Log events of other processes of the family, at this program's own `tracing` subscriber.
//!
//! ```text
//! child                                     one packet socket           this process
//! info!(..) -> subscriber `forward` ----->  for all descendants  -----> thread `procession-log`
//!              encodes one message          bounded, shared             replays it: same callsite, fields,
//!              and sends it (`channel`)                                 spans, plus `process` and `pid`
//! ```
//!
//! What a process does with its log is its role, which is decided when it is started, or when it starts its first
//! child:
//!
//! - *prints*: [`log_to_stderr`] was called here or in the parent. Each process prints its own lines, and its children
//!   get the role too.
//! - *receives*: the program has a global subscriber of its own. The thread starts with the first child.
//! - *forwards*: the parent receives or forwards. The socket is passed on to children.
//! - none: there is no subscriber, or forwarding is [off](set_forwarding). There is no thread, no descriptor, and nothing
//!   is sent: a start looks at one mutex.
//!
//! A message is never waited for without bound and never blocks the family (`channel`); a subscriber that panics or
//! stands still harms nobody else (`receive`).

mod channel;
mod fields;
mod forward;
mod receive;
mod replay;
mod site;
mod stderr;
mod wire;

use crate::{Error, Result, codec, gate};
use channel::Channel;
use forward::Forward;
use receive::Receiver;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stderr::ToStderr;
use tracing::dispatcher::{self, DefaultGuard, Dispatch};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::NoSubscriber;

/// Target of what this module itself has to say.
const TARGET: &str = "procession::log";

/// Whether children get the log of this process passed on. Relaxed: orders nothing but itself.
static IS_FORWARDING: AtomicBool = AtomicBool::new(true);

/// What this process does with its log, and which process that is: a copy made by fork has none.
static ROLE: Mutex<Option<(u32, Role)>> = Mutex::new(None);

#[derive(Clone)]
enum Role {
    Prints,
    Receives(Arc<Receiver>),
    Forwards(Arc<Channel>),
}

thread_local! {
    /// Keeps the forwarding subscriber in place on the main thread of a process that inherited another one.
    static KEPT: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

fn role() -> MutexGuard<'static, Option<(u32, Role)>> {
    let mut role = ROLE.lock().unwrap_or_else(PoisonError::into_inner);
    if role.as_ref().is_some_and(|(owner, _)| *owner != std::process::id()) {
        *role = None;
    }
    role
}

fn assign(slot: &mut Option<(u32, Role)>, role: Role) {
    *slot = Some((std::process::id(), role));
}

fn current() -> Option<Role> {
    let _passage = gate::enter("the role of the log");
    role().as_ref().map(|(_, role)| role.clone())
}

/// What a child is told about its log; the socket travels beside it.
#[derive(Debug, Serialize, Deserialize)]
enum Offer {
    /// Print up to this level.
    Print(u8),
    /// Send what is not more detailed than this level.
    Forward(u8),
}

/// Whether a process that is started has its log passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogForwarding {
    /// If its parent has a subscriber, which then gets its events.
    On,
    /// It has no subscriber but one that it installs itself.
    Off,
}

/// Decides about processes that are started from now on. The default is [`LogForwarding::On`].
pub fn set_forwarding(forwarding: LogForwarding) {
    IS_FORWARDING.store(forwarding == LogForwarding::On, Ordering::Relaxed);
}

/// Prints events of this process, and of those that it starts from now on, to standard error in Python's form. A second
/// call changes the level.
///
/// # Errors
///
/// [`Error::SubscriberInstalled`] if the program has a global subscriber of its own.
pub fn log_to_stderr(level: LevelFilter) -> Result<()> {
    let _passage = gate::enter("the role of the log");
    let mut slot = role();
    match &*slot {
        Some((_, Role::Prints)) => {}
        Some((_, Role::Forwards(channel))) => {
            channel.set_level(level);
            tracing::callsite::rebuild_interest_cache();
            return Ok(());
        }
        _ => {
            dispatcher::set_global_default(Dispatch::new(ToStderr))
                .map_err(|_| Error::SubscriberInstalled)?;
            assign(&mut slot, Role::Prints);
        }
    }
    stderr::set_level(level);
    Ok(())
}

/// Waits until the subscriber has seen all that other processes have logged so far, for a bounded time.
///
/// Returns at once if this process receives no logs.
pub fn settle() {
    if let Some(Role::Receives(receiver)) = current() {
        receiver.settle();
    }
}

/// What a child is to be told, as bytes and descriptors; nothing if it shall have no log.
pub(crate) fn offer() -> Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    if !IS_FORWARDING.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let (offer, socket) = match own_role()? {
        None => return Ok(None),
        Some(Role::Prints) => (Offer::Print(wire::level_number(stderr::level())), None),
        Some(Role::Receives(receiver)) if receiver.is_over() => return Ok(None),
        Some(Role::Receives(receiver)) => {
            let level = wire::level_number(LevelFilter::current());
            (Offer::Forward(level), Some(copy(receiver.sender())?))
        }
        Some(Role::Forwards(channel)) => {
            let level = wire::level_number(channel.level());
            (Offer::Forward(level), Some(copy(channel.socket())?))
        }
    };
    Ok(Some((codec::encode(&offer)?, socket.into_iter().collect())))
}

fn copy(socket: &impl AsFd) -> Result<OwnedFd> {
    socket.as_fd().try_clone_to_owned().map_err(|e| Error::os("copy the log socket", e))
}

/// The role of this process; it becomes a receiver here, if it has a subscriber.
fn own_role() -> Result<Option<Role>> {
    let mut slot = role();
    if slot.is_none() && has_subscriber() {
        assign(&mut slot, Role::Receives(Arc::new(Receiver::start()?)));
    }
    Ok(slot.as_ref().map(|(_, role)| role.clone()))
}

/// Whether somebody listens. (That of one thread counts too: tracing does not say which it is.)
fn has_subscriber() -> bool {
    dispatcher::has_been_set()
        && LevelFilter::current() != LevelFilter::OFF
        && dispatcher::get_default(|dispatch| !dispatch.is::<NoSubscriber>())
}

/// In a child: does what the parent said.
pub(crate) fn adopt(bytes: &[u8], handles: Vec<OwnedFd>) -> Result<()> {
    let malformed = || Error::Malformed { what: "log settings in a start message" };
    let level = |number| wire::level_of_number(number).ok_or_else(malformed);
    match codec::decode(bytes)? {
        Offer::Print(number) => {
            let level = level(number)?;
            let mut slot = role();
            // Inherited by a fork, if it is there already.
            let _ = dispatcher::set_global_default(Dispatch::new(ToStderr));
            assign(&mut slot, Role::Prints);
            stderr::set_level(level);
        }
        Offer::Forward(number) => {
            let socket = handles.into_iter().next().ok_or_else(malformed)?;
            let name = &crate::start::identity().name;
            let channel = Arc::new(Channel::new(socket, level(number)?, name));
            assign(&mut role(), Role::Forwards(Arc::clone(&channel)));
            forward::leave_all();
            install(&Dispatch::new(Forward::new(channel)));
            // Without memory for an entry, a last count of lost messages may go missing.
            let _ = crate::sys::process::at_exit(flush);
        }
    }
    Ok(())
}

/// Makes the dispatcher the global one; where a fork left the parent's in place, that of this thread at least.
fn install(dispatch: &Dispatch) {
    if dispatcher::set_global_default(dispatch.clone()).is_err() {
        // That of an ancestor goes first: leaving it restores what was before it.
        KEPT.take();
        KEPT.set(Some(dispatcher::set_default(dispatch)));
    }
}

/// At the end of a process that forwards.
extern "C" fn flush() {
    if let Some(Role::Forwards(channel)) = current() {
        channel.flush();
    }
}
