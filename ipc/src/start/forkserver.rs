//! The start method `forkserver`: a helper with one thread copies itself for us.
//!
//! The server is this program, executed once and taken over before `main`; it runs nothing but `serve`. A request
//! carries the new child's start socket; the server clones itself with CLONE_PARENT, so the child is *ours* (we wait
//! for it, its parent is us) and sends back pid and pidfd. Nothing of the task goes through the server.
//!
//! The server is always one child ahead: while a child runs, it makes the next one, which waits at its start socket.
//! A start then only sends a message. The waiting child costs no processor time and about 100 KiB.
//!
//! The server ends when its socket does, which is when we end; so does the child that waits. If the server was killed,
//! the next start makes a new one. No start message has been sent to a child that we do not know, so nothing runs twice.
//! What a dead server leaves behind is taken care of by whoever sees it first: the next start, or who watches the server
//! and calls [`bury`].
//!
//! Invariant: a child that is taken is in the table of children before the lock of the slot is given back. So what has the
//! server's name and is not in the table is nobody's.
//! When user or groups of this process have changed, the next start makes a new one too: nothing that we start may have
//! rights that we gave up.

#![allow(unsafe_code)]

use super::bootstrap;
use super::entry::Role;
use super::parcel::{Kind, Parcel};
use super::{Enter, PATIENCE, StartMethod, code, preload, spawn, surroundings};
use crate::child::{About, Child};
use crate::gate::{self, PrivateFd};
use crate::sys::fd::{is_hung_up, wait_readable};
use crate::sys::process::{
    Cloned, Disposition, children_named, clone_sibling, discard, pidfd_open, set_disposition, take_status,
    thread_id_address,
};
use crate::sys::rights::Credentials;
use crate::sys::socket::{packet_pair, peer};
use crate::{Error, Result, unwind};
use nix::libc;
use nix::sys::signal::Signal;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;
use tracing::info;

/// Name of the server and of the child that waits, as process lists show it.
const NAME: &CStr = c"procession-fork";

/// The server of this process.
struct Server {
    /// Who started it: the copy after a fork must not use its parent's.
    owner: u32,
    /// Its children have these; ours may have changed since.
    credentials: Credentials,
    child: Arc<Child>,
    socket: PrivateFd,
    /// Our end of the start socket of the child that is being made.
    next: Option<PrivateFd>,
    /// Whether somebody has been given it to watch.
    is_watched: bool,
}

static SERVER: Mutex<Option<Server>> = Mutex::new(None);

/// The process that the last server was made by: a further one takes the place of a lost one.
static SERVED: AtomicU32 = AtomicU32::new(0);

/// What a look at the server is to a fork that waits for it.
const SLOT_IN_USE: &str = "the fork server's slot";

/// The caller is inside the gate.
fn lock() -> MutexGuard<'static, Option<Server>> {
    SERVER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In a copy of this process: the server is its parent's. The caller is inside the gate.
#[inline]
pub(super) fn forget() {
    drop(lock().take());
}

/// Whether there is a server. The gate is closed.
pub(super) fn is_there() -> bool {
    lock().is_some()
}

/// Takes the child that waits, or has the server make one, and has it entered into the table of children. The caller is
/// inside the gate.
pub(super) fn process(enter: &mut Enter<'_>) -> Result<super::Made> {
    let mut slot = lock();
    let own = std::process::id();
    let credentials = Credentials::current().map_err(|e| Error::os("read user and groups", e))?;
    let mut is_restart = false;
    let usable = slot.as_mut().filter(|server| server.owner == own && server.credentials == credentials);
    let (pid, pidfd, socket) = match usable.map_or(Err(Error::Disconnected), Server::take) {
        Err(Error::Disconnected) => {
            if let Some(server) = slot.take().filter(|server| server.owner == own) {
                server.retire();
            }
            let server = slot.insert(launch(credentials)?);
            is_restart = SERVED.swap(own, Ordering::Relaxed) == own;
            server.take().map_err(|error| match error {
                Error::Disconnected => Error::ForkServerLost { pid: server.child.pid() },
                other => other,
            })?
        }
        other => other?,
    };
    let child = enter(pid, pidfd);
    let newcomer = slot.as_mut().and_then(Server::newcomer);
    // A subscriber may start processes too.
    drop(slot);
    if is_restart {
        info!(target: "procession::forkserver", "the fork server was replaced");
    }
    Ok(super::Made { child, socket, helper: newcomer })
}

