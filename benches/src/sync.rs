//! Group `sync`: a lock alone and between two processes; and how soon the lock of a killed process is somebody else's.

use crate::harness::{Better, Contest, Figure, Peer, Result, Side, check};
use procession::prelude::*;
use std::time::Instant;

const KILLS: u64 = 50;

pub(crate) const FIGURES: &[Figure] = &[
    Figure {
        name: "sync.lock.alone",
        unit: "ns",
        better: Better::Lower,
        workload: "acquire() and release(), 1 process; we: N = 5M, python: N = 500k",
        contest: Contest::Against {
            ours: || Ok(alone(Lock::new()?)),
            n: 5_000_000,
            peer: Peer::Python { n: 500_000 },
            goal: 5.0,
            floor: 4.0,
        },
    },
    Figure {
        name: "sync.lock.contended",
        unit: "ns",
        better: Better::Lower,
        workload: "acquire() and release() by 2 processes at the same time, time of all / number of all; \
                   we: N = 2M each, python: N = 200k each",
        contest: Contest::Against {
            ours: || Contended::new().map(Contended::side),
            n: 2_000_000,
            peer: Peer::Python { n: 200_000 },
            goal: 6.0,
            floor: 5.0,
        },
    },
    Figure {
        name: "recovery.lock",
        unit: "ms",
        better: Better::Lower,
        workload: "SIGKILL of the process that holds a lock to the return of acquire(), 50 kills",
        contest: Contest::Alone { samples: recovery, n: KILLS, goal: 50.0 },
    },
];

fn pairs(lock: &Lock, n: u64) -> Result<(), procession::Error> {
    (0..n).try_for_each(|_| lock.acquire().map(drop))
}

fn alone(lock: Lock) -> Side {
    Box::new(move |n| {
        let begin = Instant::now();
        pairs(&lock, n)?;
        let took = begin.elapsed();
        check("lock is held", &lock.is_locked(), &false)?;
        Ok(took.as_secs_f64() * 1e9 / n as f64)
    })
}

/// Does so many pairs whenever it is told to.
#[allow(clippy::needless_pass_by_value, reason = "arguments of a process are values")]
fn compete(lock: Lock, there: Connection) -> Result<(), String> {
    while let Ok(n) = there.recv::<u64>() {
        pairs(&lock, n).and_then(|()| there.send(&n)).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// This process and another one.
struct Contended {
    lock: Lock,
    other: Connection,
    _process: Process<Result<(), String>>,
}

impl Contended {
    fn new() -> Result<Self> {
        let lock = Lock::new()?;
        let (other, there) = pipe()?;
        let process = Process::spawn(compete, (lock.clone(), there))?;
        Ok(Self { lock, other, _process: process })
    }

    fn side(self) -> Side {
        Box::new(move |n| {
            let begin = Instant::now();
            self.other.send(&n)?;
            pairs(&self.lock, n)?;
            check("pairs of the other process", &self.other.recv::<u64>()?, &n)?;
            let took = begin.elapsed();
            check("lock is held", &self.lock.is_locked(), &false)?;
            Ok(took.as_secs_f64() * 1e9 / (2 * n) as f64)
        })
    }
}

/// Says that it holds the lock, and stays.
#[allow(clippy::needless_pass_by_value, reason = "arguments of a process are values")]
fn hold(lock: Lock, there: Connection) -> Result<(), String> {
    let _guard = lock.acquire().map_err(|error| error.to_string())?;
    there.send(&()).map_err(|error| error.to_string())?;
    loop {
        std::thread::park();
    }
}

/// Milliseconds from each kill to the lock.
fn recovery(n: u64) -> Result<Vec<f64>> {
    let lock = Lock::new()?;
    (0..n).map(|_| kill_once(&lock)).collect()
}

fn kill_once(lock: &Lock) -> Result<f64> {
    let (here, there) = pipe()?;
    let holder = Process::spawn(hold, (lock.clone(), there))?;
    here.recv::<()>()?;
    let begin = Instant::now();
    holder.kill()?;
    let guard = lock.acquire()?;
    let took = begin.elapsed();
    check("was abandoned", &guard.was_abandoned(), &true)?;
    holder.join()?;
    Ok(took.as_secs_f64() * 1e3)
}
