//! Group `pool`: tasks that do nothing, so that the pool itself is measured; and how soon
//! deaths are told and repaired.

use crate::harness::{Better, Contest, Figure, Peer, Result, Side, check};
use crate::recovery;
use procession::prelude::*;
use std::time::Instant;

pub(crate) const WORKERS: usize = 2;

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
        contest: Contest::Alone { samples: recovery::worker, n: 50, goal: 50.0 },
    },
    Figure {
        name: "recovery.actor",
        unit: "ms",
        better: Better::Lower,
        workload: "SIGKILL of a supervised actor to the answer of the next process, 200 kills",
        contest: Contest::Alone { samples: recovery::actor, n: 200, goal: 50.0 },
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

pub(crate) fn map_chunk1(pool: &Pool, n: u64) -> Result<Vec<u64>> {
    Ok(pool.options().chunksize(1).map(identity, 0..n)?)
}

fn map_auto(pool: &Pool, n: u64) -> Result<Vec<u64>> {
    Ok(pool.map(identity, 0..n)?)
}
