//! The start method `fork`: this process copies itself, with the calling thread alone.
//!
//! The copy begins with everything that this process has in memory, which is how a closure with captures gets there. What
//! it must not have is taken away before it runs anything (see `gate`): nobody else is in the middle of anything of ours
//! while it is made, and then the copy
//!
//! 1. loses every descriptor that is its parent's alone;
//! 2. forgets the parent's children, fork server, threads and actors;
//! 3. finds empty epoll instances where there were any: changing the shared ones would change them in the parent;
//! 4. reads the null device as its standard input, and waits until its parent knows it: so nothing runs that nobody knows of,
//!    and a status is not taken by others before there is a pidfd;
//! 5. counts from now on among those that have handles of shared objects, if its parent does;
//! 6. goes on as any child: steps, function, answer. It is sent nothing, since all of it is in its memory.
//!
//! Whatever can be found out, opened or allocated before the copy is made is. In a copy, each page that is written has to be
//! copied, and each 64 KiB of code that it runs first has to be mapped. Such a fault takes 2 to 3 us, and they are nearly all
//! of what is ours in the time that a copy takes (`perf record -e exceptions:page_fault_user` shows each). So what is not
//! needed is left out on this way, rather than done with nothing (encoded, searched, dropped); small functions are
//! `#[inline]`; and what is written lies together.
//!
//! It never returns into the frames of its caller, whose destructors do not run there. It leaves by [`end`]: exit handlers
//! that were registered in the copy run, those that came with it from the parent do not, ours excepted; nor is dropped what
//! the parent has in thread-locals.
//!
//! What a user's own statics and locks are in the copy is the user's affair, and the reason why threads that are not
//! ours must be allowed.

#![allow(unsafe_code)]

use super::{Enter, Made, START, StartMethod, bootstrap, forkserver};
use crate::arena::{self, seat};
use crate::gate::{self, Closed, Passage, PrivateFd};
use crate::sys::fd::{Epolls, Grave, beyond_standard_streams};
use crate::sys::image::main_image;
use crate::sys::process::{
    self, Forked, at_exit_first, exit_now, flush_c_streams, pidfd_open, run_exit_handlers,
};
use crate::sys::socket::packet_pair;
use crate::{Error, Result, unwind};
use crate::{call, child};
use nix::errno::Errno;
use nix::libc::{c_int, c_void};
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::read;
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

/// What a fork may and should do.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// It may leave threads behind that are not ours.
    pub(super) allow_threads: bool,
    /// The copy has the program's connections.
    pub(super) keeps_captured: bool,
}

/// Copies this process. The copy lives `life`, with its end of the start socket.
///
/// `enter` enters it into the table of children.
///
/// # Errors
///
/// Other threads, unless they are allowed; somebody of ours who does not come to a safe point; no process or descriptor
/// left.
#[expect(
    unreachable_code,
    reason = "the compiler knows that `life` does not return, but not what type that gives its arm"
)]
pub(super) fn process(
    passage: Passage,
    enter: &mut Enter<'_>,
    how: How,
    life: impl FnOnce(OwnedFd) -> Infallible,
) -> Result<(Made, Passage)> {
    let opening = |error| Error::os("open what a copy is given", error);
    let (ours, theirs) = packet_pair().map_err(opening)?;
    let (ours, theirs) = (PrivateFd::from(ours), beyond_standard_streams(theirs).map_err(opening)?);
    // These are made on first use, which must not be half done by another thread now.
    unwind::install_hook();
    let _ = main_image();
    child::prepare_exit();
    drop(passage);
    let closed = gate::close(how.allow_threads)?;
    if gate::is_ending() {
        let reason = "the program is ending, and a copy would be in the middle of that".to_owned();
        return Err(Error::NotSupported { method: StartMethod::Fork.name(), reason });
    }
    let epolls = known_epolls(&closed, &theirs).map_err(opening)?;
    let grave = Grave::dig().map_err(opening)?;
    let has_name_of_thread = nix::unistd::gettid() != nix::unistd::getpid();
    let held = arena::held();
    let has_children = child::are_there() || forkserver::is_there();
    let legacy = Legacy { grave, epolls, socket: theirs, has_children, has_name_of_thread };
    // SAFETY: the gate is closed, so no lock of ours is held by another thread, nor standard output; libc's own locks are
    // fork's affair. Other threads, which may hold more, are none or the caller's promise. The copy never leaves its arm.
    let forked = match unsafe { process::fork() } {
        Ok(Forked::Copy) => {
            let socket = begin(closed, legacy, how.keeps_captured);
            // If it cannot begin to use shared memory now, it tries again when it does.
            let _ = seat::take(await_go(&socket));
            match life(socket) {}
        }
        Ok(Forked::Original(pid)) => Ok(pid),
        Err(error) => Err(Error::os("fork", error)),
    };
    // While the gate is closed, nobody here drops a handle that the copy has.
    let seat = forked.as_ref().map_or(Ok(0), |pid| seat::seat(*pid, &held));
    // In this order: what the closure captured may have destructors, which are the user's.
    drop((closed, legacy, life));
    let pid = forked?;
    let passage = gate::enter(START);
    let known = seat.and_then(|seat| {
        let pidfd = pidfd_open(pid).map_err(|e| Error::os(format!("open a pidfd for process {pid}"), e))?;
        Ok((seat, pidfd))
    });
    match known {
        Ok((seat, pidfd)) => {
            let child = enter(pid, pidfd);
            // A copy that is gone already shows in its status.
            let _ = send(ours.as_fd().as_raw_fd(), &seat.to_ne_bytes(), MsgFlags::MSG_NOSIGNAL);
            Ok((Made { child, socket: ours, helper: None }, passage))
        }
        Err(error) => {
            process::discard(pid);
            Err(error)
        }
    }
}

