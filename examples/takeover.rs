//! A process is killed while it holds a lock: the next one gets the lock, and is told.

use procession::prelude::*;

// ANCHOR: all
fn hold(lock: &Lock, ready: &Connection) -> Result<(), String> {
    let _guard = lock.acquire().map_err(|error| error.to_string())?;
    ready.send(&()).map_err(|error| error.to_string())?;
    loop {
        std::thread::park();
    }
}

fn main() -> Result<(), Error> {
    let lock = Lock::new()?;
    let (here, there) = pipe()?;
    let holder = Process::spawn(hold, (&lock, &there))?;
    here.recv::<()>()?;
    holder.kill()?;
    let guard = lock.acquire()?;
    println!("abandoned: {}", guard.was_abandoned());
    drop(guard);
    println!("abandoned: {}", lock.acquire()?.was_abandoned());
    Ok(())
}
// ANCHOR_END: all
