//! What every test here stands on: a process of its own, waiting without sleeping, counting what must not grow.
//!
//! [`isolated`] runs the body of a test in three roles of the same binary, told apart by an environment variable:
//!
//! 1. The **outer** process is the one `cargo test` started. It starts the warden, and fails with all that was printed
//!    when the warden does not report success.
//! 2. The **warden** opens a session, becomes the subreaper of all that follows, starts the body and watches the clock.
//!    Whatever descends from the body and outlives its parent becomes a child of the warden, so nothing can hide.
//! 3. The **body** runs the closure and checks that it leaves no zombie.
//!
//! ```text
//! #[test]
//! fn a_child_knows_its_parent() {
//!     isolated(|| {
//!         let p = Process::spawn(parent_id, ()).unwrap();
//!         assert_eq!(p.result().unwrap(), std::process::id());
//!     });
//! }
//! ```

#![allow(dead_code, unused_imports, reason = "each capability uses its part")]

mod amount;
mod dump;
mod names;
mod procfs;
mod program;
mod warden;

use std::{
    any::type_name_of_val,
    env,
    fs::File,
    io::Read,
    os::unix::{fs::FileExt, process::CommandExt},
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        memfd::{MFdFlags, memfd_create},
        signal::{Signal, kill},
    },
    unistd::Pid,
};

use amount::is_long;
pub use amount::{Chance, amount};
pub use procfs::{
    ProcessState, all as processes, children_of, descendants_of, fd_table as fd_table_of, memory_of, process,
    sleepers_of as sleepers, threads_of,
};
pub use program::{file as example_file, outputs, printed};

/// `warden` or `body`; the outer process has none.
const ROLE: &str = "PROCESSION_TEST_ROLE";

/// How long [`eventually`] polls: long enough for a machine under any load, since only failing tests wait for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bounds of one isolated test.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// When the body still runs after this, all stacks are dumped, everything is killed and the test fails.
    pub watchdog: Duration,
    /// How long the processes, zombies and names that the body leaves behind may take to go.
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { watchdog: Duration::from_secs(60), grace: Duration::from_secs(10) }
    }
}

/// Runs `body` in a process and session of its own, fails when it panics, hangs, or leaves anything behind.
///
/// Must be called in the `#[test]` function itself, with a closure: the type of the closure is how the test's name is
/// found. A loop over start methods goes inside the closure, since the whole test function is run again for the body.
///
/// The body has a `TMPDIR` of its own, which must be empty afterwards, and its standard input is `/dev/null`.
#[track_caller]
pub fn isolated<F: FnOnce()>(body: F) {
    isolated_with(Options::default(), body);
}

/// [`isolated`] with other bounds.
#[track_caller]
pub fn isolated_with<F: FnOnce()>(options: Options, body: F) {
    if let Err(report) = run_isolated(options, body) {
        panic!("{report}");
    }
}

/// [`isolated_with`] that gives the report of a failure back. In the body's process it returns `Ok`, or panics.
pub fn run_isolated<F: FnOnce()>(options: Options, body: F) -> Result<(), String> {
    let name = test_name(type_name_of_val(&body));
    match env::var(ROLE).as_deref() {
        Err(_) => outer(&name),
        Ok("warden") => warden::run(&name, &options),
        Ok("body") => {
            body();
            assert_no_zombies(options.grace);
            Ok(())
        }
        Ok(other) => panic!("{ROLE} is {other:?}"),
    }
}

/// Whether this is the process in which the body of an isolated test runs.
pub fn inside_body() -> bool {
    env::var(ROLE).is_ok_and(|role| role == "body")
}

/// From the type of a closure, `it::start::spawn_works::{{closure}}`, to libtest's name, `start::spawn_works`.
pub fn test_name(closure: &str) -> String {
    let path = closure.split_once("::").map_or(closure, |(_krate, path)| path);
    let function = path.find("::{{closure}}").map_or(path, |end| &path[..end]);
    function.to_owned()
}

