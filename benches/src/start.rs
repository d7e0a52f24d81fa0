//! Group `start`: what a process costs, in time and in memory.

use crate::harness::{Better, Contest, Figure, Peer, Result, Side, check};
use crate::statistics::Summary;
use procession::prelude::*;
use std::fs;
use std::hint::black_box;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
const TIMES: u64 = 200;
/// Python's spawn takes so long that fewer must do.
const PYTHON_SPAWN_TIMES: u64 = 20;
const IDLE_CHILDREN: u64 = 8;

pub(crate) const FIGURES: &[Figure] = &[
    Figure {
        name: "start.fork.total",
        unit: "us",
        better: Better::Lower,
        workload: "no-op function, start() to join() returned, median of 200; fork against fork",
        contest: Contest::Against {
            ours: || Ok(total_by(StartMethod::Fork)),
            n: TIMES,
            peer: Peer::Python { n: TIMES },
            goal: 12.0,
            floor: 9.0,
        },
    },
    Figure {
        name: "start.forkserver.total",
        unit: "us",
        better: Better::Lower,
        workload: "no-op function, start() to join() returned, median of 200; forkserver against forkserver",
        contest: Contest::Against {
            ours: || Ok(total_by(StartMethod::ForkServer)),
            n: TIMES,
            peer: Peer::Python { n: TIMES },
            goal: 40.0,
            floor: 30.0,
        },
    },
    Figure {
        name: "start.spawn.total",
        unit: "us",
        better: Better::Lower,
        workload: "no-op function, start() to join() returned, median of 200 (python: of 20); spawn against spawn",
        contest: Contest::Against {
            ours: || Ok(total_by(StartMethod::Spawn)),
            n: TIMES,
            peer: Peer::Python { n: PYTHON_SPAWN_TIMES },
            goal: 80.0,
            floor: 60.0,
        },
    },
    Figure {
        name: "start.spawn.total",
        unit: "us",
        better: Better::Lower,
        workload: "no-op function, start to join() returned, median of 200; spawn against procspawn::spawn",
        contest: Contest::Against {
            ours: || Ok(total_by(StartMethod::Spawn)),
            n: TIMES,
            peer: Peer::Crate { name: "procspawn", side: procspawn_total, n: TIMES },
            goal: 1.2,
            floor: 1.0,
        },
    },
    Figure {
        name: "start.default.total.0",
        unit: "us",
        better: Better::Lower,
        workload: "no-op function, start() to join() returned, median of 200; default method against fork",
        contest: default_against_fork(|| Ok(default_total(0))),
    },
    Figure {
        name: "start.default.total.500",
        unit: "us",
        better: Better::Lower,
        workload: "no-op function, start() to join() returned, median of 200; default method against fork, \
                   each from a process with 500 MiB of touched heap",
        contest: default_against_fork(|| Ok(default_total(500))),
    },
    Figure {
        name: "start.child_pss",
        unit: "KiB",
        better: Better::Lower,
        workload: "8 idle children alive, Pss of /proc/PID/smaps_rollup, mean; default method against forkserver",
        contest: Contest::Against {
            ours: || Ok(Box::new(child_pss)),
            n: IDLE_CHILDREN,
            peer: Peer::Python { n: IDLE_CHILDREN },
            goal: 20.0,
            floor: 15.0,
        },
    },
];

const fn default_against_fork(ours: fn() -> Result<Side>) -> Contest {
    Contest::Against { ours, n: TIMES, peer: Peer::Python { n: TIMES }, goal: 8.0, floor: 6.0 }
}

fn noop() {}

fn total_by(method: StartMethod) -> Side {
    let context = Context::new(method);
    Box::new(move |n| {
        median_of(n, || {
            let begin = Instant::now();
            let process = Process::builder(noop).context(&context).start()?;
            process.join()?;
            let took = begin.elapsed();
            check_noop(&process).map(|()| took)
        })
    })
}

/// With so much touched memory in this process.
fn default_total(mebibytes: usize) -> Side {
    let heap = vec![1_u8; mebibytes * MIB];
    Box::new(move |n| {
        black_box(&heap);
        median_of(n, || {
            let begin = Instant::now();
            let process = Process::spawn(noop, ())?;
            process.join()?;
            let took = begin.elapsed();
            check_noop(&process).map(|()| took)
        })
    })
}

fn check_noop(process: &Process) -> Result<()> {
    check("exit code", &process.exitcode(), &Some(0))?;
    Ok(process.result()?)
}

fn procspawn_total() -> Result<Side> {
    Ok(Box::new(|n| {
        median_of(n, || {
            let begin = Instant::now();
            procspawn::spawn((), |()| noop()).join()?;
            Ok(begin.elapsed())
        })
    }))
}

/// Median of `n` durations, in microseconds.
fn median_of(n: u64, mut once: impl FnMut() -> Result<Duration>) -> Result<f64> {
    let micros = (0..n).map(|_| once().map(|took| took.as_secs_f64() * 1e6));
    let micros: Vec<f64> = micros.collect::<Result<_>>()?;
    Ok(Summary::of(&micros)?.median)
}

/// Says that it is there, and waits until the other end is closed.
fn idle(connection: &Connection) -> Result<(), String> {
    connection.send(&std::process::id()).map_err(|error| error.to_string())?;
    match connection.recv::<()>() {
        Err(error) if matches!(error.kind(), ErrorKind::Disconnected) => Ok(()),
        other => Err(format!("received {other:?}")),
    }
}

fn child_pss(n: u64) -> Result<f64> {
    let mut children = Vec::new();
    for _ in 0..n {
        let (here, there) = pipe()?;
        children.push((Process::spawn(idle, (&there,))?, here));
    }
    for (process, here) in &children {
        check("pid", &here.recv::<u32>()?, &process.pid())?;
    }
    let mut total = 0.0;
    for (process, _here) in &children {
        total += pss(process.pid())?;
    }
    for (process, here) in children {
        drop(here);
        process.result()??;
    }
    Ok(total / n as f64)
}

/// Proportional set size of a process, in KiB.
fn pss(pid: u32) -> Result<f64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let value = rollup.lines().find_map(|line| line.strip_prefix("Pss:")?.strip_suffix("kB"));
    let value = value.ok_or_else(|| format!("no Pss of process {pid}"))?;
    Ok(value.trim().parse()?)
}
