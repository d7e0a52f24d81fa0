//! Group `manager`: methods of objects in another process. Python's are those of a manager's object.

use crate::harness::{Better, Contest, Figure, Peer, Result, Side, check};
use procession::prelude::*;
use serde::{Deserialize, Serialize};
use std::time::Instant;

pub(crate) const FIGURES: &[Figure] = &[
    Figure {
        name: "actor.call",
        unit: "calls/s",
        better: Better::Higher,
        workload: "add(1) of a counter in another process, one call after the other, N = 20k",
        contest: against_python(|| side(call), 20_000, 3.0, 2.5),
    },
    Figure {
        name: "actor.call.pipelined",
        unit: "calls/s",
        better: Better::Higher,
        workload: "add(1) of a counter in another process, all sent, then all answers read, N = 50k; Python has \
                   no such calls and makes one after the other",
        contest: against_python(|| side(call_pipelined), 50_000, 20.0, 10.0),
    },
];

const fn against_python(ours: fn() -> Result<Side>, n: u64, goal: f64, floor: f64) -> Contest {
    Contest::Against { ours, n, peer: Peer::Python { n }, goal, floor }
}

#[derive(Serialize, Deserialize)]
struct Counter {
    total: u64,
}

#[procession::actor(vis = "pub(self)")]
impl Counter {
    pub(crate) fn add(&mut self, n: u64) -> u64 {
        self.total += n;
        self.total
    }
}

/// Calls a second of a verb that counts to n.
fn side(verb: fn(&CounterProxy, u64) -> Result<Vec<u64>>) -> Result<Side> {
    let counter = ActorProcess::spawn(Counter { total: 0 })?;
    let mut before = 0;
    Ok(Box::new(move |n| {
        let begin = Instant::now();
        let totals = verb(&counter, n)?;
        let took = begin.elapsed();
        check("totals", &totals, &(before + 1..=before + n).collect())?;
        before += n;
        Ok(n as f64 / took.as_secs_f64())
    }))
}

fn call(counter: &CounterProxy, n: u64) -> Result<Vec<u64>> {
    (0..n).map(|_| Ok(counter.add(1)?)).collect()
}

fn call_pipelined(counter: &CounterProxy, n: u64) -> Result<Vec<u64>> {
    let calls: Vec<Call<u64>> = (0..n).map(|_| counter.add_async(1)).collect();
    calls.into_iter().map(|call| Ok(call.wait()?)).collect()
}
