//! Two children on one queue: one puts, the other one gets, in the same order.

use procession::prelude::*;

// ANCHOR: all
fn put(q: &Queue<u32>) -> Result<(), String> {
    for i in 0..10 {
        q.put(i).map_err(|error| error.to_string())?;
        println!("q put {i} in queue");
    }
    Ok(())
}

fn get(q: &Queue<u32>) -> Result<(), String> {
    for _ in 0..10 {
        let i = q.get().map_err(|error| error.to_string())?;
        println!("q get {i} in queue");
    }
    Ok(())
}

fn main() -> Result<(), Error> {
    let q = Queue::new()?;
    let p_get = Process::spawn(get, (&q,))?;
    let p_put = Process::spawn(put, (&q,))?;
    p_put.join()?;
    p_get.join()
}
// ANCHOR_END: all
