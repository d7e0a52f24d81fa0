//! The smallest program: one function in one other process.

use procession::prelude::*;

fn hello(name: &str) -> String {
    format!("hello {name}, this is process {}", std::process::id())
}

fn main() -> Result<(), Error> {
    println!("{}", Process::spawn(hello, ("bob",))?.result()?);
    Ok(())
}
