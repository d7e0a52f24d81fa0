//! Where an executed copy of this program takes over: a constructor, before `main`.
//!
//! Nothing has to be called in `main`, so nothing can be forgotten and nothing of `main` runs twice. The entry trusts
//! nobody. It returns, and `main` runs as if we were not there, unless
//! 1. the marker variable is set (it is taken out of the environment in every case),
//! 2. the program has no more rights than its caller (AT_SECURE),
//! 3. descriptor 0 is a packet socket whose other end was made by our parent, under our user,
//! 4. a whole parcel of ours, from this very build, is queued there already. It never waits to find out.
//!
//! If all of this holds but that our parent made the other end, and who made it is gone, then the parent was killed while it
//! started us. The program ends: its `main` was never meant to run.
//!
//! Constructors of other crates may follow ours in the image; a target may rely on them, so the entry runs the rest of
//! them before anything else (the loader never gets to it).

#![allow(unsafe_code)]

use super::parcel::{HEADER, Header, Kind, Parcel};
use super::{bootstrap, forkserver};
use crate::sys::fd::{fill_standard_streams, is_abandoned, replace_by_null};
use crate::sys::image::main_image;
use crate::sys::process::{Disposition, is_ending, remove_variable, set_disposition};
use crate::sys::rights::has_elevated_rights;
use crate::sys::socket;
use nix::libc::{self, c_char, c_int};
use nix::sys::signal::Signal;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

/// The marker in the environment of a program that shall take over.
pub(super) const MARKER: &str = "PROCESSION_START";

/// Has the loader resolve all functions at once (ld.so(8)).
pub(super) const BIND_NOW: &str = "LD_BIND_NOW";

/// Value of the marker when [`BIND_NOW`] was added for this one program.
pub(super) const BINDS_NOW: &str = "bind-now";

/// What an executed program shall become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A child that runs one function.
    Child,
    /// The fork server.
    Server,
}

impl Role {
    /// The start method that needs it.
    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Child => "spawn",
            Self::Server => "forkserver",
        }
    }

    pub(super) fn parcel_kind(self) -> Kind {
        match self {
            Self::Child => Kind::BecomeChild,
            Self::Server => Kind::BecomeServer,
        }
    }
}

// SAFETY: the section holds pointers to constructors of this signature; the loader calls each once, before `main`, on
// the only thread.
#[used]
#[unsafe(link_section = ".init_array")]
static ENTRY: crate::sys::image::Constructor = enter;

extern "C" fn enter(argc: c_int, argv: *const *const c_char, envp: *const *const c_char) {
    let Some(marker) = std::env::var_os(MARKER) else { return };
    // SAFETY: constructors run on the only thread of a program that has just been executed.
    unsafe { remove_variable(MARKER) };
    if marker == BINDS_NOW {
        // SAFETY: as above.
        unsafe { remove_variable(BIND_NOW) };
    }
    if let Some(role) = invited() {
        take_over(role, || {
            for constructor in main_image().constructors_after(enter) {
                constructor(argc, argv, envp);
            }
        });
    }
}

/// Makes sure that the linker keeps the entry: named from code that every start runs.
pub(super) fn is_linked() -> bool {
    std::ptr::fn_addr_eq(std::hint::black_box(ENTRY), enter as crate::sys::image::Constructor)
}

/// The role that our parent gives us, if it really is our parent who speaks.
fn invited() -> Option<Role> {
    if has_elevated_rights() {
        return None;
    }
    // SAFETY: the number 0 is only borrowed for the calls below; if it is not open, they say so.
    let stdin = unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) };
    if !socket::is_unix_packet(stdin) {
        return None;
    }
    let (pid, user) = socket::peer(stdin).ok()?;
    if user != nix::unistd::geteuid().as_raw() {
        return None;
    }
    let role = queued_role(stdin)?;
    if pid == nix::unistd::getppid().as_raw() {
        return Some(role);
    }
    // Its children get another parent when the last of its threads is on the way out; another one may still have to close
    // the descriptors. A process id that is free again means that they are closed.
    if is_ending(pid) || is_abandoned(stdin).unwrap_or(false) {
        bootstrap::leave(0)
    }
    None
}

/// The role in the message that is queued on a socket, if there is a good one.
fn queued_role(socket: BorrowedFd<'_>) -> Option<Role> {
    let mut start = [0; HEADER];
    let total = socket::peek(socket, &mut start).ok()?;
    let seen = start.get(..total.min(HEADER))?;
    match Header::decode(seen, total).ok()?.kind {
        Kind::BecomeChild => Some(Role::Child),
        Kind::BecomeServer => Some(Role::Server),
        _ => None,
    }
}

fn take_over(role: Role, other_constructors: impl FnOnce()) -> ! {
    let (socket, message) = match take_socket() {
        Ok(taken) => taken,
        Err(error) => {
            bootstrap::say(&format!("cannot take over the start socket: {error}"));
            bootstrap::leave(1)
        }
    };
    // What the runtime does before `main`, and did not do yet.
    let _ = set_disposition(Signal::SIGPIPE, &Disposition::ignore());
    other_constructors();
    match role {
        Role::Child => bootstrap::run_child(socket),
        Role::Server => forkserver::serve(&socket, &message),
    }
}

/// Moves the start socket away from standard input, which becomes the null device, and takes the invitation off it:
/// gives what it says beside the role. Other standard streams that are closed become the null device too.
fn take_socket() -> io::Result<(OwnedFd, Vec<u8>)> {
    // SAFETY: descriptor 0 is open: `invited` has just looked at it.
    let stdin = unsafe { BorrowedFd::borrow_raw(libc::STDIN_FILENO) };
    let socket = replace_by_null(stdin)?;
    fill_standard_streams()?;
    let invitation = Parcel::receive(&socket).map_err(io::Error::other)?;
    Ok((socket, invitation.bytes))
}
