//! A process through its life, as its handle shows it: Python's demonstration of `terminate`.

use procession::prelude::*;

fn sleep_long() {
    loop {
        std::thread::park();
    }
}

fn main() -> Result<(), Error> {
    let initial = Process::builder(sleep_long);
    println!("{initial:?}");
    let p = initial.start()?;
    println!("{p:?} alive: {}", p.is_alive());
    p.terminate()?;
    p.join()?;
    println!("{p:?} alive: {}", p.is_alive());
    // The negative number of the signal: SIGTERM is 15.
    println!("{}", p.exitcode() == Some(-15));
    Ok(())
}
