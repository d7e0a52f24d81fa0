//! Standard output and error, held over a fork.
//!
//! What is buffered when a process is copied would be printed by both, so it is flushed; and the locks are held by the
//! thread that the copy has, or the copy could never print.
//!
//! What is buffered when a copy ends is written as well, but not at any price: see [`flush_stdout_at_end`].

use super::spawn;
use crate::sys::process::{is_single_threaded, thread_count};
use std::io::{StderrLock, Stdout, StdoutLock, Write};
use std::sync::{LazyLock, mpsc};
use std::thread::Builder;
use std::time::Duration;

/// How long the end of a copy waits for a thread that is printing. What it prints is short, but it may wait for a processor;
/// whoever holds standard output for longer than this does so for ever.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What [`stdout`](std::io::stdout) gives, kept: in a copy, each function that it does without is code that need not be mapped.
static STDOUT: LazyLock<Stdout> = LazyLock::new(std::io::stdout);

/// Writes out what is buffered for standard output.
#[inline]
pub(crate) fn flush_stdout() {
    // Where it leads to nothing (closed, full), nobody can be told.
    let _ = (&*STDOUT).flush();
}

/// [`flush_stdout`] for a process that ends now, which it does also if another thread of it never gives standard output back:
/// one that sleeps with the lock, or prints into a pipe that is full and that nobody reads. What is buffered is then lost.
///
/// The standard library's own end tries the lock, and offers that to nobody else; so a thread waits for it here, if there is
/// anybody who could hold it. Once it is had, writing takes its time, as at the end of any program.
#[inline]
pub(crate) fn flush_stdout_at_end() {
    if is_single_threaded() || thread_count() == Some(1) {
        flush_stdout();
    } else {
        flush_aside();
    }
}

#[cold]
fn flush_aside() {
    let (tell, told) = mpsc::channel();
    let builder = Builder::new().name("procession-last".to_owned());
    let flushing = spawn(builder, move |passage| {
        drop(passage);
        let _held = STDOUT.lock();
        let _ = tell.send(());
        flush_stdout();
    });
    match flushing {
        Ok(thread) if told.recv_timeout(LAST_WORDS).is_ok() => drop(thread.join()),
        Ok(_) => {}
        // Without a thread, to wait is nearly always right: hardly anybody holds it.
        Err(_) => flush_stdout(),
    }
}

/// The locks of both streams, with nothing in their buffers.
pub(super) struct HeldStdio {
    _stdout: StdoutLock<'static>,
    _stderr: StderrLock<'static>,
}

impl HeldStdio {
    /// Waits for threads that are printing.
    pub(super) fn flushed() -> Self {
        let held = Self { _stdout: STDOUT.lock(), _stderr: std::io::stderr().lock() };
        flush_stdout();
        held
    }
}
