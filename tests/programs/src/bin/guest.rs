//! A program with `procession` in a shared library: each start is refused by name.

use procession_shared::procession::prelude::*;

fn main() {
    println!("main");
    for method in [StartMethod::Spawn, StartMethod::ForkServer] {
        let started = Process::builder(|| ()).context(&Context::new(method)).start();
        println!("{}: {:?}", method.name(), started.map_err(|error| error.kind().clone()));
    }
    println!("pool: {:?}", Pool::new(1).map_err(|error| error.kind().clone()));
}
