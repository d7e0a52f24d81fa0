//! One process, several, one with a state of its own, and a daemon: how Python programs use `Process`.

use procession::prelude::*;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

// ANCHOR: single
fn worker(interval: Duration) -> u32 {
    let mut rounds = 0;
    while rounds < 3 {
        work_for(interval);
        rounds += 1;
    }
    rounds
}

fn single() -> Result<(), Error> {
    let p = Process::builder(worker).args((Duration::from_millis(5),)).name("single").start()?;
    println!("{} worked {} rounds, exit code {:?}", p.name(), p.result()?, p.exitcode());
    Ok(())
}
// ANCHOR_END: single

// ANCHOR: multiple
fn multiple() -> Result<(), Error> {
    let processes: Vec<Process<u32>> =
        (1..=3).map(|n| Process::spawn(worker, (Duration::from_millis(n),))).collect::<Result<_, _>>()?;
    println!("{} processes are at work on {} processors", active_children().len(), cpu_count());
    let rounds: u32 = processes.iter().map(Process::result).sum::<Result<_, _>>()?;
    println!("together they worked {rounds} rounds");
    Ok(())
}
// ANCHOR_END: multiple

// ANCHOR: class
/// Where Python derives a class from `Process` and overrides `run`, a method is the function and the value an argument.
#[derive(Serialize, Deserialize)]
struct Clock {
    name: String,
    ticks: u32,
}

impl Clock {
    fn run(&self) -> String {
        format!("{} ticked {} times in `{}`", self.name, self.ticks, current_process().name())
    }
}

fn class() -> Result<(), Error> {
    let clock = Clock { name: "clock".to_owned(), ticks: 3 };
    let p = Process::builder(Clock::run).args((&clock,)).name("clockwork").start()?;
    println!("{}", p.result()?);
    Ok(())
}
// ANCHOR_END: class

// ANCHOR: daemon
fn serve_for_ever() {
    loop {
        std::thread::park();
    }
}

fn daemon() -> Result<(), Error> {
    let p = Process::builder(serve_for_ever).name("server").daemon(true).start()?;
    println!("{} is a daemon: {}, alive: {}", p.name(), p.is_daemon(), p.is_alive());
    // Not joined: it is terminated when this program ends.
    Ok(())
}
// ANCHOR_END: daemon

/// Keeps a processor busy.
fn work_for(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

fn main() -> Result<(), Error> {
    single()?;
    multiple()?;
    class()?;
    daemon()
}