/// Takes care of what `server` leaves behind, if it is a fork server that has ended: nothing is asked of it any more, and
/// the children that it had made are told to leave. They are given to the caller, who reaps them.
///
/// Never waits: `None` while a start is using the servers. Then it has to be tried again.
#[must_use]
pub fn bury(server: &Arc<Child>) -> Option<Vec<Arc<Child>>> {
    let _passage = gate::enter(SLOT_IN_USE);
    let mut slot = match SERVER.try_lock() {
        Ok(slot) => slot,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return None,
    };
    let dead = slot.take_if(|current| Arc::ptr_eq(&current.child, server) && !server.is_alive());
    Some(dead.map(Server::strays).unwrap_or_default())
}

impl Server {
    fn take(&mut self) -> Result<(i32, OwnedFd, PrivateFd)> {
        loop {
            if self.next.is_none() {
                self.next = Some(self.order()?);
            }
            // Also a refusal is the answer to this order, and no other will come.
            let (delivered, next) = (self.delivered(), self.next.take());
            let (pid, pidfd) = delivered?;
            let Some(next) = next else { return Err(Error::Disconnected) };
            // A failure shows at the next start.
            self.next = self.order().ok();
            // The one that waited may have been killed meanwhile, by whoever.
            if is_hung_up(pidfd.as_fd()).map_err(|e| Error::os("look at a new process", e))? {
                let _ = take_status(pidfd.as_fd());
                continue;
            }
            return Ok((pid, pidfd, next));
        }
    }

    /// Asks for a child.
    fn order(&self) -> Result<PrivateFd> {
        let (ours, theirs) = packet_pair().map_err(|e| Error::os("open a start socket", e))?;
        Parcel { kind: Kind::Fork, bytes: Vec::new(), handles: vec![theirs] }.send(&self.socket)?;
        Ok(ours.into())
    }

    /// The server, for the first who asks.
    fn newcomer(&mut self) -> Option<Arc<Child>> {
        let was_watched = std::mem::replace(&mut self.is_watched, true);
        (!was_watched).then(|| Arc::clone(&self.child))
    }

    /// Ends the server, if it is not dead already, and waits a while for the children that it had made.
    fn retire(self) {
        let deadline = Instant::now() + PATIENCE;
        for stray in self.strays() {
            // If it takes its time, a later start reaps it.
            let _ = stray.wait(Some(deadline));
        }
    }

    /// Ends the server, if it is not dead already, and tells the children that it had made to leave: their start sockets
    /// end. There may be some that it had not told of: they have its name, and nobody else's child has.
    fn strays(mut self) -> Vec<Arc<Child>> {
        let unused = |pid, pidfd| Child::register(pid, pidfd, About::helper("unused child"), Vec::new());
        // All that a dead one has said lies there already.
        let answers = || wait_readable(self.socket.as_fd(), Some(Instant::now())).unwrap_or(false);
        let has_answer = self.next.is_some() && (self.child.is_alive() || answers());
        let told = if has_answer { self.delivered().ok() } else { None };
        let mut strays: Vec<_> = told.map(|(pid, pidfd)| unused(pid, pidfd)).into_iter().collect();
        self.next = None;
        for pid in children_named(NAME) {
            let Ok(pidfd) = pidfd_open(pid) else { continue };
            if !crate::child::is_known(pid) {
                strays.push(unused(pid, pidfd));
            }
        }
        strays
    }

    /// Waits for the child that was asked for.
    fn delivered(&self) -> Result<(i32, OwnedFd)> {
        let (answer, is_cut) = Parcel::receive_or_cut(&self.socket)?;
        match (answer.kind, answer.as_number(), answer.handles.into_iter().next()) {
            (Kind::Done, Some(pid), Some(pidfd)) => Ok((pid, pidfd)),
            (Kind::Refused, Some(errno), _) => {
                Err(Error::os("copy the fork server", std::io::Error::from_raw_os_error(errno)))
            }
            // No descriptor was free for the pidfd.
            (Kind::Done, Some(pid), None) if is_cut && pid > 1 => {
                discard(pid);
                let error = std::io::Error::from_raw_os_error(libc::EMFILE);
                Err(Error::os(format!("take over process {pid}"), error))
            }
            _ => Err(Error::Malformed { what: "answer of the fork server" }),
        }
    }
}

/// Process id of the running server, for tests that kill it and for people who look at a process list.
#[must_use]
pub fn pid() -> Option<i32> {
    let _passage = gate::enter(SLOT_IN_USE);
    lock().as_ref().filter(|server| server.owner == std::process::id()).map(|server| server.child.pid())
}

