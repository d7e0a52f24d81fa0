//! Group `pool`: tasks that do nothing, so that the pool itself is measured; and how soon the death of a worker is told.

use crate::harness::{Better, Contest, Figure, Peer, Result, Side, check};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procession::prelude::*;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

const WORKERS: usize = 2;
const KILLS: u64 = 50;
/// For what takes a millisecond: only a defect is slower.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const FIGURES: &[Figure] = &[
    Figure {
        name: "pool.apply",
        unit: "tasks/s",
        better: Better::Higher,
        workload: "f(x) = x on u64, one apply() after the other, N = 20k, 2 workers",
        contest: against_python(|| Ok(throughput(Pool::new(WORKERS)?, apply)), 20_000, 15.0, 8.0),
    },
    Figure {
        name: "pool.apply_async",
        unit: "tasks/s",
        better: Better::Higher,
        workload: "f(x) = x on u64, all apply_async(), then all get(), N = 100k, 2 workers",
        contest: against_python(|| Ok(throughput(Pool::new(WORKERS)?, apply_async)), 100_000, 50.0, 40.0),
    },
    Figure {
        name: "pool.map_chunk1",
        unit: "tasks/s",
        better: Better::Higher,
        workload: "f(x) = x on u64, map() with chunksize 1, N = 200k, 2 workers",
        contest: against_python(|| Ok(throughput(Pool::new(WORKERS)?, map_chunk1)), 200_000, 300.0, 200.0),
    },
    Figure {
        name: "pool.map_auto",
        unit: "tasks/s",
        better: Better::Higher,
        workload: "f(x) = x on u64, map() with the default chunksize, N = 4M, 2 workers",
        contest: against_python(|| Ok(throughput(Pool::new(WORKERS)?, map_auto)), 4_000_000, 20.0, 8.0),
    },
    Figure {
        name: "recovery.worker",
        unit: "ms",
        better: Better::Lower,
        workload: "SIGKILL of a worker with a running task to the error of get(), 50 kills, 2 workers",
        contest: Contest::Alone { samples: recovery, n: KILLS, goal: 50.0 },
    },
];

const fn against_python(ours: fn() -> Result<Side>, n: u64, goal: f64, floor: f64) -> Contest {
    Contest::Against { ours, n, peer: Peer::Python { n }, goal, floor }
}

fn identity(x: u64) -> u64 {
    x
}

/// Tasks a second of a verb that maps `identity` over `0..n`.
fn throughput(pool: Pool, verb: fn(&Pool, u64) -> Result<Vec<u64>>) -> Side {
    Box::new(move |n| {
        let begin = Instant::now();
        let results = verb(&pool, n)?;
        let took = begin.elapsed();
        check("results", &results, &(0..n).collect())?;
        Ok(n as f64 / took.as_secs_f64())
    })
}

fn apply(pool: &Pool, n: u64) -> Result<Vec<u64>> {
    (0..n).map(|x| Ok(pool.apply(identity, (x,))?)).collect()
}

fn apply_async(pool: &Pool, n: u64) -> Result<Vec<u64>> {
    let handles = (0..n).map(|x| pool.apply_async(identity, (x,)));
    let handles: Vec<AsyncResult<u64>> = handles.collect::<Result<_, _>>()?;
    handles.iter().map(|handle| Ok(handle.get()?)).collect()
}

fn map_chunk1(pool: &Pool, n: u64) -> Result<Vec<u64>> {
    Ok(pool.options().chunksize(1).map(identity, 0..n)?)
}

fn map_auto(pool: &Pool, n: u64) -> Result<Vec<u64>> {
    Ok(pool.map(identity, 0..n)?)
}

/// Says over the abstract socket `name` which process runs it, and never returns.
fn hold(name: String) -> Result<(), String> {
    let announce = move || {
        let pid = std::process::id().to_le_bytes();
        UnixDatagram::unbound()?.send_to_addr(&pid, &SocketAddr::from_abstract_name(name)?)
    };
    announce().map_err(|error: std::io::Error| format!("cannot announce the task: {error}"))?;
    loop {
        std::thread::park();
    }
}

/// Milliseconds from each kill to the error.
fn recovery(n: u64) -> Result<Vec<f64>> {
    let name = format!("procession-bench-{}", std::process::id());
    let announcements = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    announcements.set_read_timeout(Some(PATIENCE))?;
    let pool = Pool::new(WORKERS)?;
    let samples = (0..n).map(|_| kill_once(&pool, &name, &announcements)).collect::<Result<_>>()?;
    check("results after the kills", &map_chunk1(&pool, 100)?, &(0..100).collect())?;
    Ok(samples)
}

fn kill_once(pool: &Pool, name: &str, announcements: &UnixDatagram) -> Result<f64> {
    let held = pool.apply_async(hold, (name.to_owned(),))?;
    let mut pid = [0; size_of::<u32>()];
    announcements.recv(&mut pid).map_err(|error| format!("no worker took the task: {error}"))?;
    let pid = u32::from_le_bytes(pid);
    check("worker's pid", &pool.worker_pids().contains(&pid), &true)?;
    let victim = Pid::from_raw(pid.try_into()?);
    let begin = Instant::now();
    kill(victim, Signal::SIGKILL)?;
    let outcome = held.get_timeout(PATIENCE);
    let took = begin.elapsed();
    match outcome {
        Err(error) if is_killed(&error, pid) => Ok(took.as_secs_f64() * 1e3),
        other => Err(format!("the task of a killed worker gave {other:?}").into()),
    }
}

fn is_killed(error: &procession::Error, pid: u32) -> bool {
    let ErrorKind::WorkerLost { status: ExitStatus::Signaled { signal, .. } } = error.kind() else {
        return false;
    };
    *signal == Signal::SIGKILL as i32 && error.pid().map(i32::unsigned_abs) == Some(pid)
}
