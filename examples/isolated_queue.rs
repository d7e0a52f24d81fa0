//! A process whose code may write wildly, fed and emptied over queues that have memory of their own.

use procession::prelude::*;
use std::time::Duration;

// ANCHOR: all
/// Calls a C library, say, which some images make write wildly until it crashes.
fn measure(images: &Queue<Vec<u8>>, sizes: &Queue<usize>) -> Result<(), String> {
    loop {
        let image = images.get().map_err(|error| error.to_string())?;
        if image.is_empty() {
            std::process::abort();
        }
        sizes.put(image.len()).map_err(|error| error.to_string())?;
    }
}

fn main() -> Result<(), Error> {
    let (images, sizes) = (Queue::isolated()?, Queue::isolated()?);
    let process = Process::spawn(measure, (&images, &sizes))?;
    for length in [1000, 2000, 0, 3000] {
        images.put(vec![7; length])?;
    }
    process.join()?;
    // Who knows what it has written where: so no wait here is without an end.
    while let Ok(size) = sizes.get_timeout(Duration::from_millis(100)) {
        println!("an image of {size} bytes");
    }
    println!("it ended with {:?}, and {} was not measured", process.exitcode(), images.len());
    Ok(())
}
// ANCHOR_END: all
