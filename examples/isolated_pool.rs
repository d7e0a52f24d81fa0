//! A pool for code that may write wildly: its workers have no part in the memory of locks and queues.

use procession::prelude::*;

// ANCHOR: all
/// Stands for a call of a C library, which some images make write wildly until it crashes.
fn thumbnail(image: u32) -> String {
    if image == 3 {
        std::process::abort();
    }
    format!("thumbnail of image {image}")
}

fn main() -> Result<(), Error> {
    let thumbnails = Queue::new()?;
    let pool = Pool::builder().processes(2).isolated().start()?;

    for result in pool.imap(thumbnail, 1..=4)? {
        match result {
            // What comes back are values; this process puts them.
            Ok(thumbnail) => thumbnails.put(thumbnail)?,
            Err(error) => println!("an image {}", error.kind()),
        }
    }
    pool.close();
    pool.join()?;

    println!("{} are in the queue", thumbnails.len());
    while let Ok(thumbnail) = thumbnails.try_get() {
        println!("{thumbnail}");
    }
    Ok(())
}
// ANCHOR_END: all
