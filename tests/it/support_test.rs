//! The support itself: each way in which an isolated body can fail is made to happen and must be reported.

#![allow(clippy::zombie_processes, reason = "what the bodies leave behind is the point")]

use std::{
    env, fs,
    os::linux::net::SocketAddrExt,
    os::unix::net::{SocketAddr, UnixListener},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::support::{
    Options, children_of, eventually, fd_count, fd_table, inside_body, is_gone, isolated, kill9, own_pid,
    process, python, run_isolated, test_name, thread_count,
};

/// The report of a body that must fail; `None` in the body's own process, where the rest of the test is not meant to run.
#[track_caller]
fn failing_isolated(options: Options, body: impl FnOnce()) -> Option<String> {
    match run_isolated(options, body) {
        Err(report) => Some(report),
        Ok(()) if inside_body() => None,
        Ok(()) => panic!("the body was meant to fail"),
    }
}

/// Short bounds, so that the tests of failures need not wait for the generous ones.
fn impatient() -> Options {
    Options { grace: Duration::from_millis(300), ..Options::default() }
}

/// Starts a shell script and waits for its end; what it leaves in the background belongs to nobody.
fn shell(script: &str) {
    let status = Command::new("sh").args(["-c", script]).status().unwrap();
    assert!(status.success(), "{script}: {status}");
}

#[track_caller]
fn assert_has(report: &str, parts: &[&str]) {
    for part in parts {
        assert!(report.contains(part), "{part:?} is missing in:\n{report}");
    }
}

#[test]
fn name_of_a_test_comes_from_its_closure() {
    let cases = [
        ("it::start::spawn_works::{{closure}}", "start::spawn_works"),
        ("it::start::deep::nested::works::{{closure}}", "start::deep::nested::works"),
        ("it::works::{{closure}}::{{closure}}", "works"),
        ("it::works", "works"),
        ("works", "works"),
    ];
    for (closure, expected) in cases {
        assert_eq!(test_name(closure), expected, "{closure}");
    }
}

mod nested {
    use super::isolated;

    #[test]
    fn a_test_in_a_nested_module_is_found() {
        isolated(|| {});
    }
}

#[test]
fn body_runs_in_a_process_group_and_temp_folder_of_its_own() {
    isolated(|| {
        assert!(inside_body());
        let folder = env::temp_dir();
        assert!(folder.to_string_lossy().contains("procession-test-"), "{}", folder.display());
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0);
        assert_eq!(nix::unistd::getpgrp(), nix::unistd::getpid());
    });
}

#[test]
fn panic_in_the_body_is_reported_with_its_text() {
    let report = failing_isolated(impatient(), || panic!("the moon is made of {}", "cheese"));
    let Some(report) = report else { return };
    assert_has(
        &report,
        &[
            "support_test::panic_in_the_body",
            "the moon is made of cheese",
            "support_test.rs",
            "the body panicked",
        ],
    );
}

#[test]
fn body_that_exits_or_is_killed_is_reported() {
    let report = failing_isolated(impatient(), || kill9(own_pid()));
    let Some(report) = report else { return };
    assert_has(&report, &["killed by signal 9"]);
}

#[test]
fn helper_that_calls_for_a_test_is_told_what_to_do() {
    fn helper() -> Result<(), String> {
        run_isolated(Options::default(), || {})
    }
    // The outer process sees that no test has the name of the helper's closure.
    assert_has(&helper().unwrap_err(), &["there is no test", "in the #[test] function itself"]);
}

#[test]
fn daemon_left_behind_is_reported_by_name() {
    let report = failing_isolated(impatient(), || shell("setsid sleep 1000 </dev/null >/dev/null 2>&1 &"));
    let Some(report) = report else { return };
    assert_has(&report, &["leak: 1 processes are left", "sleep 1000", "state S"]);
    assert!(!report.contains("panicked"), "{report}");
    assert_no_process_with("procession-test-daemon sleep 1000", &report);
}

/// Every pid that the report names is gone: the warden killed it.
#[track_caller]
fn assert_no_process_with(what: &str, report: &str) {
    let pids =
        report.lines().filter_map(|line| line.trim().strip_prefix("pid ")?.split(' ').next()?.parse().ok());
    let pids: Vec<i32> = pids.collect();
    assert!(!pids.is_empty(), "no pid in:\n{report}");
    eventually(what, || pids.iter().all(|&pid| is_gone(pid)));
}

#[test]
fn child_that_outlives_the_body_is_reported() {
    let report = failing_isolated(impatient(), || {
        Command::new("sleep").arg("1000").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    });
    let Some(report) = report else { return };
    assert_has(&report, &["leak: 1 processes are left", "sleep 1000"]);
}

