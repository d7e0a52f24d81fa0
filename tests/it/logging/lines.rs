//! `log_to_stderr`: Python's lines.

use std::env;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use procession::{ErrorKind, Level, LevelFilter, Process, log_to_stderr};
use tracing::{debug, error, info, info_span, trace, warn};

use super::collector;
use crate::family::{contexts, run};
use crate::support::isolated;

/// What this process and its children print to standard error from now on.
struct Stderr {
    file: File,
    before: std::os::fd::OwnedFd,
}

impl Stderr {
    fn catch() -> Self {
        let path = env::temp_dir().join("stderr");
        let file = File::options().read(true).append(true).create_new(true).open(&path).unwrap();
        fs::remove_file(path).unwrap();
        let before = std::io::stderr().as_fd().try_clone_to_owned().unwrap();
        nix::unistd::dup2_stderr(&file).unwrap();
        Self { file, before }
    }

    fn lines(&self) -> Vec<String> {
        let mut text = vec![0; usize::try_from(self.file.metadata().unwrap().len()).unwrap()];
        self.file.read_exact_at(&mut text, 0).unwrap();
        String::from_utf8(text).unwrap().lines().map(str::to_owned).collect()
    }

    /// Lines of the tests, without the library's own.
    fn own_lines(&self) -> Vec<String> {
        let is_own = |line: &String| !line.contains("] child process") && !line.contains("] process ");
        self.lines().into_iter().filter(is_own).collect()
    }
}

impl Drop for Stderr {
    fn drop(&mut self) {
        let _ = nix::unistd::dup2_stderr(&self.before);
    }
}

fn one_of_each() {
    error!("e");
    warn!("w");
    info!("i");
    debug!("d");
    trace!("t");
}

/// T156 (_TestLogging.test_enable_logging).
#[test]
fn the_level_filters_here_and_in_children() {
    isolated(|| {
        let stderr = Stderr::catch();
        one_of_each();
        log_to_stderr(Level::WARN).unwrap();
        one_of_each();
        for (number, context) in contexts().iter().enumerate() {
            let name = format!("child-{number}");
            Process::builder(one_of_each).context(context).name(name).start().unwrap().join().unwrap();
        }
        log_to_stderr(LevelFilter::OFF).unwrap();
        one_of_each();
        let expected = [
            "[ERROR/MainProcess] e",
            "[WARNING/MainProcess] w",
            "[ERROR/child-0] e",
            "[WARNING/child-0] w",
            "[ERROR/child-1] e",
            "[WARNING/child-1] w",
            "[ERROR/child-2] e",
            "[WARNING/child-2] w",
        ];
        assert_eq!(stderr.lines(), expected);
    });
}

/// T157 (_TestLogging.test_level).
#[test]
fn children_have_the_level_that_was_set_last() {
    isolated(|| {
        let _stderr = Stderr::catch();
        for context in &contexts() {
            for level in [LevelFilter::DEBUG, LevelFilter::ERROR, LevelFilter::INFO] {
                log_to_stderr(level).unwrap();
                assert_eq!(LevelFilter::current(), level);
                let levels = run(
                    context,
                    || {
                        let own = LevelFilter::current().to_string();
                        let grandchild = Process::spawn(|| LevelFilter::current().to_string(), ()).unwrap();
                        [own, grandchild.result().unwrap()]
                    },
                    (),
                );
                assert_eq!(levels, [level.to_string(), level.to_string()]);
            }
        }
    });
}

/// G3; the texts are Python's.
#[test]
fn the_library_reports_the_life_of_a_child() {
    isolated(|| {
        let stderr = Stderr::catch();
        log_to_stderr(Level::INFO).unwrap();
        for context in &contexts() {
            let before = stderr.lines().len();
            Process::builder(|| info!("hello")).context(context).name("kid").start().unwrap().join().unwrap();
            let expected = [
                "[INFO/kid] child process calling self.run()",
                "[INFO/kid] hello",
                "[INFO/kid] process exiting with exitcode 0",
            ];
            assert_eq!(stderr.lines()[before..], expected);
        }
    });
}

#[test]
fn an_event_is_one_line_whatever_it_says() {
    isolated(|| {
        let stderr = Stderr::catch();
        log_to_stderr(Level::INFO).unwrap();
        for context in &contexts() {
            let before = stderr.own_lines().len();
            let child = || {
                let _span = info_span!("unseen").entered();
                info!(text = "x\ny", n = 5, "first\nsecond \x1b[31mred");
            };
            let process = Process::builder(child).context(context).name("two\nlines").start().unwrap();
            process.join().unwrap();
            let expected = r#"[INFO/two\nlines] first\nsecond \u{1b}[31mred text="x\ny" n=5"#;
            assert_eq!(stderr.own_lines()[before..], [expected]);
        }
    });
}

#[test]
fn lines_of_many_processes_are_not_torn() {
    fn many(number: u64) {
        let text = number.to_string().repeat(100);
        (0..200).for_each(|_| info!("{text}"));
    }
    isolated(|| {
        let stderr = Stderr::catch();
        log_to_stderr(Level::INFO).unwrap();
        for context in &contexts() {
            let before = stderr.own_lines().len();
            let processes: Vec<_> = (1..=4)
                .map(|number| Process::builder(many).args((number,)).context(context).start().unwrap())
                .collect();
            processes.iter().for_each(|process| process.join().unwrap());
            let lines = stderr.own_lines();
            assert_eq!(lines.len() - before, 800);
            for line in &lines[before..] {
                let (_, text) = line.split_once("] ").unwrap();
                let first = &text[..1];
                assert_eq!(text, first.repeat(100), "{line}");
            }
        }
    });
}

#[test]
fn a_program_with_a_subscriber_is_told_that_it_has_one() {
    isolated(|| {
        collector::listen(LevelFilter::INFO);
        assert_eq!(log_to_stderr(Level::INFO).unwrap_err().kind(), &ErrorKind::SubscriberInstalled);
        for context in &contexts() {
            // There it only says how much is sent.
            run(context, || log_to_stderr(Level::WARN).map(|()| one_of_each()).unwrap(), ());
            let heard: Vec<_> =
                collector::take_events().iter().map(|event| event.message().to_owned()).collect();
            assert_eq!(heard, ["e", "w"]);
        }
    });
}
