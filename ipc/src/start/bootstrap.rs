//! The life of a child after the entry: adopt, run, answer, leave.

use super::Luggage;
use super::descriptor::{ProcessKind, at_offset};
use super::fork;
use super::outcome::{Failure, Outcome};
use super::parcel::{Kind, Parcel};
use super::step::{self, Bequest, STEPS};
use crate::arena::seat;
use crate::codec::{self, CodecError};
use crate::gate::{self, PrivateFd};
use crate::travel::Kept;
use crate::unwind;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ffi::{CString, OsStr};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tracing::info;

/// Exit code after a panic or a failed start, as Python's for an uncaught exception.
const FAILED: i32 = 1;

/// Target of the log messages about processes. The texts are Python's.
const TARGET: &str = "procession::process";

/// What the start message says; the arguments' own descriptors follow those of the steps.
#[derive(Serialize, Deserialize)]
struct Message<'a> {
    /// Offset of the function's descriptor.
    entry: u64,
    /// Bytes of each step, and how many descriptors it gets.
    #[serde(borrow)]
    steps: Vec<(&'a serde_bytes::Bytes, usize)>,
    /// The encoded tuple of arguments.
    #[serde(borrow)]
    args: &'a serde_bytes::Bytes,
    /// The slot of the child if there are handles in them, and those, an encoded [`Kept`]. They are decoded once the steps are
    /// adopted, the shared memory among them.
    seat: u32,
    #[serde(borrow)]
    kept: &'a serde_bytes::Bytes,
}

/// Builds the start message in the parent.
pub(super) fn message(
    entry: u64,
    parts: &[(Vec<u8>, usize)],
    args: &[u8],
    (seat, kept): (u32, &[u8]),
) -> Result<Vec<u8>, CodecError> {
    let steps = parts.iter().map(|(bytes, count)| (serde_bytes::Bytes::new(bytes), *count)).collect();
    let (args, kept) = (serde_bytes::Bytes::new(args), serde_bytes::Bytes::new(kept));
    codec::encode(&Message { entry, steps, args, seat, kept })
}

/// Runs what the parent says and ends the process.
pub(super) fn run_child(socket: OwnedFd) -> ! {
    unwind::install_hook();
    live(socket, |socket| {
        let parcel = Parcel::receive(socket)?;
        if parcel.kind != Kind::Start {
            return Err(Error::Malformed { what: "start message" });
        }
        take_name();
        // The arguments may borrow from these bytes for as long as the process lives: it has one message.
        let (message, handles) = adopt(Vec::leak(parcel.bytes), parcel.handles)?;
        let run = at_offset::<ProcessKind>(message.entry)?.run();
        calling();
        seat::take(message.seat)?;
        let kept: Kept = codec::decode(message.kept)?;
        Ok(run(message.args, &mut Luggage { handles, kept }))
    })
}

/// Runs what the parent prepared, which this process is a copy of, and ends the process.
#[inline]
pub(super) fn run_copy(socket: OwnedFd, bequest: Bequest, call: impl FnOnce() -> Outcome) -> ! {
    live(socket, |_| {
        step::inherit(bequest)?;
        calling();
        Ok(call())
    })
}

fn calling() {
    info!(target: TARGET, "child process calling self.run()");
}

/// Begins, calls, answers and leaves.
#[inline]
fn live(socket: OwnedFd, begin_and_call: impl FnOnce(&PrivateFd) -> Result<Outcome>) -> ! {
    let socket = PrivateFd::from(socket);
    let outcome = match begin_and_call(&socket) {
        Ok(outcome) => outcome,
        // The parent is gone, or gave this child up before it had anything to do.
        Err(Error::Disconnected) => leave(0),
        Err(error) => not_called(&error),
    };
    let code = if outcome.is_success() { 0 } else { FAILED };
    complain(&outcome);
    let code = match outcome.send(&socket) {
        // If the parent is gone, nobody misses the answer.
        Ok(()) | Err(Error::Disconnected) => code,
        Err(error) => tell_failure(&error, &socket),
    };
    info!(target: TARGET, "process exiting with exitcode {code}");
    leave(code)
}

