//! The start method `fork`: this process copies itself, with the calling thread alone.
//!
//! The copy begins with everything that this process has in memory, which is how a closure with captures gets there. What
//! it must not have is taken away before it runs anything (see `gate`): nobody else is in the middle of anything of ours
//! while it is made, and then the copy
//!
//! 1. loses what was on its way to it, and every descriptor that is its parent's alone;
//! 2. forgets the parent's children, fork server, threads and actors;
//! 3. finds empty epoll instances where there were any: changing the shared ones would change them in the parent;
//! 4. reads the null device as its standard input, and goes on as any child: message, steps, function, answer.
//!
//! It never returns into the frames of its caller, whose destructors do not run there. It leaves by `exit`: handlers
//! that were registered in the copy run, those that came with it from the parent do not, ours excepted.
//!
//! What a user's own statics and locks are in the copy is the user's affair, and the reason why threads that are not
//! ours must be allowed.

#![allow(unsafe_code)]

use super::{Enter, Made, START, StartMethod, forkserver};
use crate::gate::{self, Closed, Passage, PrivateFd};
use crate::sys::fd::{Grave, fill_standard_streams, null_stdin, replace_by_null, replace_epolls};
use crate::sys::image::main_image;
use crate::sys::process::{self, at_exit_first, exit_now, flush_c_streams, pidfd_open};
use crate::sys::socket::packet_pair;
use crate::{Error, Result, unwind};
use crate::{arena, call, child};
use nix::libc::{self, c_int, c_void};
use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};

/// What a fork may and should do.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// It may leave threads behind that are not ours.
    pub(super) allow_threads: bool,
    /// The copy has the program's connections.
    pub(super) keeps_captured: bool,
}

/// Copies this process. The copy waits at its start socket and then lives `life`.
///
/// `on_the_way` are descriptors of the caller that will be sent to the copy, which must not have them twice. `enter` enters
/// it into the table of children.
///
/// # Errors
///
/// Other threads, unless they are allowed; somebody of ours who does not come to a safe point; no process or descriptor
/// left.
pub(super) fn process(
    on_the_way: &[OwnedFd],
    passage: Passage,
    enter: &mut Enter<'_>,
    how: How,
    life: impl FnOnce(OwnedFd) -> Infallible,
) -> Result<(Made, Passage)> {
    let (ours, theirs) = packet_pair().map_err(|e| Error::os("open a start socket", e))?;
    let ours = PrivateFd::from(ours);
    let grave =
        Grave::dig().map_err(|e| Error::os("open what a copy has in the place of private descriptors", e))?;
    let numbers: Vec<RawFd> = on_the_way.iter().map(AsRawFd::as_raw_fd).collect();
    // These are made on first use, which must not be half done by another thread now.
    unwind::install_hook();
    let _ = main_image();
    child::prepare_exit();
    arena::share_before_fork();
    drop(passage);
    let closed = gate::close(how.allow_threads)?;
    if child::is_ending() {
        let reason = "the program is ending, and a copy would be in the middle of that".to_owned();
        return Err(Error::NotSupported { method: StartMethod::Fork.name(), reason });
    }
    let mut parts = Some((closed, grave, theirs, life));
    let live = || match parts.take() {
        Some((closed, grave, theirs, life)) => {
            begin(closed, grave, &numbers, how.keeps_captured);
            life(beyond_standard_streams(theirs))
        }
        // A copy without a life cannot be; if it were, it would have to go.
        None => exit_now(1),
    };
    // SAFETY: the gate is closed, so no lock of ours is held by another thread, nor standard output; libc's own locks are
    // fork's affair. Other threads, which may hold more, are none or the caller's promise.
    let forked = unsafe { process::fork(live) };
    drop(parts);
    let pid = forked.map_err(|e| Error::os("fork", e))?;
    let passage = gate::enter(START);
    match pidfd_open(pid) {
        Ok(pidfd) => Ok((Made { child: enter(pid, pidfd), socket: ours, helper: None }, passage)),
        Err(error) => {
            process::discard(pid);
            Err(Error::os(format!("open a pidfd for process {pid}"), error))
        }
    }
}

/// Makes a process of its own of the copy.
fn begin(closed: Closed, grave: Grave, numbers: &[RawFd], keeps_captured: bool) {
    grave.bury(numbers.iter().copied());
    closed.become_copy(&grave, keeps_captured);
    // Its two numbers are what the rest needs.
    drop(grave);
    child::forget();
    call::forget();
    forkserver::forget();
    // Without memory for one entry, the handlers of the parent run at the end as well.
    let _ = at_exit_first(leave);
    // Without /proc, the copy leaves alone what it does not know of; the others fail for memory only.
    let _ = replace_epolls();
    let _ = fill_standard_streams();
    let _ = null_stdin();
}

/// Where standard streams are closed, the socket may have got the number of one.
fn beyond_standard_streams(socket: OwnedFd) -> OwnedFd {
    if socket.as_raw_fd() > libc::STDERR_FILENO {
        return socket;
    }
    match replace_by_null(socket.as_fd()) {
        Ok(moved) => {
            // The number is a standard stream now, and stays open.
            let _ = socket.into_raw_fd();
            moved
        }
        Err(_) => socket,
    }
}

/// The last of the copy's own exit handlers, and the first of those that it has: the parent's do not run.
extern "C" fn leave(code: c_int, _: *mut c_void) {
    child::end_children();
    flush_c_streams();
    exit_now(code)
}
