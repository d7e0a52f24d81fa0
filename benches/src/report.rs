//! What is printed: a table for people, or a line of JSON for each figure and peer.

use crate::harness::{Contest, Figure, Measured};
use serde::Serialize;

const HEAD: [&str; 9] = ["figure", "peer", "unit", "ours", "theirs", "ratio", "spread", "goal / floor", ""];
const WIDTHS: [usize; 9] = [24, 10, 7, 9, 9, 8, 17, 13, 0];

/// The head of the table.
pub(crate) fn head() -> String {
    row(&HEAD.map(str::to_owned))
}

/// A line of the table.
pub(crate) fn line(figure: &Figure, measured: &Measured) -> String {
    let [ours, theirs, ratio, spread] = match measured {
        Measured::Against { ours, theirs, ratio } => [
            short(*ours),
            short(*theirs),
            times(ratio.median),
            format!("{} - {}", times(ratio.min), times(ratio.max)),
        ],
        Measured::Alone { p50, p99 } => {
            [short(*p99), "-".into(), "-".into(), format!("p50 {} p99 {}", short(*p50), short(*p99))]
        }
    };
    let (limits, mark) = verdict(figure, measured);
    let peer = figure.peer().unwrap_or("-");
    row(&[
        figure.name.into(),
        peer.into(),
        figure.unit.into(),
        ours,
        theirs,
        ratio,
        spread,
        limits,
        mark.into(),
    ])
}

/// A line of JSON.
pub(crate) fn json(figure: &Figure, measured: &Measured) -> serde_json::Result<String> {
    let Figure { name, unit, workload, .. } = figure;
    let peer = figure.peer();
    let (ours, p50, p99) = match *measured {
        Measured::Against { ours, .. } => (ours, None, None),
        Measured::Alone { p50, p99 } => (p99, Some(p50), Some(p99)),
    };
    let (theirs, ratio) = match measured {
        Measured::Against { theirs, ratio, .. } => (Some(*theirs), Some(*ratio)),
        Measured::Alone { .. } => (None, None),
    };
    let spread = ratio.map(|ratio| [ratio.min, ratio.max]);
    let ratio = ratio.map(|ratio| ratio.median);
    serde_json::to_string(&Line { name, unit, ours, peer, theirs, ratio, spread, p50, p99, workload })
}

/// The fields of a line, in their order. A figure without a peer has `null` for what a peer would give, and `p50` and
/// `p99`; its `ours` is the p99, which the goal is about.
#[derive(Debug, Serialize)]
struct Line<'a> {
    name: &'a str,
    unit: &'a str,
    ours: f64,
    peer: Option<&'a str>,
    theirs: Option<f64>,
    ratio: Option<f64>,
    spread: Option<[f64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99: Option<f64>,
    workload: &'a str,
}

/// Goal and floor, and where the measured value stands.
fn verdict(figure: &Figure, measured: &Measured) -> (String, &'static str) {
    match (&figure.contest, measured) {
        (Contest::Against { goal, floor, .. }, Measured::Against { ratio, .. }) => {
            let mark = match ratio.median {
                ratio if ratio >= *goal => "goal",
                ratio if ratio >= *floor => "floor",
                _ => "BELOW FLOOR",
            };
            (format!("{} / {}", times(*goal), times(*floor)), mark)
        }
        (Contest::Alone { goal, .. }, Measured::Alone { p99, .. }) => {
            (format!("<= {} / -", short(*goal)), if p99 <= goal { "goal" } else { "ABOVE GOAL" })
        }
        _ => (String::new(), ""),
    }
}

fn row(cells: &[String; 9]) -> String {
    let cells = cells.iter().zip(WIDTHS).enumerate();
    let padded = cells.map(|(column, (cell, width))| match column {
        3..=6 => format!("{cell:>width$}"),
        _ => format!("{cell:<width$}"),
    });
    padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
}

/// Three significant digits or more: `0.0625`, `87.3`, `15.3k`, `41.2M`.
fn short(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", short(v / 1e6)),
        v if v >= 1e4 => format!("{}k", short(v / 1e3)),
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 1.0 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

fn times(ratio: f64) -> String {
    format!("{}x", short(ratio))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::{Better, Peer};
    use crate::statistics::Summary;

    const AGAINST: Figure = Figure {
        name: "pool.apply",
        unit: "tasks/s",
        better: Better::Higher,
        workload: "a \"quoted\" load",
        contest: Contest::Against {
            ours: || Err("not run".into()),
            n: 1,
            peer: Peer::Python { n: 1 },
            goal: 15.0,
            floor: 8.0,
        },
    };
    const ALONE: Figure = Figure {
        name: "recovery.worker",
        unit: "ms",
        better: Better::Lower,
        workload: "a kill",
        contest: Contest::Alone { samples: |_| Ok(Vec::new()), n: 1, goal: 50.0 },
    };

    fn against(median: f64) -> Measured {
        let ratio = Summary { min: 1.0, median, max: 20.0 };
        Measured::Against { ours: 125_000.0, theirs: 10_000.0, ratio }
    }

    #[test]
    fn the_mark_says_where_the_ratio_stands() {
        for (median, expected) in [(15.0, "goal"), (14.9, "floor"), (8.0, "floor"), (7.99, "BELOW FLOOR")] {
            assert_eq!(verdict(&AGAINST, &against(median)).1, expected, "{median}");
        }
        for (p99, expected) in [(50.0, "goal"), (50.1, "ABOVE GOAL")] {
            assert_eq!(verdict(&ALONE, &Measured::Alone { p50: 1.0, p99 }).1, expected, "{p99}");
        }
    }

    #[test]
    fn json_has_the_agreed_fields_in_one_line() {
        assert_eq!(
            json(&AGAINST, &against(12.5)).unwrap(),
            r#"{"name":"pool.apply","unit":"tasks/s","ours":125000.0,"peer":"python","theirs":10000.0,"ratio":12.5,"#
                .to_owned()
                + r#""spread":[1.0,20.0],"workload":"a \"quoted\" load"}"#
        );
        assert_eq!(
            json(&ALONE, &Measured::Alone { p50: 0.5, p99: 2.0 }).unwrap(),
            r#"{"name":"recovery.worker","unit":"ms","ours":2.0,"peer":null,"theirs":null,"ratio":null,"#
                .to_owned()
                + r#""spread":null,"p50":0.5,"p99":2.0,"workload":"a kill"}"#
        );
    }

    #[test]
    fn lines_stand_under_their_head() {
        let line = line(&AGAINST, &against(12.5));
        for part in ["pool.apply", "python", "125k", "12.5x", "1.00x - 20.0x", "15.0x / 8.00x", "floor"] {
            assert!(line.contains(part), "{part}: {line}");
        }
        let end_of_ratio = line.find("12.5x").map(|at| at + "12.5x".len());
        assert_eq!(head().find("ratio").map(|at| at + "ratio".len()), end_of_ratio);
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (0.0625, "0.062"),
            (1.5, "1.50"),
            (87.31, "87.3"),
            (9_999.0, "9999"),
            (15_300.0, "15.3k"),
            (999_999.0, "1000k"),
            (41_200_000.0, "41.2M"),
        ] {
            assert_eq!(short(value), expected);
        }
    }
}
