//! The start method `spawn`: the program is executed anew.
//!
//! `/proc/self/exe` is a link to the *inode* that runs, also after the file was replaced by a new build, so the offsets
//! that the child gets fit its image. The child's arguments are ours, its environment is ours plus the marker.
//!
//! Another file may be named in its place, if it is of the same build: its headers are read, and it is not run to find out.

use super::descriptor::assert_inside_main_image;
use super::entry::{self, BIND_NOW, BINDS_NOW, MARKER, Role};
use super::parcel::Parcel;
use crate::gate::{self, PrivateFd};
use crate::sys::image::{self, main_image};
use crate::sys::process::{self, pidfd_open};
use crate::sys::rights::reason_for_elevation;
use crate::sys::socket::packet_pair;
use crate::{Error, Result};
use std::ffi::{CStr, CString, OsString};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

const OWN_PROGRAM: &CStr = c"/proc/self/exe";

/// A file that is executed in place of [`OWN_PROGRAM`].
#[derive(Debug, Clone)]
struct Executable {
    path: PathBuf,
    /// As it was when its headers were read.
    seen: Seen,
}

/// Device, inode, size and time of the last change: another file, or another content, has others.
type Seen = (u64, u64, u64, i64, i64);

/// Locked inside the gate only. A copy made by fork keeps it.
static EXECUTABLE: Mutex<Option<Executable>> = Mutex::new(None);

/// Names the file that is executed for processes that this one starts. It must be this very build.
///
/// # Errors
///
/// [`Error::AnotherProgram`]; a file that cannot be read.
pub fn set_executable(path: &Path) -> Result<()> {
    let path = std::path::absolute(path).map_err(|e| Error::os("read the current folder", e))?;
    let seen = verify(&path)?;
    let _passage = gate::enter("the name of the program");
    *EXECUTABLE.lock().unwrap_or_else(PoisonError::into_inner) = Some(Executable { path, seen });
    Ok(())
}

/// Makes sure that the file is of this build.
fn verify(path: &Path) -> Result<Seen> {
    let doing = || format!("read the program `{}`", path.display());
    let file = File::open(path).map_err(|e| Error::os(doing(), e))?;
    let seen = seen(&file.metadata().map_err(|e| Error::os(doing(), e))?);
    match image::id_of_file(&file).map_err(|e| Error::os(doing(), e))? {
        Some(id) if id == main_image().id() => Ok(seen),
        Some(_) => {
            Err(Error::AnotherProgram { path: path.to_owned(), what: "another program, or another build" })
        }
        None => Err(Error::AnotherProgram { path: path.to_owned(), what: "no program" }),
    }
}

fn seen(file: &Metadata) -> Seen {
    (file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec())
}

/// What is to be executed.
fn program() -> Result<CString> {
    let executable = EXECUTABLE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(Executable { path, seen: known }) = executable else { return Ok(OWN_PROGRAM.to_owned()) };
    if path.metadata().map(|file| seen(&file)).ok() != Some(known) {
        verify(&path)?;
    }
    CString::new(path.into_os_string().into_vec())
        .map_err(|e| Error::os("name a program", io::Error::from(e)))
}

fn cannot_execute(program: &CStr, error: io::Error) -> Error {
    if program == OWN_PROGRAM && std::fs::symlink_metadata("/proc/self/exe").is_err() {
        let reason = "/proc is not mounted, and a program finds itself by /proc/self/exe: mount it, or name the program \
                      by `set_executable`";
        return Error::NotSupported { method: "spawn", reason: reason.to_owned() };
    }
    Error::os(format!("execute {}", program.to_string_lossy()), error)
}

/// Executes this program in a new process: its pid, its pidfd and our end of its start socket. `message` is for the
/// role that it plays.
pub(super) fn process(role: Role, message: Vec<u8>) -> Result<(i32, OwnedFd, PrivateFd)> {
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
    let program = program()?;
    let pid = process::spawn(&program, &arguments(), &environment(role), theirs.as_fd())
        .map_err(|e| cannot_execute(&program, e))?;
    // Nobody but us may wait for it, so the pid is still its own; a stranger's `waitpid(-1)` shows as an error here.
    let pidfd = pidfd_open(pid).map_err(|error| {
        process::discard(pid);
        Error::os(format!("open a pidfd for process {pid}"), error)
    })?;
    Ok((pid, pidfd, ours.into()))
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