fn launch(credentials: Credentials) -> Result<Server> {
    surroundings::record();
    let (pid, pidfd, socket) = spawn::process(Role::Server, preload::message()?)?;
    // A daemon: the exit handler ends it with us, and its socket ends it when we are killed.
    let child = Child::register(pid, pidfd, About::helper("fork server"), Vec::new());
    let hello = match Parcel::receive(&socket) {
        Err(Error::Disconnected) => return Err(lost_at_start(&child)?),
        hello => hello?,
    };
    let reason = || String::from_utf8_lossy(&hello.bytes).into_owned();
    match hello.kind {
        Kind::Done => {
            let owner = std::process::id();
            Ok(Server { owner, credentials, child, socket, next: None, is_watched: false })
        }
        Kind::Failure => Err(Error::PreloadFailed { reason: reason() }),
        _ => Err(Error::NotSupported { method: "forkserver", reason: reason() }),
    }
}

/// Why the server ended before it could make a child.
fn lost_at_start(server: &Child) -> Result<Error> {
    let status = server.wait(Some(Instant::now() + PATIENCE))?;
    Ok(match status {
        Some(status) if preload::is_set() => {
            Error::PreloadFailed { reason: format!("did not return: the fork server {status}") }
        }
        _ => Error::ForkServerLost { pid: server.pid() },
    })
}

/// Does something that a server which runs already would not notice.
pub(super) fn unless_started(change: impl FnOnce()) -> Result<()> {
    let _passage = gate::enter(SLOT_IN_USE);
    let slot = lock();
    match slot.as_ref().filter(|server| server.owner == std::process::id()) {
        Some(server) => Err(Error::ForkServerRuns { pid: server.child.pid() }),
        None => {
            change();
            Ok(())
        }
    }
}

/// The whole life of the server process; `message` came with its invitation.
pub(super) fn serve(socket: &OwnedFd, message: &[u8]) -> ! {
    // Ctrl-C reaches the whole foreground group; the server goes on for whoever survives it.
    let at_interrupt = set_disposition(Signal::SIGINT, &Disposition::ignore()).ok();
    // Copies inherit the name, and take their own when they have something to do.
    let _ = nix::sys::prctl::set_name(NAME);
    // Once here, instead of once in each copy.
    unwind::install_hook();
    let thread_id = match prepare_to_serve(socket, message) {
        Ok(address) => address,
        Err(error) => {
            let (kind, reason) = match error {
                Error::PreloadFailed { reason } => (Kind::Failure, reason),
                Error::NotSupported { reason, .. } => (Kind::Refused, reason),
                other => (Kind::Refused, crate::error::chain(&other)),
            };
            let _ = Parcel { kind, bytes: reason.into_bytes(), handles: Vec::new() }.send(socket);
            bootstrap::leave(1)
        }
    };
    // Without it, children start more slowly.
    let _ = code::map_in_copies();
    if Parcel::bare(Kind::Done).send(socket).is_err() {
        bootstrap::leave(0)
    }
    loop {
        let Ok(parcel) = Parcel::receive(socket) else { bootstrap::leave(0) };
        let Some(start) = accepted(socket, parcel) else { bootstrap::leave(1) };
        // SAFETY: this process has one thread: `prepare_to_serve` has counted, and nothing runs since but this loop.
        let answer = match unsafe { clone_sibling(thread_id) } {
            Ok(Cloned::Copy) => become_child(socket, start, at_interrupt),
            Ok(Cloned::Original(pid, pidfd)) => {
                Parcel { handles: vec![pidfd], ..Parcel::number(Kind::Done, pid) }
            }
            Err(error) => Parcel::number(Kind::Refused, error.raw_os_error().unwrap_or(libc::EIO)),
        };
        if answer.send(socket).is_err() {
            bootstrap::leave(0)
        }
    }
}

/// Runs the preload function, and finds where this thread's id lies: all that can keep a server from working.
fn prepare_to_serve(socket: &OwnedFd, message: &[u8]) -> Result<usize> {
    StartMethod::ForkServer.check()?;
    preload::run(message, socket.as_fd())?;
    thread_id_address().map_err(|e| Error::os("find the id of this thread", e))
}

/// The start socket of a request, if it was made by the same process that made ours. Anything else means that the other
/// end of our socket is not in the hands that we were made for.
fn accepted(own: &OwnedFd, request: Parcel) -> Option<OwnedFd> {
    let start = request.handles.into_iter().next().filter(|_| request.kind == Kind::Fork)?;
    let same = peer(own.as_fd()).ok()? == peer(start.as_fd()).ok()?;
    same.then_some(start)
}

/// The copy closes what belongs to the server and goes on as a child.
fn become_child(server_socket: &OwnedFd, start: OwnedFd, at_interrupt: Option<Disposition>) -> ! {
    // Only the number is closed; `serve`'s frame, which owns it, is never returned to.
    let _ = nix::unistd::close(std::os::fd::AsRawFd::as_raw_fd(server_socket));
    // In a job in the background, Ctrl-C is ignored, and so it is here.
    at_interrupt.map(|before| set_disposition(Signal::SIGINT, &before));
    bootstrap::run_child(start)
}
