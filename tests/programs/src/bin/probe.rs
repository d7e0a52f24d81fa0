//! Starts processes in every way and prints what came back, a line each. The test `it::builds` builds and runs it.
//!
//! The first line is `main`: whoever shares the standard output and runs `main` as well is seen by a second one.

#![allow(clippy::panic, reason = "a target that panics is what is asked for")]

// First, so that the linker puts it last; `it::builds` checks that it did.
#[expect(unused_extern_crates, reason = "not for its name, but for its place")]
extern crate procession_late;

use procession::prelude::*;
use procession_late::{Registered, registered};

inventory::submit!(Registered("early"));

fn names() -> String {
    registered().join(" ")
}

fn fail() -> String {
    panic!("as it was told")
}

fn main() {
    println!("main: {}", names());
    for method in [StartMethod::Spawn, StartMethod::ForkServer] {
        let context = Context::new(method);
        report(method.name(), Process::builder(names).context(&context).start());
        report(&format!("{} fail", method.name()), Process::builder(fail).context(&context).start());
    }
    report("default", Process::spawn(names, ()));
    let pool = Pool::new(1).and_then(|pool| pool.apply(names, ()));
    println!("pool: {}", text(pool));
}

fn report(what: &str, started: Result<Process<String>, Error>) {
    println!("{what}: {}", text(started.and_then(|process| process.result())));
}

fn text(result: Result<String, Error>) -> String {
    result.unwrap_or_else(|error| format!("{:?}", error.kind()))
}
