//! The programs of the book's chapter "Supervision": a tree whose processes are killed at random, and come back.

#![allow(clippy::panic, reason = "shows what becomes of one that always fails")]

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use procession::ChildInfo;
use procession::prelude::*;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

// ANCHOR: serve
/// What each child does: it says that it is there, and then something that takes for ever.
fn serve(name: &str, line: &Connection) {
    let _ = line.send(&(name.to_owned(), std::process::id()));
    loop {
        std::thread::park();
    }
}
// ANCHOR_END: serve

// ANCHOR: tree
fn tree(line: &Connection) -> Result<Supervisor, Error> {
    let worker = |name: &'static str| ChildSpec::process(name, serve, (name, line));
    let shop = Supervisor::builder()
        .strategy(Strategy::RestForOne)
        .intensity(100, Duration::from_secs(5))
        .child(worker("store"))
        .child(worker("till").shutdown(Duration::from_secs(1)));
    Supervisor::builder()
        .intensity(100, Duration::from_secs(5))
        .child(worker("door"))
        .child(ChildSpec::supervisor("shop", shop))
        .start()
}
// ANCHOR_END: tree

// ANCHOR: storm
/// Kills one process after the other, as the out-of-memory killer would, and tells who came back.
fn storm(tree: &Supervisor, arrivals: &Connection, until: Instant) -> Result<(), Error> {
    let mut dice = RandomState::new().build_hasher().finish();
    while Instant::now() < until {
        let victims: Vec<ChildInfo> =
            [tree.which_children()?, tree.which_children_of("shop").unwrap_or_default()].concat();
        // Knuth's generator; the upper bits are the random ones.
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let victim = &victims[(dice >> 33) as usize % victims.len()];
        let Some(pid) = victim.pid else { continue };
        println!("kill {} ({pid})", victim.id);
        kill(pid);
        while arrivals.poll_timeout(Duration::from_millis(100))? {
            let (name, pid): (String, u32) = arrivals.recv()?;
            println!("  {name} is there ({pid})");
        }
    }
    Ok(())
}
// ANCHOR_END: storm

// ANCHOR: actor
/// Remembers what was paid, as long as its process lives.
struct Till {
    total: u64,
}

#[procession::actor(vis = "pub(crate)")]
impl Till {
    pub(crate) fn pay(&mut self, amount: u64) -> u64 {
        self.total += amount;
        self.total
    }
}

fn follow() -> Result<(), Error> {
    let spec = ChildSpec::new("till", || Till { total: 100 });
    let tree = Supervisor::builder().child(spec).start()?;
    let till = tree.proxy::<Till>("till")?;
    println!("{} in the till", till.pay(10)?);
    tree.which_children()?.iter().filter_map(|child| child.pid).for_each(kill);
    let total = loop {
        match till.pay(1) {
            // This call had reached the old process already. Whether to repeat it is for its caller to say.
            Err(CallError::ActorDied { .. }) => println!("the till died"),
            total => break total?,
        }
    };
    println!("{total} in the till");
    tree.stop()
}
// ANCHOR_END: actor

// ANCHOR: give_up
fn hopeless() {
    panic!("the disk is full");
}

fn give_up() -> Result<(), Error> {
    let hopeless = ChildSpec::process("hopeless", hopeless, ());
    let tree = Supervisor::builder().intensity(2, Duration::from_secs(5)).child(hopeless).start()?;
    if let Err(error) = tree.join() {
        println!("{error}");
    }
    Ok(())
}
// ANCHOR_END: give_up

/// SIGKILL by somebody who knows no more than the pid.
fn kill(pid: u32) {
    let victim = Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX));
    if signal::kill(victim, Signal::SIGKILL).is_err() {
        println!("  it is gone already");
    }
}

fn main() -> Result<(), Error> {
    let (arrivals, line) = pipe()?;
    let tree = tree(&line)?;
    storm(&tree, &arrivals, Instant::now() + Duration::from_secs(2))?;
    tree.stop()?;
    println!("all stopped");
    follow()?;
    give_up()
}
