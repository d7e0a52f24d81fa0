//! Figures, and how they are measured: both sides in turn (A B A B), a ratio for each pair, the median of the ratios.
//!
//! Neighbours in time share the machine's mood, so a ratio of neighbours says more than a ratio of medians. Before the
//! first round each side runs once with a tenth of the work, which is not counted.

use crate::python::Python;
use crate::statistics::{Summary, quantile};

pub(crate) type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Measures once with so many operations; the value is in the figure's unit. It holds what the rounds share.
pub(crate) type Side = Box<dyn FnMut(u64) -> Result<f64>>;

/// What is measured, how, and what it must reach.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) workload: &'static str,
    pub(crate) contest: Contest,
}

/// Which way the unit points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// How a figure is measured. `n` is the number of operations of one round on our side.
#[derive(Debug)]
pub(crate) enum Contest {
    /// Against a peer; `goal` and `floor` are ratios.
    Against { ours: fn() -> Result<Side>, n: u64, peer: Peer, goal: f64, floor: f64 },
    /// Alone, once; the p99 of `n` samples should not be above `goal`, in the figure's unit.
    Alone { samples: fn(u64) -> Result<Vec<f64>>, n: u64, goal: f64 },
}

/// Whom a figure is compared with, and the number of operations of one round on that side.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peer {
    /// The script knows the figure by its name.
    Python {
        n: u64,
    },
    Crate {
        name: &'static str,
        side: fn() -> Result<Side>,
        n: u64,
    },
}

/// What came out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Measured {
    /// The medians of both sides, and the ratios.
    Against {
        ours: f64,
        theirs: f64,
        ratio: Summary,
    },
    Alone {
        p50: f64,
        p99: f64,
    },
}

impl Figure {
    /// Whether `--only NAME` means this figure.
    pub(crate) fn is_meant_by(&self, only: &str) -> bool {
        self.name.strip_prefix(only).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// The peer's name, if there is a peer.
    pub(crate) fn peer(&self) -> Option<&'static str> {
        match self.contest {
            Contest::Against { peer: Peer::Python { .. }, .. } => Some("python"),
            Contest::Against { peer: Peer::Crate { name, .. }, .. } => Some(name),
            Contest::Alone { .. } => None,
        }
    }

    pub(crate) fn needs_python(&self) -> bool {
        matches!(self.contest, Contest::Against { peer: Peer::Python { .. }, .. })
    }

    /// Measures. A figure that needs Python fails without.
    pub(crate) fn measure(&self, rounds: usize, python: Option<&mut Python>) -> Result<Measured> {
        match self.contest {
            Contest::Alone { samples, n, .. } => alone(samples(n)?),
            Contest::Against { ours, n, peer: Peer::Crate { side, n: peer_n, .. }, .. } => {
                let (mut ours, mut theirs) = (ours()?, side()?);
                self.alternate(rounds, (n, &mut ours), (peer_n, &mut theirs))
            }
            Contest::Against { ours, n, peer: Peer::Python { n: peer_n }, .. } => {
                let python = python.ok_or("there is no python")?;
                let mut ours = ours()?;
                let measured =
                    self.alternate(rounds, (n, &mut ours), (peer_n, &mut |n| python.run(self.name, n)));
                // Also after a failure, or the next figure would find its pool and its heap.
                let ended = python.end();
                measured.and_then(|measured| ended.map(|()| measured))
            }
        }
    }

    fn alternate(&self, rounds: usize, ours: Timed<'_>, theirs: Timed<'_>) -> Result<Measured> {
        let ((n, ours), (peer_n, theirs)) = (ours, theirs);
        ours(warm_up(n))?;
        theirs(warm_up(peer_n))?;
        let (mut all_ours, mut all_theirs) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            all_ours.push(ours(n)?);
            all_theirs.push(theirs(peer_n)?);
        }
        let pairs = all_ours.iter().zip(&all_theirs);
        let ratios: Vec<f64> = pairs.map(|(ours, theirs)| self.better.ratio(*ours, *theirs)).collect();
        let ours = Summary::of(&all_ours)?.median;
        let theirs = Summary::of(&all_theirs)?.median;
        Ok(Measured::Against { ours, theirs, ratio: Summary::of(&ratios)? })
    }
}

