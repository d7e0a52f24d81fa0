//! Joining a process before its message was read: a deadlock with Python's queues, and nothing special here.

use procession::prelude::*;

// ANCHOR: all
fn f(q: &Queue<String>) -> Result<(), String> {
    q.put("X".repeat(1_000_000)).map_err(|error| error.to_string())
}

fn main() -> Result<(), Error> {
    let queue = Queue::new()?;
    let p = Process::spawn(f, (&queue,))?;
    p.join()?; // Python never comes back from here
    let obj = queue.get()?;
    println!("{} bytes", obj.len());
    Ok(())
}
// ANCHOR_END: all
