//! Folder, environment and standard output of a child, as they are at its start. A step of starting.
//!
//! A child of the fork server begins with those of the server, which are ours as they were when the server was started:
//! the *baseline*. What is no longer as in the baseline is sent, and then all of it, not the difference: so it does not
//! matter which server makes the child in the end. Mostly nothing is, and then it costs a few microseconds to find out.
//! With the other methods the kernel hands all of it over.
//!
//! The folder travels as a descriptor, so it may be renamed or removed meanwhile. Streams are told apart by the file they
//! lead to. A descriptor that is closed at an exec is no standard stream, whatever its number.
//!
//! Not sent, and thus as at the start of the server: umask, resource limits, priority, signal mask.

#![allow(unsafe_code)]

use super::step::{Part, Step};
use super::{Plan, StartMethod, method};
use crate::sys::process::replace_environment;
use crate::{Error, Result, codec};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sys::stat::{Mode, fstat, stat};
use nix::unistd::{dup2_stderr, dup2_stdout, fchdir};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::{Mutex, PoisonError};

/// Gives the child what has changed since the start of the fork server.
pub(super) const STEP: Step = Step { name: "surroundings", prepare, adopt };

/// Which file a descriptor leads to; its number is not used again while the server has it open.
type FileId = (u64, u64);

/// What the fork server was given.
#[derive(Debug)]
struct Baseline {
    environment: Vec<(OsString, OsString)>,
    folder: Option<FileId>,
    output: Option<FileId>,
    error: Option<FileId>,
}

/// Locked inside the gate only. A copy made by fork may keep it: whatever is not as in it is sent.
static BASELINE: Mutex<Option<Baseline>> = Mutex::new(None);

/// Remembers what the fork server, which is about to be started, will have.
pub(super) fn record() {
    let baseline = Baseline {
        environment: std::env::vars_os().collect(),
        folder: folder_id(),
        output: stream_id(io::stdout().as_fd()),
        error: stream_id(io::stderr().as_fd()),
    };
    *BASELINE.lock().unwrap_or_else(PoisonError::into_inner) = Some(baseline);
}

fn folder_id() -> Option<FileId> {
    stat(".").ok().map(|status| (status.st_dev, status.st_ino))
}

/// `None` for what a program that is executed would not get.
fn stream_id(stream: BorrowedFd<'_>) -> Option<FileId> {
    let flags = FdFlag::from_bits_retain(fcntl(stream, FcntlArg::F_GETFD).ok()?);
    let status = fstat(stream).ok()?;
    (!flags.contains(FdFlag::FD_CLOEXEC)).then_some((status.st_dev, status.st_ino))
}

/// What is not as in the baseline. The descriptors follow in this order.
#[derive(Debug, Serialize, Deserialize)]
struct Changes {
    environment: Option<Vec<(Vec<u8>, Vec<u8>)>>,
    folder: bool,
    output: Stream,
    error: Stream,
}

/// A standard stream of the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stream {
    /// As in the baseline.
    Same,
    /// The null device.
    Closed,
    /// A descriptor.
    Sent,
}

fn prepare(plan: &Plan) -> Result<Part> {
    if plan.method.unwrap_or_else(method::default) != StartMethod::ForkServer {
        return Ok(Part::default());
    }
    let baseline = BASELINE.lock().unwrap_or_else(PoisonError::into_inner);
    // Without a baseline there is no server: the one that will be started gets all of it.
    let Some(baseline) = &*baseline else { return Ok(Part::default()) };
    let mut handles = Vec::new();
    let folder = folder_id() != baseline.folder;
    if folder {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        handles.push(open(".", flags, Mode::empty()).map_err(|e| Error::os("open the current folder", e))?);
    }
    let mut send_unless = |stream: BorrowedFd<'_>, known| -> Result<Stream> {
        match stream_id(stream) {
            id if id == known => Ok(Stream::Same),
            None => Ok(Stream::Closed),
            Some(_) => {
                let copy = stream.try_clone_to_owned();
                handles.push(copy.map_err(|e| Error::os("duplicate a standard stream", e))?);
                Ok(Stream::Sent)
            }
        }
    };
    let output = send_unless(io::stdout().as_fd(), baseline.output)?;
    let error = send_unless(io::stderr().as_fd(), baseline.error)?;
    let changes = Changes { environment: changed_environment(baseline), folder, output, error };
    if !changes.is_any() {
        return Ok(Part::default());
    }
    Ok(Part { bytes: codec::encode(&changes)?, handles, ..Part::default() })
}

