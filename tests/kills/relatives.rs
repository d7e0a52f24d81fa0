//! Families besides that of the test: the same program again, which makes a root of its own.

use std::env;
use std::process::{Child, Command, Stdio};

const PART: &str = "PROCESSION_TEST_PART";

/// What this process was started for, if it was started by [`start`].
pub fn part() -> Option<String> {
    env::var(PART).ok()
}

/// Starts another run of the test `name`, for which [`part`] is this one. Its standard output can be read.
pub fn start(name: &str, part: &str) -> Child {
    Command::new("/proc/self/exe")
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(PART, part)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}
