//! Runs procession and its peers in turn and prints ratios: `procession-bench --group GROUP`, see `--help`.
//!
//! A new group is a module with a table of figures, and a line in [`GROUPS`]; what Python has to do for it is a line in
//! its part of `python/`.

#![forbid(unsafe_code)]

mod args;
mod harness;
mod manager;
mod pool;
mod processors;
mod python;
mod queue;
mod recovery;
mod report;
mod start;
mod statistics;
mod sync;

use args::{Command, Options};
use harness::{Figure, Measured, Result};
use python::Python;
use std::process::ExitCode;

/// Figures that are measured together.
struct Group {
    name: &'static str,
    figures: &'static [Figure],
}

const GROUPS: &[Group] = &[
    Group { name: "start", figures: start::FIGURES },
    Group { name: "queue", figures: queue::FIGURES },
    Group { name: "pool", figures: pool::FIGURES },
    Group { name: "manager", figures: manager::FIGURES },
    Group { name: "sync", figures: sync::FIGURES },
];

/// The command line could not be understood.
const MISUSE: u8 = 2;

fn main() -> ExitCode {
    // First, by its rules: what stands before it would run again in each of its children.
    procspawn::init();
    let options = match args::parse(std::env::args().skip(1)) {
        Ok(Command::Run(options)) => options,
        Ok(Command::Help) => {
            println!("{}\n\n{}", args::USAGE, list_groups());
            return ExitCode::SUCCESS;
        }
        Err(text) => {
            eprintln!("{text}\n\n{}\n\n{}", args::USAGE, list_groups());
            return MISUSE.into();
        }
    };
    match select(&options) {
        Ok(figures) => Run::new(options).measure_all(&figures),
        Err(text) => {
            eprintln!("{text}");
            MISUSE.into()
        }
    }
}

fn list_groups() -> String {
    let names: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
    format!("groups: {}", names.join(", "))
}

/// The figures that are asked for, at least one. `Err` is a text for the person who asked.
fn select(options: &Options) -> Result<Vec<&'static Figure>, String> {
    let Options { group: name, only, .. } = options;
    let group = GROUPS.iter().find(|group| group.name == name);
    let group = group.ok_or_else(|| format!("no group `{name}`; {}", list_groups()))?;
    let Some(only) = only else { return Ok(group.figures.iter().collect()) };
    let figures: Vec<&Figure> = group.figures.iter().filter(|figure| figure.is_meant_by(only)).collect();
    if figures.is_empty() {
        let mut names: Vec<&str> = group.figures.iter().map(|figure| figure.name).collect();
        names.dedup();
        return Err(format!("no figure `{only}` in group `{name}`; figures: {}", names.join(", ")));
    }
    Ok(figures)
}

/// A run with its interpreter, which is started when the first figure needs it.
struct Run {
    options: Options,
    python: Interpreter,
}

enum Interpreter {
    NotTried,
    Missing,
    Running(Box<Python>),
}

impl Run {
    fn new(options: Options) -> Self {
        Self { options, python: Interpreter::NotTried }
    }

    /// Failure when a figure failed; the others are measured all the same.
    fn measure_all(mut self, figures: &[&Figure]) -> ExitCode {
        if !self.options.json {
            println!(
                "group {}, {} rounds, {} processors",
                self.options.group,
                self.options.rounds,
                processors()
            );
            println!("{}", report::head());
        }
        let mut code = ExitCode::SUCCESS;
        for figure in figures {
            if let Err(error) = self.measure(figure) {
                let peer = figure.peer().map(|peer| format!(" against {peer}")).unwrap_or_default();
                eprintln!("{}{peer} failed: {error}", figure.name);
                code = ExitCode::FAILURE;
            }
        }
        if let (false, Interpreter::Running(python)) = (self.options.json, &self.python) {
            println!("python is CPython {}", python.version());
        }
        code
    }

    fn measure(&mut self, figure: &Figure) -> Result<()> {
        let rounds = self.options.rounds;
        let measured = if figure.needs_python() {
            let Some(python) = self.python()? else {
                eprintln!("{} is skipped: there is no `{}`", figure.name, self.options.python);
                return Ok(());
            };
            figure.measure(rounds, Some(python))?
        } else {
            figure.measure(rounds, None)?
        };
        self.print(figure, &measured)
    }

    /// The interpreter, or `None` where there is none.
    fn python(&mut self) -> Result<Option<&mut Python>> {
        if matches!(self.python, Interpreter::NotTried) {
            self.python = match Python::start(&self.options.python)? {
                Some(python) => Interpreter::Running(Box::new(python)),
                None => Interpreter::Missing,
            };
        }
        match &mut self.python {
            Interpreter::Running(python) => Ok(Some(python)),
            Interpreter::Missing | Interpreter::NotTried => Ok(None),
        }
    }

    fn print(&self, figure: &Figure, measured: &Measured) -> Result<()> {
        let line = match self.options.json {
            true => report::json(figure, measured)?,
            false => report::line(figure, measured),
        };
        println!("{line}");
        Ok(())
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(group: &str, only: Option<&str>) -> Options {
        let only = only.map(str::to_owned);
        Options { group: group.into(), only, json: false, python: "python3".into(), rounds: 5 }
    }

    fn names(group: &str, only: Option<&str>) -> Result<Vec<&'static str>, String> {
        select(&options(group, only)).map(|figures| figures.iter().map(|figure| figure.name).collect())
    }

    #[test]
    fn only_selects_every_peer_and_every_size_of_a_figure() {
        for (group, only, expected) in [
            ("pool", "pool.apply", &["pool.apply"][..]),
            ("start", "start.spawn.total", &["start.spawn.total", "start.spawn.total"]),
            ("start", "start.default.total", &["start.default.total.0", "start.default.total.500"]),
            ("start", "start.default.total.0", &["start.default.total.0"]),
        ] {
            assert_eq!(names(group, Some(only)).unwrap(), expected, "{only}");
        }
        assert_eq!(names("pool", None).unwrap().len(), pool::FIGURES.len());
    }

    #[test]
    fn an_unknown_group_or_figure_is_told_with_those_that_exist() {
        assert_eq!(
            names("pol", None).unwrap_err(),
            "no group `pol`; groups: start, queue, pool, manager, sync"
        );
        let error = names("pool", Some("pool.appl")).unwrap_err();
        assert!(error.starts_with("no figure `pool.appl` in group `pool`; figures: pool.apply, "), "{error}");
    }

    #[test]
    fn every_figure_has_a_script_and_a_place_between_floor_and_goal() {
        for figure in GROUPS.iter().flat_map(|group| group.figures) {
            assert!(
                !figure.needs_python() || python::SCRIPT.contains(&format!("\"{}\":", figure.name)),
                "{}",
                figure.name
            );
            if let harness::Contest::Against { goal, floor, .. } = figure.contest {
                assert!(floor <= goal, "{}", figure.name);
            }
        }
    }
}