fn changed_environment(baseline: &Baseline) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let (now, known) = (std::env::vars_os(), &baseline.environment);
    let is_same = now.size_hint().0 == known.len() && now.zip(known).all(|(own, known)| own == *known);
    let bytes = |(key, value): (OsString, OsString)| (key.into_vec(), value.into_vec());
    (!is_same).then(|| std::env::vars_os().map(bytes).collect())
}

impl Changes {
    fn is_any(&self) -> bool {
        let streams = [self.output, self.error].iter().any(|&stream| stream != Stream::Same);
        self.environment.is_some() || self.folder || streams
    }
}

fn adopt(bytes: &[u8], handles: Vec<OwnedFd>) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let changes: Changes = codec::decode(bytes)?;
    let mut handles = handles.into_iter();
    let mut next = || handles.next().ok_or(Error::Malformed { what: "number of descriptors of a step" });
    if changes.folder {
        fchdir(next()?).map_err(|e| Error::os("change to the folder of the parent", e))?;
    }
    for (stream, put) in [(changes.output, dup2_stdout as fn(OwnedFd) -> _), (changes.error, dup2_stderr)] {
        let descriptor = match stream {
            Stream::Same => continue,
            Stream::Closed => File::options().write(true).open("/dev/null").map(OwnedFd::from),
            Stream::Sent => Ok(next()?),
        };
        let put = descriptor.and_then(|descriptor| Ok(put(descriptor)?));
        put.map_err(|e| Error::os("take over a standard stream", e))?;
    }
    if let Some(environment) = changes.environment {
        let string = OsString::from_vec;
        let environment = environment.into_iter().map(|(key, value)| (string(key), string(value))).collect();
        // SAFETY: changes are sent to children of the fork server only. Such a child has the one thread that the server
        // cloned, and has not called anything of the program yet.
        unsafe { replace_environment(environment) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start::{Identity, Started, start};

    const NAME: &str = "PROCESSION_TEST_SURROUNDINGS";

    fn variables() -> (Option<String>, usize) {
        (std::env::var(NAME).ok(), std::env::vars_os().count())
    }

    fn variables_of_a_child() -> (Option<String>, usize) {
        let identity = Identity { name: "child".to_owned(), path: vec![1], daemon: true };
        let plan = Plan {
            method: Some(StartMethod::ForkServer),
            allow_threads: false,
            identity,
            armed: true,
            apart: None,
        };
        let Started { child, reply, .. } = start(variables, &(), &plan).unwrap();
        child.wait(None).unwrap();
        reply.take().unwrap().unwrap().unwrap()
    }

    /// Here, since a program changes its environment by an unsafe function. The only test here that does so.
    #[test]
    fn environment_of_a_child_is_that_of_its_start() {
        assert_eq!(variables_of_a_child(), variables());
        assert!(prepare_is_empty(), "nothing has changed");
        for value in ["one", "two", "with = and\nmore"] {
            // SAFETY: nothing else in this test program touches the environment but through the standard library's lock.
            unsafe { std::env::set_var(NAME, value) };
            assert!(!prepare_is_empty());
            assert_eq!(variables().0.as_deref(), Some(value));
            assert_eq!(variables_of_a_child(), variables());
        }
        // SAFETY: as above.
        unsafe { std::env::remove_var(NAME) };
        assert_eq!(variables_of_a_child(), variables());
        assert!(prepare_is_empty(), "it is again as it was");
        let (key, value) = std::env::vars_os().find(|(key, _)| key != "PATH").unwrap();
        // SAFETY: as above.
        unsafe { std::env::remove_var(&key) };
        assert_eq!(variables_of_a_child(), variables());
        // SAFETY: as above.
        unsafe { std::env::set_var(&key, &value) };
    }

    fn prepare_is_empty() -> bool {
        let identity = Identity { name: String::new(), path: Vec::new(), daemon: true };
        prepare(&Plan {
            method: Some(StartMethod::ForkServer),
            allow_threads: false,
            identity,
            armed: false,
            apart: None,
        })
        .unwrap()
        .bytes
        .is_empty()
    }
}
