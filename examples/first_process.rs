//! The programs of the book's chapter "Your first process".

#![allow(clippy::disallowed_methods, reason = "shows what an exit in a child looks like")]
#![allow(clippy::needless_pass_by_value, reason = "a function in another process owns what it is given")]

use procession::prelude::*;
use std::time::Duration;

// ANCHOR: spawn
fn greet(name: &str, times: u32) -> String {
    let words = vec![format!("hello {name}"); times as usize];
    format!("{}, says process {}", words.join(", "), std::process::id())
}

fn spawn() -> Result<(), Error> {
    let process = Process::spawn(greet, ("bob", 2))?;
    println!("{}", process.result()?);
    Ok(())
}
// ANCHOR_END: spawn

// ANCHOR: builder
fn builder() -> Result<(), Error> {
    let process =
        Process::builder(|x: f64, y: f64| x.hypot(y)).args((3.0, 4.0)).name("pythagoras").start()?;
    process.join()?;
    println!("{} ended with {:?} and brought {}", process.name(), process.exitcode(), process.result()?);
    Ok(())
}
// ANCHOR_END: builder

// ANCHOR: errors
fn divide(a: u32, b: u32) -> u32 {
    a / b
}

fn leave(code: i32) {
    std::process::exit(code)
}

fn errors() -> Result<(), Error> {
    let panicked = Process::builder(divide).args((1, 0)).name("divider").start()?;
    let left = Process::builder(leave).args((3,)).name("leaver").start()?;
    let waiting = Process::builder(wait_for_ever).name("waiter").start()?;
    waiting.kill()?;
    println!("{}", explain(panicked.result().map(drop)));
    println!("{}", explain(left.result()));
    println!("{}", explain(waiting.result()));
    Ok(())
}

fn explain(result: Result<(), Error>) -> String {
    let Err(error) = result else { return "it went well".to_owned() };
    let name = error.process().unwrap_or_default();
    match error.kind() {
        ErrorKind::Panicked { message, .. } => format!("{name} panicked: {message}"),
        ErrorKind::Exited { code } => format!("{name} left with code {code}"),
        ErrorKind::Signaled { signal, .. } => format!("{name} was ended by signal {signal}"),
        _ => error.to_string(),
    }
}
// ANCHOR_END: errors

fn wait_for_ever() {
    loop {
        std::thread::park();
    }
}

// ANCHOR: pipe
fn adder(numbers: Connection) -> u64 {
    let mut sum = 0;
    // Ends when the last copy of the other end is closed.
    while let Ok(number) = numbers.recv::<u64>() {
        sum += number;
    }
    sum
}

fn talk() -> Result<(), Error> {
    let (here, there) = pipe()?;
    let process = Process::spawn(adder, (there,))?;
    for number in [20_u64, 22] {
        here.send(&number)?;
    }
    drop(here);
    println!("the sum is {}", process.result()?);
    Ok(())
}
// ANCHOR_END: pipe

// ANCHOR: timeout
fn bounded() -> Result<(), Error> {
    let process = Process::builder(wait_for_ever).daemon(true).start()?;
    if !process.join_timeout(Duration::from_millis(100))? {
        process.terminate()?;
    }
    process.join()?;
    println!("exit code {:?}", process.exitcode());
    Ok(())
}
// ANCHOR_END: timeout

fn main() -> Result<(), Error> {
    spawn()?;
    builder()?;
    errors()?;
    talk()?;
    bounded()
}