fn outer(name: &str) -> Result<(), String> {
    let output: File = memfd_create(c"procession-test-output", MFdFlags::MFD_CLOEXEC)
        .map_err(|error| format!("memfd_create: {error}"))?
        .into();
    let status = this_test(name, "warden")
        .stdout(output.try_clone().map_err(|error| error.to_string())?)
        .stderr(output.try_clone().map_err(|error| error.to_string())?)
        .status()
        .map_err(|error| format!("cannot start the test binary again: {error}"))?;
    match status.code() {
        Some(warden::PASSED) => {
            // Its figures are what it was run for; with `--nocapture` they are seen.
            if is_long() {
                eprint!("{}", contents(&output));
            }
            Ok(())
        }
        Some(0) => Err(format!(
            "there is no test `{name}`: call isolated() in the #[test] function itself, with a closure"
        )),
        _ => Err(format!(
            "isolated test `{name}` failed (warden: {status}); all that was printed:\n{}",
            contents(&output)
        )),
    }
}

/// This binary again, for one test. The magic link is the same image even when a build has replaced the file.
fn this_test(name: &str, role: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    if let Some(program) = env::args_os().next() {
        command.arg0(program);
    }
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(ROLE, role).stdin(Stdio::null());
    command
}

/// Everything in `file`, or the last part of very much, without moving the position that writers share.
fn contents(file: &File) -> String {
    const MOST: u64 = 512 * 1024;
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let start = length.saturating_sub(MOST);
    let mut bytes = vec![0; usize::try_from(length - start).unwrap_or(0)];
    match file.read_exact_at(&mut bytes, start) {
        Ok(()) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("(the output cannot be read: {error})"),
    }
}

fn assert_no_zombies(grace: Duration) {
    let own = own_pid();
    let zombies = || children_of(own).into_iter().filter(|child| child.state == 'Z').collect::<Vec<_>>();
    if !poll(grace, || zombies().is_empty()) {
        panic!("zombies are left in the body's process:\n{}", procfs::list(&zombies()));
    }
}

/// Waits until `condition` holds, at most 30 s.
#[track_caller]
pub fn eventually(what: &str, condition: impl FnMut() -> bool) {
    assert!(poll(PATIENCE, condition), "after {PATIENCE:?} still not: {what}");
}

/// Whether `condition` came true in time.
fn poll(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + patience;
    let mut step = Duration::from_millis(1);
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        pause(step);
        step = (step * 2).min(Duration::from_millis(20));
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where polling lives")]
fn pause(time: Duration) {
    thread::sleep(time);
}

/// Number of open descriptors of this process.
pub fn fd_count() -> usize {
    fd_table().len()
}

/// The open descriptors of this process and what they lead to.
pub fn fd_table() -> Vec<(i32, String)> {
    procfs::fd_table(own_pid())
}

/// Number of threads of this process.
pub fn thread_count() -> usize {
    procfs::threads_of(own_pid()).len()
}

/// The id of this process, as the kernel's calls want it.
pub fn own_pid() -> i32 {
    Pid::this().as_raw()
}

/// Whether there is no such process, or only its zombie: the one who must reap it may be somebody else.
pub fn is_gone(pid: i32) -> bool {
    process(pid).is_none_or(|found| matches!(found.state, 'Z' | 'X'))
}

/// SIGKILL to `pid`. A process that is gone already is fine.
pub fn kill9(pid: i32) {
    assert!(pid > 1, "kill9({pid}) would reach more than one process");
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// The path of a real python3. `None`, with a notice, where there is none.
///
/// # Panics
///
/// Where there is none and `PROCESSION_REQUIRE_PYTHON=1`, as in CI: a skipped test proves nothing.
pub fn python() -> Option<String> {
    static FOUND: OnceLock<Option<String>> = OnceLock::new();
    let found = FOUND.get_or_init(find_python).clone();
    if found.is_none() {
        let required = env::var("PROCESSION_REQUIRE_PYTHON").is_ok_and(|value| value == "1");
        assert!(!required, "PROCESSION_REQUIRE_PYTHON=1, but there is no working python3");
        eprintln!("notice: there is no python3 here, this part of the test is skipped");
    }
    found
}

/// Asks the interpreter for its own path, since `python3` may be a wrapper with another pid.
fn find_python() -> Option<String> {
    let mut child = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let mut path = String::new();
    let read = child.stdout.take()?.read_to_string(&mut path);
    let worked = child.wait().is_ok_and(|status| status.success()) && read.is_ok();
    let path = path.trim();
    (worked && !path.is_empty()).then(|| path.to_owned())
}
