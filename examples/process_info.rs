//! Who is whose parent: the second program of Python's documentation.

use procession::prelude::*;
use std::os::unix::process::parent_id;
use std::process::id;

fn info(title: &str) -> (u32, u32) {
    println!("{title}");
    println!("  module: {}", module_path!());
    println!("  parent process: {}", parent_id());
    println!("  process id: {}", id());
    (parent_id(), id())
}

fn f(name: &str) -> (u32, u32) {
    let ids = info("function f");
    println!("hello {name}");
    ids
}

fn main() -> Result<(), Error> {
    let (_, own) = info("main line");
    let p = Process::spawn(f, ("bob",))?;
    let (parent, child) = p.result()?;
    println!("the child's parent is this process: {}", parent == own && child == p.pid());
    Ok(())
}
