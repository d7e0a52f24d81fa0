//! Memory is not shared: what a child does to a static variable stays in the child.

use procession::prelude::*;
use std::sync::{Mutex, PoisonError};

static DATA: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn add(items: &[String]) -> Vec<String> {
    let mut data = DATA.lock().unwrap_or_else(PoisonError::into_inner);
    if data.is_empty() {
        data.push("+++".to_owned());
    }
    data.extend_from_slice(items);
    data.clone()
}

fn strings(items: [&str; 3]) -> Vec<String> {
    items.map(str::to_owned).to_vec()
}

fn main() -> Result<(), Error> {
    let child = Process::spawn(add, (&strings(["1", "2", "3"])[..],))?.result()?;
    let parent = add(&strings(["a", "b", "c"]));
    println!("child: {child:?}");
    println!("parent: {parent:?}");
    Ok(())
}
