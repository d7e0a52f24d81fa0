//! What grows with the number of processes that were started: nothing.
//!
//! `PROCESSION_LONG=1` starts as many as users are promised.

use std::time::Duration;

use procession::{Connection, Context, StartMethod, pipe};

use crate::family::{METHODS, run, start};
use crate::support::{
    Options, ProcessState, amount, children_of, eventually, fd_count, fd_table_of, isolated_with, memory_of,
    own_pid, thread_count,
};

/// How many times the memory is looked at.
const LOOKS: usize = 20;
/// The first looks see what is made once.
const WARM_UP: usize = 5;
/// What an allocator may take more in the end, in KiB: less than 140 bytes a start in the long form.
const SLACK: f64 = 512.0;

fn starts(method: StartMethod) -> usize {
    match method {
        StartMethod::Spawn => amount(200, 1_000),
        _ => amount(1_000, 5_000),
    }
}

#[test]
fn starts_leave_nothing_and_nothing_grows_with_them() {
    let options = Options { watchdog: Duration::from_secs(amount(60, 600)), ..Options::default() };
    isolated_with(options, || {
        for method in METHODS {
            let context = Context::new(method).allow_threads();
            let each = starts(method) / LOOKS;
            let mut own = Vec::new();
            let mut theirs = Vec::new();
            start_many(&context, each);
            eventually("all are reaped", || helpers().iter().all(|helper| helper.state != 'Z'));
            let before = counts();
            for _ in 1..LOOKS {
                start_many(&context, each);
                eventually("nothing is left", || counts().iter().zip(before).all(|(now, then)| *now <= then));
                own.push(memory_of(own_pid()).unwrap());
                theirs.push(helpers().iter().filter_map(|helper| memory_of(helper.pid)).sum());
            }
            eprintln!("{method:?}: memory in KiB: {own:?}, helpers {theirs:?}");
            for memory in [own, theirs] {
                let growth = growth(&memory[WARM_UP..]);
                assert!(growth < SLACK, "memory grows by {growth:.0} KiB in {} starts", starts(method));
            }
        }
    });
}

/// Half of them one after the other, the others in groups that live together long enough to be watched by actors.
fn start_many(context: &Context, count: usize) {
    const GROUP: usize = 25;
    for x in 0..count / 2 {
        assert_eq!(run(context, |x: usize| x, (x,)), x);
    }
    for _ in 0..count / 2 / GROUP {
        let wait = |line: Connection| line.recv::<u64>().unwrap();
        let group: Vec<_> = (0..GROUP)
            .map(|_| {
                let (here, there) = pipe().unwrap();
                (start(context, wait, (there,)), here)
            })
            .collect();
        for (x, (_, line)) in group.iter().enumerate() {
            line.send(&(x as u64)).unwrap();
        }
        for (x, (process, _)) in group.iter().enumerate() {
            assert_eq!(process.result().unwrap(), x as u64);
        }
    }
}

/// Once all others have ended: the fork server and the child that it keeps ready.
fn helpers() -> Vec<ProcessState> {
    children_of(own_pid())
}

/// Own descriptors and threads, helpers and their descriptors.
fn counts() -> [usize; 4] {
    let helpers = helpers();
    let theirs = helpers.iter().map(|helper| fd_table_of(helper.pid).len()).sum();
    [fd_count(), thread_count(), helpers.len(), theirs]
}

/// By how much a line through the samples rises from the first to the last.
fn growth(samples: &[u64]) -> f64 {
    let count = samples.len() as f64;
    let middle = (count - 1.0) / 2.0;
    let mean = samples.iter().sum::<u64>() as f64 / count;
    let points = samples.iter().enumerate().map(|(x, &y)| (x as f64 - middle, y as f64 - mean));
    let (above, below) = points.fold((0.0, 0.0), |(above, below), (x, y)| (above + x * y, below + x * x));
    above / below * (count - 1.0)
}

#[test]
fn growth_is_the_rise_of_a_line() {
    assert!((growth(&[3, 5, 7, 9]) - 6.0).abs() < 1e-9);
    assert!(growth(&[4, 4, 4]).abs() < 1e-9);
    assert!(growth(&[9, 1, 1, 9]).abs() < 1e-9);
}
