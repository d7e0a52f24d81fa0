//! The process above the body: watchdog, subreaper, leak checker.

use std::{
    collections::BTreeSet,
    env, fs,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, ExitStatus, exit},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        prctl::set_child_subreaper,
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getppid, setsid},
};
use procession_ipc::sys::process::{Disposition, set_disposition};

use super::{Options, descendants_of, dump, kill9, names, own_pid, pause, poll, procfs, this_test};

/// The warden's exit code for "the body ran, and all is well": not 0, which libtest gives when no test has the name.
pub const PASSED: i32 = 42;
const FAILED: i32 = 43;

/// Killed processes go at once, unless the kernel holds them.
const KILL_TIME: Duration = Duration::from_secs(10);

/// Runs the test `name` again as the body, reports, ends the process.
#[expect(clippy::disallowed_methods, reason = "ends before libtest counts this run as a test of its own")]
pub fn run(name: &str, options: &Options) -> ! {
    let problems = watch(name, options).unwrap_or_else(|error| vec![format!("the warden failed: {error}")]);
    for problem in &problems {
        eprintln!("warden of `{name}`: {problem}");
    }
    exit(if problems.is_empty() { PASSED } else { FAILED })
}

/// How the time of the body ended.
enum End {
    Ended(ExitStatus),
    Hung,
    /// The outer process is gone: nobody wants to know any more.
    Abandoned,
}

fn watch(name: &str, options: &Options) -> std::io::Result<Vec<String>> {
    let outer = getppid();
    setsid()?;
    // Background jobs of a shell ignore them, and so would all processes of the test.
    for signal in [Signal::SIGINT, Signal::SIGQUIT] {
        set_disposition(signal, &Disposition::default())?;
    }
    set_child_subreaper(true)?;
    let scratch = Scratch::create()?;
    let before = names::snapshot();
    // A group of its own, so that a test may signal its group without reaching the warden.
    let mut body = this_test(name, "body").env("TMPDIR", &scratch.folder).process_group(0).spawn()?;
    let mut family = BTreeSet::from([body.id().cast_signed()]);

    let mut problems = Vec::new();
    match wait_for(&mut body, options.watchdog, outer, &mut family)? {
        End::Ended(status) if status.success() => {}
        End::Ended(status) => problems.push(describe(status)),
        End::Hung => {
            let stacks = dump::dump(&descendants_of(own_pid()));
            problems.push(format!("watchdog: the body still runs after {:?}; {stacks}", options.watchdog));
            kill_all();
        }
        End::Abandoned => {
            kill_all();
            problems.push("the outer process is gone".to_owned());
            return Ok(problems);
        }
    }
    problems.extend(leaked_processes(options.grace, &mut family));
    problems.extend(leaked_names(&before, &family, &scratch, options.grace));
    Ok(problems)
}

fn wait_for(
    body: &mut Child,
    watchdog: Duration,
    outer: Pid,
    family: &mut BTreeSet<i32>,
) -> std::io::Result<End> {
    const LOOK_AROUND: Duration = Duration::from_millis(100);
    let until = Instant::now() + watchdog;
    let mut next_look = Instant::now() + LOOK_AROUND;
    loop {
        if let Some(status) = body.try_wait()? {
            return Ok(End::Ended(status));
        }
        let now = Instant::now();
        if now >= until {
            return Ok(End::Hung);
        }
        if now >= next_look {
            if getppid() != outer {
                return Ok(End::Abandoned);
            }
            look_around(body, family);
            next_look = now + LOOK_AROUND;
        }
        pause(Duration::from_millis(2));
    }
}

/// Notes who belongs to the family, and reaps orphans as an init would, but never the body: its status is waited for.
fn look_around(body: &Child, family: &mut BTreeSet<i32>) {
    let own = own_pid();
    for process in descendants_of(own) {
        family.insert(process.pid);
        if process.ppid == own && process.state == 'Z' && process.pid != body.id().cast_signed() {
            let _ = waitpid(Pid::from_raw(process.pid), Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL));
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(101), _) => "the body panicked".to_owned(),
        (Some(code), _) => format!("the body ended with exit code {code}"),
        (None, signal) => format!("the body was killed by signal {}", signal.unwrap_or(0)),
    }
}

/// Waits until no descendant is left. Those that stay are named and killed.
fn leaked_processes(grace: Duration, family: &mut BTreeSet<i32>) -> Option<String> {
    if poll(grace, || !reap_and_see_children()) {
        return None;
    }
    let left = descendants_of(own_pid());
    family.extend(left.iter().map(|process| process.pid));
    let list = procfs::list(&left);
    let survivors = if kill_all() { "" } else { "\nsome of them survive SIGKILL" };
    Some(format!("leak: {} processes are left after {grace:?}:\n{list}{survivors}", left.len()))
}

/// Reaps what has ended. Whether children remain: without a child there is no descendant either, since all orphans
/// come to the subreaper.
fn reap_and_see_children() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::StillAlive) => return true,
            Err(Errno::ECHILD) => return false,
            // Another one is reaped; EINVAL is one that a real-time signal ended, which has no name in nix.
            Ok(_) | Err(_) => {}
        }
    }
}

/// Kills until nobody is left; new ones may be started meanwhile.
fn kill_all() -> bool {
    poll(KILL_TIME, || {
        for process in descendants_of(own_pid()) {
            if process.state != 'Z' {
                kill9(process.pid);
            }
        }
        !reap_and_see_children()
    })
}

fn leaked_names(
    before: &BTreeSet<names::Name>,
    family: &BTreeSet<i32>,
    scratch: &Scratch,
    grace: Duration,
) -> Vec<String> {
    let mut problems = Vec::new();
    if !poll(grace, || names::entries(&scratch.folder).is_empty()) {
        let files = names::entries(&scratch.folder);
        problems.push(format!("leak: the temporary folder still has {}", files.join(", ")));
    }
    let left = names::left_behind(before, family, grace);
    if !left.is_empty() {
        problems.push(format!("leak: names are left: {}", left.join(", ")));
    }
    problems
}

/// The body's temporary folder, empty at first, gone at the end.
struct Scratch {
    folder: PathBuf,
}

impl Scratch {
    fn create() -> std::io::Result<Self> {
        let folder = env::temp_dir().join(format!("procession-test-{}", own_pid()));
        remove(&folder);
        fs::create_dir(&folder)?;
        Ok(Self { folder })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.folder);
    }
}

/// Takes away what is there, if anything is.
fn remove(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
}
