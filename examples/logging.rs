//! The programs of the book's chapter "Logging".

use procession::prelude::*;
use procession::{LevelFilter, LogForwarding, set_log_forwarding};
use tracing::{debug, info, info_span};

// ANCHOR: install
fn main() -> Result<(), Error> {
    tracing_subscriber::fmt().with_max_level(LevelFilter::INFO).without_time().init();
    child()?;
    workers()?;
    lines_of_its_own()
}
// ANCHOR_END: install

// ANCHOR: child
fn fetch(page: u32) -> usize {
    let _fetching = info_span!("fetch", page).entered();
    debug!("nobody asked for this");
    info!(bytes = 512, "got it");
    512
}

fn child() -> Result<(), Error> {
    let process = Process::builder(fetch).args((7,)).name("fetcher").start()?;
    info!("started one");
    process.join()
}
// ANCHOR_END: child

// ANCHOR: workers
fn workers() -> Result<(), Error> {
    let pool = Pool::new(2)?;
    pool.map(fetch, [1, 2])?;
    pool.close();
    pool.join()
}
// ANCHOR_END: workers

// ANCHOR: off
fn quiet() {
    info!("nobody listens");
}

fn loud() {
    tracing_subscriber::fmt().without_time().with_target(false).init();
    info!("this process prints its own lines");
}

fn lines_of_its_own() -> Result<(), Error> {
    set_log_forwarding(LogForwarding::Off);
    Process::spawn(quiet, ())?.join()?;
    Process::spawn(loud, ())?.join()
}
// ANCHOR_END: off
