//! Standard output and error, held over a fork.
//!
//! What is buffered when a process is copied would be printed by both, so it is flushed; and the locks are held by the
//! thread that the copy has, or the copy could never print.

use std::io::{StderrLock, Stdout, StdoutLock, Write};
use std::sync::LazyLock;

/// What [`stdout`](std::io::stdout) gives, kept: in a copy, each function that it does without is code that need not be mapped.
static STDOUT: LazyLock<Stdout> = LazyLock::new(std::io::stdout);

/// Writes out what is buffered for standard output.
#[inline]
pub(crate) fn flush_stdout() {
    // Where it leads to nothing (closed, full), nobody can be told.
    let _ = (&*STDOUT).flush();
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