/// A side with the number of operations of a round.
type Timed<'a> = (u64, &'a mut dyn FnMut(u64) -> Result<f64>);

impl Better {
    /// Above 1 when ours is better.
    fn ratio(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Self::Higher => ours / theirs,
            Self::Lower => theirs / ours,
        }
    }
}

fn warm_up(n: u64) -> u64 {
    n.div_ceil(10)
}

fn alone(mut samples: Vec<f64>) -> Result<Measured> {
    samples.sort_by(f64::total_cmp);
    Ok(Measured::Alone { p50: quantile(&samples, 0.5)?, p99: quantile(&samples, 0.99)? })
}

/// An error unless a result is what it should be.
pub(crate) fn check<T: PartialEq + std::fmt::Debug>(what: &str, have: &T, want: &T) -> Result<()> {
    if have == want {
        return Ok(());
    }
    let (mut have, mut want) = (format!("{have:?}"), format!("{want:?}"));
    for text in [&mut have, &mut want] {
        if text.len() > 100 {
            *text = text.chars().take(100).chain("...".chars()).collect();
        }
    }
    Err(format!("wrong {what}: {have} instead of {want}").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn figure(name: &'static str, better: Better) -> Figure {
        let contest = Contest::Alone { samples: |_| Ok(Vec::new()), n: 0, goal: 1.0 };
        Figure { name, unit: "us", better, workload: "", contest }
    }

    #[test]
    fn only_takes_a_name_or_its_beginning_up_to_a_dot() {
        let figure = figure("start.default.total.500", Better::Lower);
        for (only, expected) in [
            ("start.default.total.500", true),
            ("start.default.total", true),
            ("start", true),
            ("start.default.tot", false),
            ("start.default.total.500.x", false),
            ("pool", false),
        ] {
            assert_eq!(figure.is_meant_by(only), expected, "{only}");
        }
    }

    #[test]
    fn sides_take_turns_after_a_warm_up_with_a_tenth() {
        let calls = RefCell::new(Vec::new());
        let mut ours = |n| {
            calls.borrow_mut().push(('A', n));
            Ok(1.0)
        };
        let mut theirs = |n| {
            calls.borrow_mut().push(('B', n));
            Ok(1.0)
        };
        figure("x", Better::Lower).alternate(2, (200, &mut ours), (25, &mut theirs)).unwrap();
        let expected = [('A', 20), ('B', 3), ('A', 200), ('B', 25), ('A', 200), ('B', 25)];
        assert_eq!(calls.into_inner(), expected);
    }

    #[test]
    fn ratios_are_formed_by_pair_and_above_one_means_ours_is_better() {
        for (better, expected) in [(Better::Higher, [0.25, 0.5, 1.0]), (Better::Lower, [1.0, 2.0, 4.0])] {
            // The first value of each side is its warm-up.
            let (mut a, mut b) = ([9.0, 1.0, 1.0, 2.0].into_iter(), [9.0, 4.0, 2.0, 2.0].into_iter());
            let (mut ours, mut theirs) = (|_| Ok(a.next().unwrap()), |_| Ok(b.next().unwrap()));
            let measured = figure("x", better).alternate(3, (1, &mut ours), (1, &mut theirs)).unwrap();
            let [min, median, max] = expected;
            let ratio = Summary { min, median, max };
            assert_eq!(measured, Measured::Against { ours: 1.0, theirs: 2.0, ratio }, "{better:?}");
        }
    }

    #[test]
    fn a_wrong_result_is_an_error_of_bounded_length() {
        assert!(check("sum", &1, &1).is_ok());
        assert_eq!(check("sum", &1, &2).unwrap_err().to_string(), "wrong sum: 1 instead of 2");
        let long = check("items", &vec![0; 100_000], &vec![1; 100_000]).unwrap_err().to_string();
        assert!(long.len() < 300, "{long}");
    }
}
