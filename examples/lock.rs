//! A lock that ten processes take in turn, so that no line is torn; it is passed to each of them.

use procession::prelude::*;
use std::io::{self, Write};

// ANCHOR: all
fn f(lock: &Lock, i: u32) -> Result<(), String> {
    let _guard = lock.acquire().map_err(|error| error.to_string())?;
    // Two pieces: without the lock, those of others could come between them.
    print!("hello ");
    io::stdout().flush().map_err(|error| error.to_string())?;
    println!("world {i}");
    Ok(())
}

fn main() -> Result<(), Error> {
    let lock = Lock::new()?;
    let processes: Vec<_> = (0..10).map(|i| Process::spawn(f, (&lock, i))).collect::<Result<_, _>>()?;
    processes.iter().try_for_each(Process::join)
}
// ANCHOR_END: all
