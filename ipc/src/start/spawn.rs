//! The start method `spawn`: the program is executed anew.
//!
//! `/proc/self/exe` is a link to the *inode* that runs, also after the file was replaced by a new build, so the offsets
//! that the child gets fit its image. The child's arguments are ours, its environment is ours plus the marker.

use super::descriptor::assert_inside_main_image;
use super::entry::{self, BIND_NOW, BINDS_NOW, MARKER, Role};
use super::parcel::Parcel;
use crate::sys::process::{self, pidfd_open};
use crate::sys::rights::reason_for_elevation;
use crate::sys::socket::packet_pair;
use crate::{Error, Result};
use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

const OWN_PROGRAM: &CStr = c"/proc/self/exe";

/// Executes this program in a new process: its pid, its pidfd and our end of its start socket. `message` is for the
/// role that it plays.
pub(super) fn process(role: Role, message: Vec<u8>) -> Result<(i32, OwnedFd, OwnedFd)> {
    assert_inside_main_image()?;
    if !entry::is_linked() {
        let reason = "the entry before `main` is not part of this program".to_owned();
        return Err(Error::NotSupported { method: role.method(), reason });
    }
    // The entry of such a copy would refuse to take over, and its `main` would run.
    if let Some(why) = reason_for_elevation() {
        let reason = format!("a copy of this program would have other rights than this process, since {why}");
        return Err(Error::NotSupported { method: role.method(), reason });
    }
    let (ours, theirs) = packet_pair().map_err(|e| Error::os("open a start socket", e))?;
    // Queued before the program runs: the entry never waits to find out what it is.
    Parcel { kind: role.parcel_kind(), bytes: message, handles: Vec::new() }.send(&ours)?;
    let pid = process::spawn(OWN_PROGRAM, &arguments(), &environment(role), theirs.as_fd())
        .map_err(|e| Error::os("execute /proc/self/exe (is /proc mounted?)", e))?;
    // Nobody but us may wait for it, so the pid is still its own; a stranger's `waitpid(-1)` shows as an error here.
    let pidfd = pidfd_open(pid).map_err(|e| Error::os(format!("open a pidfd for process {pid}"), e))?;
    Ok((pid, pidfd, ours))
}

fn arguments() -> Vec<CString> {
    std::env::args_os().map(OsStringExt::into_vec).filter_map(|bytes| CString::new(bytes).ok()).collect()
}

/// Ours, with the marker, and for the server with immediate binding (ld.so(8)): it resolves each function once, instead of
/// each of its copies once more. The entry takes both out again.
fn environment(role: Role) -> Vec<CString> {
    let own = std::env::vars_os().filter(|(key, _)| key != MARKER);
    let bind_now = role == Role::Server && std::env::var_os(BIND_NOW).is_none();
    let marker = (MARKER, if bind_now { BINDS_NOW } else { "1" });
    let extra = [Some(marker), bind_now.then_some((BIND_NOW, "1"))].into_iter().flatten();
    let all = own.chain(extra.map(|(key, value)| (OsString::from(key), OsString::from(value))));
    all.filter_map(|(key, value)| CString::new([key.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .collect()
}
