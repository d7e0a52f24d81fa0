//! The peer pipe: the same bytes through two pipes and cat(1), a read and a write on each side. What it takes is two wake-ups by the
//! kernel, so it is what a round trip between two sleeping processes costs on this machine at this moment.

use super::message;
use crate::harness::{Result, Side, check};
use crate::processors::Processors;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

/// Ends with its pipe.
struct Cat {
    there: Option<ChildStdin>,
    back: ChildStdout,
    child: Child,
}

/// Microseconds of a round trip.
pub(super) fn side(processors: Processors) -> Result<Side> {
    let bound = processors.bind()?;
    let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    drop(bound);
    let (there, back) = (child.stdin.take(), child.stdout.take().ok_or("cat has no output")?);
    let mut cat = Cat { there, back, child };
    Ok(Box::new(move |n| {
        let _bound = processors.bind()?;
        let there = cat.there.as_mut().ok_or("cat has no input")?;
        let begin = Instant::now();
        for number in 0..n {
            let mut bytes = [0; 8];
            there.write_all(&message(number, 8))?;
            cat.back.read_exact(&mut bytes)?;
            check("echo", &bytes.to_vec(), &message(number, 8))?;
        }
        Ok(begin.elapsed().as_secs_f64() * 1e6 / n as f64)
    }))
}

impl Drop for Cat {
    fn drop(&mut self) {
        drop(self.there.take());
        // It may have ended by itself.
        let _ = self.child.wait();
    }
}
