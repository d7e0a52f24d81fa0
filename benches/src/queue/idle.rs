//! What processes that wait for a queue cost: nothing.

use super::{Member, consume};
use crate::harness::{Result, check};
use procession::prelude::*;
use std::fs;
use std::thread::park_timeout;
use std::time::Duration;

/// How many wait.
const WAITERS: u64 = 8;

/// How long one look at them takes, and how long they have to fall asleep.
const WINDOW: Duration = Duration::from_millis(100);
const SETTLING: Duration = Duration::from_secs(1);

/// Microseconds of processor time that all threads of the waiting processes use in each window.
pub(super) fn samples(n: u64) -> Result<Vec<f64>> {
    let queue = Queue::new()?;
    let waiter = |_| Member::start(|there| Process::spawn(consume, (&queue, &there)));
    let waiters = (0..WAITERS).map(waiter).collect::<Result<Vec<_>>>()?;
    waiters.iter().try_for_each(|waiter| waiter.line.send(&1_u64))?;
    park_timeout(SETTLING);
    let used = || waiters.iter().map(|waiter| processor_time(waiter.process.pid())).sum::<Result<u64>>();
    let mut before = used()?;
    let window = |_| {
        park_timeout(WINDOW);
        let now = used()?;
        Ok((now - std::mem::replace(&mut before, now)) as f64 / 1e3)
    };
    let samples = (0..n).map(window).collect::<Result<_>>()?;
    for number in 0..WAITERS {
        queue.put(super::message(number, 8))?;
    }
    let got = waiters.iter().map(|waiter| waiter.line.recv::<u64>()).sum::<Result<u64, _>>()?;
    check("sum of what was got", &got, &(0..WAITERS).map(|number| number + 8).sum())?;
    Ok(samples)
}

/// Nanoseconds that the threads of a process have run.
fn processor_time(pid: u32) -> Result<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
    let of_thread = |thread: std::io::Result<fs::DirEntry>| {
        let statistics = fs::read_to_string(thread?.path().join("schedstat"))?;
        let time = statistics.split_whitespace().next().ok_or("no processor time of a thread")?;
        Ok(time.parse::<u64>()?)
    };
    threads.map(of_thread).sum()
}