#[test]
fn zombie_of_the_body_is_reported() {
    let report = failing_isolated(impatient(), || {
        let child = Command::new("true").spawn().unwrap();
        eventually("the child ends", || is_gone(child.id().cast_signed()));
    });
    let Some(report) = report else { return };
    assert_has(&report, &["zombies are left", "state Z: [true]", "the body panicked"]);
}

#[test]
fn body_that_hangs_is_caught_with_a_dump_of_all_threads() {
    let options = Options { watchdog: Duration::from_secs(1), ..impatient() };
    let report = failing_isolated(options, || {
        let _child = Command::new("sleep").arg("1000").spawn().unwrap();
        let waiter = thread::Builder::new().name("waits-for-ever".to_owned()).spawn(thread::park).unwrap();
        waiter.join().unwrap();
    });
    let Some(report) = report else { return };
    assert_has(
        &report,
        &[
            "watchdog: the body still runs after 1s",
            "`waits-for-ever` state S wchan",
            "sleep 1000",
            "--- gdb of pid",
        ],
    );
    assert_no_process_with("all that hung is killed", &report);
}

#[test]
fn file_left_in_the_temp_folder_is_reported() {
    let report = failing_isolated(impatient(), || {
        fs::write(env::temp_dir().join("forgotten"), "x").unwrap();
    });
    let Some(report) = report else { return };
    assert_has(&report, &["leak: the temporary folder still has", "forgotten"]);
    let line = report.lines().find(|line| line.contains("forgotten")).unwrap();
    let path = line.split("still has ").nth(1).unwrap();
    assert!(!fs::exists(path).unwrap(), "{path} is still there");
}

#[test]
fn name_left_in_dev_shm_is_reported() {
    let report = failing_isolated(impatient(), || {
        fs::write(format!("/dev/shm/procession-selftest-{}", own_pid()), "x").unwrap();
    });
    let Some(report) = report else { return };
    assert_has(&report, &["leak: names are left: /dev/shm/procession-selftest-"]);
    let name = report.lines().find_map(|line| line.split("names are left: ").nth(1)).unwrap();
    fs::remove_file(name).unwrap();
}

#[test]
fn names_of_others_are_not_held_against_a_body() {
    // Made while the body runs, by a process that lives on: the outer one. Held open, or marked with its pid.
    isolated(|| {
        let outer = process(process(own_pid()).unwrap().ppid).unwrap().ppid;
        let marked = format!("/dev/shm/procession-selftest-of-{outer}");
        fs::write(&marked, "x").unwrap();
    });
    let marked = format!("/dev/shm/procession-selftest-of-{}", own_pid());
    if !inside_body() {
        fs::remove_file(marked).unwrap();
    }
}

#[test]
fn abstract_socket_of_a_dead_process_is_no_leak() {
    isolated(|| {
        let address = SocketAddr::from_abstract_name(format!("procession-selftest-{}", own_pid())).unwrap();
        let _listener = UnixListener::bind_addr(&address).unwrap();
    });
}

#[test]
fn counts_see_what_is_opened_and_started() {
    isolated(|| {
        let (fds, threads) = (fd_count(), thread_count());
        let file = fs::File::open("/dev/null").unwrap();
        assert_eq!(fd_count(), fds + 1);
        assert!(fd_table().iter().any(|(_fd, link)| link == "/dev/null"));
        drop(file);
        assert_eq!(fd_count(), fds);
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let waiter = thread::spawn(move || receiver.recv().is_err());
        assert_eq!(thread_count(), threads + 1);
        drop(sender);
        assert!(waiter.join().unwrap());
        eventually("the thread is gone", || thread_count() == threads);
    });
}

#[test]
fn children_are_listed_and_gone_after_kill9() {
    isolated(|| {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id().cast_signed();
        eventually("the child is sleep", || {
            children_of(own_pid()).iter().any(|found| found.pid == pid && found.cmdline == "sleep 1000")
        });
        assert!(!is_gone(pid));
        kill9(pid);
        eventually("the child is gone, though not reaped", || is_gone(pid));
        child.wait().unwrap();
        assert!(is_gone(pid) && process(pid).is_none());
    });
}

#[test]
fn orphans_are_reaped_while_the_body_runs() {
    isolated(|| {
        shell("sh -c 'exit 3' </dev/null >/dev/null 2>&1 & echo $! > \"$TMPDIR/pid\"");
        let file = env::temp_dir().join("pid");
        let pid: i32 = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        fs::remove_file(file).unwrap();
        eventually("the orphan is reaped by the warden", || process(pid).is_none());
    });
}

#[test]
fn python_is_found_or_skipped_with_a_notice() {
    isolated(|| {
        let Some(python) = python() else { return };
        let output = Command::new(python).args(["-c", "print(6 * 7)"]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "42");
    });
}
