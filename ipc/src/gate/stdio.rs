//! Standard output and error, held over a fork.
//!
//! What is buffered when a process is copied would be printed by both, so it is flushed; and the locks are held by the
//! thread that the copy has, or the copy could never print.

use std::io::{StderrLock, StdoutLock, Write};

/// The locks of both streams, with nothing in their buffers.
pub(super) struct HeldStdio {
    _stdout: StdoutLock<'static>,
    _stderr: StderrLock<'static>,
}

impl HeldStdio {
    /// Waits for threads that are printing.
    pub(super) fn flushed() -> Self {
        let mut stdout = std::io::stdout().lock();
        // Where it leads to nothing (closed, full), the copy cannot print it either.
        let _ = stdout.flush();
        Self { _stdout: stdout, _stderr: std::io::stderr().lock() }
    }
}
