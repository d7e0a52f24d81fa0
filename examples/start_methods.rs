//! Start methods: each of them in turn, a table that the fork server loads once for all its children, and a closure that
//! captures.

use procession::prelude::*;
use procession::set_forkserver_preload;
use std::sync::OnceLock;

// ANCHOR: context
fn tell_pid(context: &Context) -> Result<(), Error> {
    let p = Process::builder(std::process::id).context(context).start()?;
    println!("{}: process {}", context.start_method().name(), p.result()?);
    Ok(())
}

fn each_method() -> Result<(), Error> {
    for method in all_start_methods() {
        tell_pid(&Context::new(method))?;
    }
    Ok(())
}
// ANCHOR_END: context

// ANCHOR: preload
static TABLE: OnceLock<Vec<u64>> = OnceLock::new();

fn load() {
    TABLE.get_or_init(|| (0..100_000).map(|n| n * n).collect());
}

/// The number, and whether the table was there.
fn look_up(n: usize) -> (u64, bool) {
    let is_there = TABLE.get().is_some();
    load();
    (TABLE.get().map_or(0, |table| table[n]), is_there)
}

fn preload() -> Result<(), Error> {
    set_forkserver_preload(load)?;
    for method in [StartMethod::ForkServer, StartMethod::Spawn] {
        let p = Context::new(method).spawn(look_up, (1000,))?;
        let (square, was_there) = p.result()?;
        println!("{}: {square}, loaded before: {was_there}", method.name());
    }
    Ok(())
}
// ANCHOR_END: preload

// ANCHOR: fork
fn closure() -> Result<(), Error> {
    let words = ["captured", "and", "never", "encoded"];
    let p = Process::fork(|| words.iter().map(|word| word.len()).sum::<usize>())?;
    println!("in a copy: {}", p.result()?);
    Ok(())
}
// ANCHOR_END: fork

fn main() -> Result<(), Error> {
    // First, before anything is started.
    preload()?;
    each_method()?;
    closure()
}
