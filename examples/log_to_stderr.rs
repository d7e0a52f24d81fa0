//! Python's demonstration of `log_to_stderr`: what the library and a child say on standard error.

use procession::prelude::*;
use procession::{Level, log_to_stderr};

fn work() {
    tracing::warn!("doomed");
    tracing::info!(items = 3, "counted");
}

fn main() -> Result<(), Error> {
    log_to_stderr(Level::INFO)?;
    tracing::info!(target: "procession", "the main process may speak too");
    Process::spawn(work, ())?.join()
}
