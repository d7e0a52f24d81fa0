//! What the fork server runs once, before it makes any child: what it leaves in memory, each child has at once.
//!
//! The function goes to the server as an offset, with the invitation. The server must have one thread when it copies
//! itself, so a function that leaves threads behind is an error, whatever is to be done about errors. So is one that uses locks or
//! queues: the server has none of the family's memory, and what it maps in its place, each child would have. A server that takes
//! the place of one that was killed runs it again.

use super::descriptor::{self, ProcessKind, at_offset};
use super::outcome::Outcome;
use super::target::{ProcessSite, Target, assert_target};
use super::{Luggage, StartMethod, bootstrap, forkserver};
use crate::codec::{self, Wire};
use crate::sys::fd::wait_readable;
use crate::sys::process::thread_count;
use crate::{Error, Result, arena};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long threads that were joined may take to disappear.
const PATIENCE: Duration = Duration::from_secs(1);

/// What happens when the preload function panics or returns an `Err`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OnPreloadError {
    /// The server goes on, and says nothing.
    Ignore,
    /// The server goes on, and says so on standard error.
    Warn,
    /// No process is started: the start is an error.
    Fail,
}

/// What the server is told.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Preload {
    /// Offset of the function's descriptor.
    entry: u64,
    on_error: OnPreloadError,
}

/// Locked inside the gate only.
static PRELOAD: Mutex<Option<Preload>> = Mutex::new(None);

/// Has the fork server of this process run `f` before it makes any child.
///
/// # Errors
///
/// [`Error::ForkServerRuns`] if it was started already; a function outside the main image.
pub fn set<F>(_f: F, on_error: OnPreloadError) -> Result<()>
where
    F: Target<(), (), Output: Wire>,
{
    const { assert_target::<F>() };
    let entry = descriptor::offset_of(ProcessSite::<F, (), ()>::DESCRIPTOR, std::any::type_name::<F>())?;
    forkserver::unless_started(|| {
        *PRELOAD.lock().unwrap_or_else(PoisonError::into_inner) = Some(Preload { entry, on_error });
    })
}

/// For the invitation of a server.
pub(super) fn message() -> Result<Vec<u8>> {
    let preload = *PRELOAD.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(codec::encode(&preload)?)
}

/// Whether a function is to be run.
pub(super) fn is_set() -> bool {
    PRELOAD.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// In the server: runs what the invitation names, and makes sure that one thread is left.
///
/// `socket` is watched while threads end: when it has something to say, nobody waits for this server.
pub(super) fn run(message: &[u8], socket: BorrowedFd<'_>) -> Result<()> {
    let preload: Option<Preload> = codec::decode(message)?;
    if let Some(preload) = preload {
        call(preload)?;
    }
    match threads_left(socket) {
        Some(0) => Ok(()),
        Some(count) if preload.is_some() => Err(Error::PreloadFailed {
            reason: format!("left {count} threads running, and a fork server must have one"),
        }),
        Some(count) => {
            Err(not_supported(format!("a constructor of this program has started {count} threads")))
        }
        None => Err(not_supported("without /proc there is no telling whether it has one thread".to_owned())),
    }
}

fn not_supported(reason: String) -> Error {
    Error::NotSupported { method: StartMethod::ForkServer.name(), reason }
}

/// How many other threads are there, and stay.
fn threads_left(socket: BorrowedFd<'_>) -> Option<usize> {
    let until = Instant::now() + PATIENCE;
    loop {
        let others = thread_count()?.saturating_sub(1);
        let pause = Instant::now() + Duration::from_millis(1);
        if others == 0 || pause > until || wait_readable(socket, Some(pause)).unwrap_or(true) {
            return Some(others);
        }
    }
}

fn call(preload: Preload) -> Result<()> {
    let outcome = at_offset::<ProcessKind>(preload.entry)?.run()(&[], &mut Luggage::default());
    // What is buffered here would be printed once more by each child.
    let _ = std::io::stdout().flush();
    if arena::is_there() {
        let reason =
            "used a lock or a queue, and a fork server has no part in those of its children".to_owned();
        return Err(Error::PreloadFailed { reason });
    }
    let reason = match outcome {
        Outcome::Value { error: None, .. } => return Ok(()),
        Outcome::Value { error: Some(error), .. } => format!("returned an error: {error}"),
        Outcome::Failed(failure) => failure.to_string(),
    };
    match preload.on_error {
        OnPreloadError::Ignore => Ok(()),
        OnPreloadError::Warn => {
            bootstrap::say(&Error::PreloadFailed { reason }.to_string());
            Ok(())
        }
        OnPreloadError::Fail => Err(Error::PreloadFailed { reason }),
    }
}
