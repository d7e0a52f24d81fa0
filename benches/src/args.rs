//! The command line: `--group GROUP [--only NAME] [--json] [--python PYTHON] [--rounds N]`.
//!
//! Reading it is a pure function of the words, so that it can be tested; whether a group or a figure exists is for the
//! caller, who knows them.

/// Fewer rounds say nothing about the spread.
pub(crate) const FEWEST_ROUNDS: usize = 5;

pub(crate) const USAGE: &str = "\
usage: procession-bench --group GROUP [options]

Measures procession and its peers in turn and prints the ratios (above 1: procession is better).

options:
  --group GROUP    what to measure
  --only NAME      this figure only, or those whose names begin with `NAME.`
  --json           one JSON object a line for each figure and peer, instead of a table
  --python PYTHON  the interpreter to compare with (default: python3)
  --rounds N       how often each side is measured, at least 5 (default: 5)
  --help           this text";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) group: String,
    pub(crate) only: Option<String>,
    pub(crate) json: bool,
    pub(crate) python: String,
    pub(crate) rounds: usize,
}

/// A command line that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Run(Options),
}

/// Reads the words after the program's name. `Err` is a text for the person who typed them.
pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Command, String> {
    let mut words = words.into_iter();
    let (mut group, mut only, mut json) = (None, None, false);
    let (mut python, mut rounds) = ("python3".to_owned(), FEWEST_ROUNDS);
    while let Some(word) = words.next() {
        let (option, mut value) = match word.split_once('=') {
            Some((option, value)) => (option, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let mut take = || {
            let given = value.take().or_else(|| words.next());
            given.filter(|given| !given.is_empty()).ok_or_else(|| format!("{option} needs a value"))
        };
        match option {
            "--group" => group = Some(take()?),
            "--only" => only = Some(take()?),
            "--python" => python = take()?,
            "--rounds" => rounds = parse_rounds(&take()?)?,
            "--json" if value.is_none() => json = true,
            "--help" | "-h" => return Ok(Command::Help),
            _ => return Err(format!("unknown argument `{word}`")),
        }
    }
    let group = group.ok_or("--group is missing")?;
    Ok(Command::Run(Options { group, only, json, python, rounds }))
}

fn parse_rounds(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rounds) if rounds >= FEWEST_ROUNDS => Ok(rounds),
        _ => Err(format!("--rounds must be a number, at least {FEWEST_ROUNDS}, not `{text}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Command, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    fn options(line: &str) -> Options {
        match words(line) {
            Ok(Command::Run(options)) => options,
            other => panic!("`{line}` gave {other:?}"),
        }
    }

    #[test]
    fn a_group_alone_has_the_defaults() {
        let expected =
            Options { group: "pool".into(), only: None, json: false, python: "python3".into(), rounds: 5 };
        assert_eq!(options("--group pool"), expected);
    }

    #[test]
    fn every_option_is_taken_in_any_order_and_with_an_equals_sign() {
        let expected = Options {
            group: "start".into(),
            only: Some("start.child_pss".into()),
            json: true,
            python: "pypy".into(),
            rounds: 9,
        };
        for line in [
            "--group start --only start.child_pss --json --python pypy --rounds 9",
            "--rounds=9 --json --python=pypy --only=start.child_pss --group=start",
        ] {
            assert_eq!(options(line), expected, "{line}");
        }
    }

    #[test]
    fn help_wins_over_what_is_missing() {
        for line in ["--help", "-h", "--group pool --help"] {
            assert_eq!(words(line), Ok(Command::Help), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_said() {
        for (line, expected) in [
            ("", "--group is missing"),
            ("--group", "--group needs a value"),
            ("--group=", "--group needs a value"),
            ("--group pool --only", "--only needs a value"),
            ("pool", "unknown argument `pool`"),
            ("--group pool --json=yes", "unknown argument `--json=yes`"),
            ("--group pool --rounds 4", "--rounds must be a number, at least 5, not `4`"),
            ("--group pool --rounds many", "--rounds must be a number, at least 5, not `many`"),
        ] {
            assert_eq!(words(line), Err(expected.to_owned()), "{line}");
        }
    }
}