/// Waits until the parent knows this copy: mostly it does by now, since it has less to do. The slot in shared memory that the copy
/// has, in one packet.
#[inline]
fn await_go(socket: &OwnedFd) -> u32 {
    let mut seat = [0; size_of::<u32>()];
    loop {
        match read(socket, &mut seat) {
            Err(Errno::EINTR) => {}
            Ok(length) if length == seat.len() => return u32::from_ne_bytes(seat),
            // The parent is gone, or gave this copy up.
            _ => bootstrap::leave(0),
        }
    }
}

/// What the parent has ready for the copy.
struct Legacy {
    grave: Grave,
    /// `None` if the copy must look for them.
    epolls: Option<Epolls>,
    /// The copy's end of the start socket.
    socket: OwnedFd,
    /// Whether this process has children, or a fork server: they are none of the copy's.
    has_children: bool,
    /// Whether the copy begins with the name of a thread, not of the process.
    has_name_of_thread: bool,
}

/// The epoll instances that a copy will have. If other threads run, those there are now need not be those that it will find.
fn known_epolls(closed: &Closed, socket: &OwnedFd) -> io::Result<Option<Epolls>> {
    if !closed.is_alone() {
        return Ok(None);
    }
    match Epolls::find(socket.as_fd()) {
        // Without /proc, the copy leaves alone what it does not know of.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(Epolls::default())),
        found => found.map(Some),
    }
}

/// Makes a process of its own of the copy. Its end of the start socket.
#[inline]
fn begin(closed: Closed, legacy: Legacy, keeps_captured: bool) -> OwnedFd {
    let Legacy { grave, epolls, socket, has_children, has_name_of_thread } = legacy;
    closed.become_copy(&grave, keeps_captured);
    if has_children {
        child::forget();
        forkserver::forget();
    }
    call::forget();
    // Without memory for one entry, the handlers of the parent run at the end as well.
    let _ = at_exit_first(leave, leave_now);
    // As above; the others fail for want of a descriptor, and there are now more than before.
    let epolls = epolls.map_or_else(|| Epolls::find(socket.as_fd()), Ok).unwrap_or_default();
    epolls.replace();
    grave.cover_standard_streams();
    if has_name_of_thread {
        bootstrap::take_name();
    }
    socket
}

/// The exit code of a copy that has come to the end of its life; [`OPEN`] before, also while it ends by exit(3).
static CODE: AtomicI32 = AtomicI32::new(OPEN);

/// No exit code: that is a number of eight bits.
const OPEN: c_int = -1;

/// Ends a copy.
///
/// Not by exit(3), which drops what this thread has in thread-locals: that is its parent's, which drops it as well.
#[inline]
pub(super) fn end(code: c_int) -> ! {
    CODE.store(code, Ordering::Relaxed);
    run_exit_handlers();
    leave(code, std::ptr::null_mut());
    exit_now(code)
}

/// In the place of [`leave`], where no exit code is known. Relaxed: this thread has stored it, or another one ends the process.
extern "C" fn leave_now(unused: *mut c_void) {
    match CODE.load(Ordering::Relaxed) {
        OPEN => {}
        code => leave(code, unused),
    }
}

/// The last of the copy's own exit handlers, and the first of those that it has: the parent's do not run.
extern "C" fn leave(code: c_int, _: *mut c_void) {
    child::end_children();
    flush_c_streams();
    exit_now(code)
}
