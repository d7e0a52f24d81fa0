//! The first program of Python's documentation: `Process(target=f, args=('bob',))`.

use procession::prelude::*;

fn f(name: &str) {
    println!("hello {name}");
}

fn main() -> Result<(), Error> {
    let p = Process::spawn(f, ("bob",))?;
    p.join()
}