/// Too many descriptors, none left for a memory file, more than a file may hold: that much can be told.
#[cold]
fn tell_failure(error: &Error, socket: &PrivateFd) -> i32 {
    let failure = Outcome::Failed(Failure::BadResult(crate::error::chain(error)));
    complain(&failure);
    let _ = failure.send(socket);
    FAILED
}

/// The parent may be gone, or never ask for the result.
#[inline]
fn complain(outcome: &Outcome) {
    if let Some(complaint) = outcome.complaint() {
        say(&format!("{}: {complaint}", super::identity().name));
    }
}

/// Shows in process lists as the program that this is, whatever executed it: no longer as a part of the fork server, nor
/// by the name of the thread that made a copy.
pub(super) fn take_name() {
    let program = std::env::args_os().next().map(PathBuf::from);
    let file = program.as_deref().and_then(Path::file_name).map(OsStr::as_bytes).unwrap_or_default();
    // The kernel keeps 15 bytes (prctl(2), PR_SET_NAME).
    if let Ok(name) = CString::new(&file[..file.len().min(15)]) {
        let _ = nix::sys::prctl::set_name(&name);
    }
}

/// Runs the child's side of each step. The descriptors that are left are those of the arguments.
fn adopt(bytes: &'static [u8], handles: Vec<OwnedFd>) -> Result<(Message<'static>, Vec<OwnedFd>)> {
    let message: Message<'static> = codec::decode(bytes)?;
    if message.steps.len() != STEPS.len() {
        return Err(Error::Malformed { what: "list of steps in a start message" });
    }
    let parts = message.steps.iter().map(|(bytes, count)| (&***bytes, *count));
    let handles = step::adopt(parts, handles)?;
    Ok((message, handles))
}

fn not_called(error: &Error) -> Outcome {
    Outcome::Failed(Failure::NotCalled(crate::error::chain(error)))
}

/// Prints one line on standard error, which may be closed or broken.
pub(super) fn say(what: &str) {
    let _ = std::io::stderr().write_all(format!("procession: {what}\n").as_bytes());
}

/// Ends a child: exit handlers run and buffered output is flushed, as when `main` returns.
#[allow(clippy::disallowed_methods, reason = "the end of a child")]
#[inline]
pub(super) fn leave(code: i32) -> ! {
    if gate::is_copy() {
        // The standard library has all threads wait but the first that ends the process. In a copy, that one may be left
        // behind: the parent's, whose end had just begun.
        gate::flush_stdout_at_end();
        fork::end(code);
    }
    std::process::exit(code)
}

#[cfg(test)]
mod tests {
    use crate::connection::Connection;
    use crate::start::{Identity, Plan, StartMethod, Started, start};
    use crate::sys::process::at_exit;
    use std::sync::OnceLock;

    static TELL: OnceLock<Connection> = OnceLock::new();

    fn tell(what: &str) {
        TELL.get().unwrap().send_bytes(what.as_bytes()).unwrap();
    }

    fn child(connection: Connection) {
        TELL.set(connection).unwrap();
        at_exit({
            extern "C" fn first() {
                tell("the first handler");
            }
            first
        })
        .unwrap();
        at_exit({
            extern "C" fn second() {
                tell("the second handler");
            }
            second
        })
        .unwrap();
        tell("the function");
    }

    /// A23 (test_atexit), T153 (_TestFinalize.test_finalize): once, and the last comes first.
    #[test]
    fn exit_handlers_of_the_program_run_in_its_children() {
        for method in StartMethod::ALL {
            let (here, there) = Connection::pair().unwrap();
            let identity = Identity { name: "child".to_owned(), path: vec![1], daemon: true };
            let plan = Plan { method: Some(method), allow_threads: true, identity, armed: true, apart: None };
            let Started { child, .. } = start(child, &(there,), &plan).unwrap();
            child.wait(None).unwrap();
            let told = std::iter::from_fn(|| here.recv_bytes().ok());
            let told: Vec<String> = told.map(|bytes| String::from_utf8(bytes).unwrap()).collect();
            assert_eq!(told, ["the function", "the second handler", "the first handler"]);
        }
    }
}
