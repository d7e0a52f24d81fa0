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
//! When user or groups of this process have changed, the next start makes a new one too: nothing that we start may have
//! rights that we gave up.

#![allow(unsafe_code)]

use super::bootstrap;
use super::entry::Role;
use super::parcel::{Kind, Parcel};
use super::{StartMethod, preload, spawn, surroundings};
use crate::child::{About, Child};
use crate::sys::fd::is_hung_up;
use crate::sys::process::{
    Cloned, Disposition, clone_sibling, pidfd_open, set_disposition, take_status, thread_id_address,
};
use crate::sys::rights::Credentials;
use crate::sys::socket::{packet_pair, peer};
use crate::{Error, Result, unwind};
use nix::libc;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::info;

/// Name of the server and of the child that waits, as process lists show it.
const NAME: &CStr = c"procession-fork";

/// How long a start waits for a child to leave that the dead server had made.
const PATIENCE: Duration = Duration::from_secs(1);

/// The server of this process.
struct Server {
    /// Who started it: the copy after a fork must not use its parent's.
    owner: u32,
    /// Its children have these; ours may have changed since.
    credentials: Credentials,
    child: Arc<Child>,
    socket: OwnedFd,
    /// Our end of the start socket of the child that is being made.
    next: Option<OwnedFd>,
}

/// A process that was made for us: its pid, its pidfd and our end of its start socket.
type Made = (i32, OwnedFd, OwnedFd);

static SERVER: Mutex<Option<Server>> = Mutex::new(None);

/// Takes the child that waits, or has the server make one.
pub(super) fn process() -> Result<Made> {
    let mut slot = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    let own = std::process::id();
    let credentials = Credentials::current().map_err(|e| Error::os("read user and groups", e))?;
    if let Some(server) = slot.as_mut().filter(|s| s.owner == own && s.credentials == credentials) {
        match server.take() {
            Err(Error::Disconnected) => {}
            other => return other,
        }
    }
    let before = slot.take().filter(|server| server.owner == own);
    let is_restart = before.is_some();
    if let Some(server) = before {
        server.retire();
        reap_strays();
    }
    let server = slot.insert(launch(credentials)?);
    let made = server.take().map_err(|error| match error {
        Error::Disconnected => Error::ForkServerLost { pid: server.child.pid() },
        other => other,
    });
    // A subscriber may start processes too.
    drop(slot);
    if is_restart {
        info!(target: "procession::forkserver", "the fork server was replaced");
    }
    made
}

impl Server {
    fn take(&mut self) -> Result<Made> {
        loop {
            if self.next.is_none() {
                self.next = Some(self.order()?);
            }
            let (pid, pidfd) = self.delivered()?;
            let Some(next) = self.next.take() else { return Err(Error::Disconnected) };
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
    fn order(&self) -> Result<OwnedFd> {
        let (ours, theirs) = packet_pair().map_err(|e| Error::os("open a start socket", e))?;
        Parcel { kind: Kind::Fork, bytes: Vec::new(), handles: vec![theirs] }.send(&self.socket)?;
        Ok(ours)
    }

    /// Ends the server, if it is not dead already, and the child that waits.
    fn retire(mut self) {
        let Ok((pid, pidfd)) = self.delivered() else { return };
        let child = Child::register(pid, pidfd, About::helper("unused child"), Vec::new());
        self.next = None;
        // It leaves when its start socket ends. If it takes its time, a later start reaps it.
        let _ = child.wait(Some(Instant::now() + PATIENCE));
    }

    /// Waits for the child that was asked for.
    fn delivered(&self) -> Result<(i32, OwnedFd)> {
        let answer = Parcel::receive(&self.socket)?;
        match (answer.kind, answer.as_number(), answer.handles.into_iter().next()) {
            (Kind::Done, Some(pid), Some(pidfd)) => Ok((pid, pidfd)),
            (Kind::Refused, Some(errno), _) => {
                Err(Error::os("copy the fork server", std::io::Error::from_raw_os_error(errno)))
            }
            _ => Err(Error::Malformed { what: "answer of the fork server" }),
        }
    }
}

/// Process id of the running server, for tests that kill it and for people who look at a process list.
#[must_use]
pub fn pid() -> Option<i32> {
    let slot = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    slot.as_ref().filter(|server| server.owner == std::process::id()).map(|server| server.child.pid())
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
        Kind::Done => Ok(Server { owner: std::process::id(), credentials, child, socket, next: None }),
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
    let slot = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    match slot.as_ref().filter(|server| server.owner == std::process::id()) {
        Some(server) => Err(Error::ForkServerRuns { pid: server.child.pid() }),
        None => {
            change();
            Ok(())
        }
    }
}

/// Reaps children that a dead server had made and not told of: they have its name, and nobody else's child has.
fn reap_strays() {
    for pid in crate::sys::process::children_named(NAME) {
        let Ok(pidfd) = pidfd_open(pid) else { continue };
        if crate::child::is_known(pid) {
            continue;
        }
        let child = Child::register(pid, pidfd, About::helper("unused child"), Vec::new());
        // It leaves when its start socket ends. If it takes its time, a later start reaps it.
        let _ = child.wait(Some(Instant::now() + PATIENCE));
    }
}

/// The whole life of the server process; `message` came with its invitation.
pub(super) fn serve(socket: &OwnedFd, message: &[u8]) -> ! {
    // Ctrl-C reaches the whole foreground group; the server goes on for whoever survives it.
    let _ = set_disposition(libc::SIGINT, Disposition::Ignore);
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
    if Parcel::bare(Kind::Done).send(socket).is_err() {
        bootstrap::leave(0)
    }
    loop {
        let Ok(parcel) = Parcel::receive(socket) else { bootstrap::leave(0) };
        let Some(start) = accepted(socket, parcel) else { bootstrap::leave(1) };
        // SAFETY: this process has one thread: `prepare_to_serve` has counted, and nothing runs since but this loop.
        let answer = match unsafe { clone_sibling(thread_id) } {
            Ok(Cloned::Copy) => become_child(socket, &start),
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
fn become_child(server_socket: &OwnedFd, start: &OwnedFd) -> ! {
    // Only the number is closed; `serve`'s frame, which owns it, is never returned to.
    let _ = nix::unistd::close(std::os::fd::AsRawFd::as_raw_fd(server_socket));
    let _ = set_disposition(libc::SIGINT, Disposition::Default);
    bootstrap::run_child(start)
}
