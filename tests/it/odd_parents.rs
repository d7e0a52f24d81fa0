//! Parents in odd places: as process 1, without /proc, with SIGCHLD ignored, with strangers who wait for their children,
//! with another file to execute.

use std::{
    env, fs,
    os::unix::fs::symlink,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use nix::sys::wait::{WaitPidFlag, waitpid};
use procession::{
    Context, ErrorKind, ExitStatus, Pool, Process, StartMethod, decided_start_method, set_executable,
};

use crate::family::{contexts, park_forever, run, start};
use crate::support::isolated;

/// Which program the helper test plays.
const PLAY: &str = "PROCESSION_TEST_ODD_PARENT";

/// Runs this binary as another program by way of `wrapper`, which executes what follows its arguments.
#[track_caller]
fn run_program(wrapper: &[&str], play: &str) {
    let output = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "odd_parents::program", "--nocapture", "--test-threads=1"])
        .env_remove("PROCESSION_TEST_ROLE")
        .env(PLAY, play)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(
        output.status.success() && text.contains("played to the end"),
        "{play}: {:?} {text}",
        output.status
    );
}

/// Plays a program, but only when a test here starts it.
#[test]
fn program() {
    let Ok(play) = env::var(PLAY) else { return };
    match play.as_str() {
        "first process" => be_the_first_process(),
        "no proc" => live_without_proc(),
        "ignored" => ignore_children(),
        _ => panic!("{play}"),
    }
    println!("\nplayed to the end");
}

/// Whether namespaces can be made here: as root, mostly.
fn has_namespaces() -> bool {
    let tried = Command::new("unshare").args(["--mount", "--pid", "--fork", "--mount-proc", "true"]).status();
    let can = tried.is_ok_and(|status| status.success());
    if !can {
        eprintln!("notice: unshare does not work here, this test is skipped");
    }
    can
}

#[test]
fn first_process_of_a_container_starts_and_reaps_children() {
    isolated(|| {
        if has_namespaces() {
            run_program(&["unshare", "--pid", "--fork", "--mount-proc"], "first process");
        }
    });
}

fn be_the_first_process() {
    assert_eq!(std::process::id(), 1);
    for context in &contexts() {
        assert_eq!(run(context, std::os::unix::process::parent_id, ()), 1);
        let killed = start(context, park_forever, ());
        killed.kill().unwrap();
        killed.join().unwrap();
        assert_eq!(killed.exitcode(), Some(-9));
        let pool: Pool = context.pool().processes(2).start().unwrap();
        assert_eq!(pool.map(|x: u64| x + 1, 0..10).unwrap(), (1..11).collect::<Vec<u64>>());
    }
}

#[test]
fn without_proc_a_start_is_an_error_unless_the_program_is_named() {
    isolated(|| {
        if has_namespaces() {
            let script = "mount -t tmpfs none /proc && exec \"$0\" \"$@\"";
            run_program(&["unshare", "--mount", "sh", "-c", script], "no proc");
        }
    });
}

fn live_without_proc() {
    assert!(!fs::exists("/proc/self").unwrap());
    for method in StartMethod::ALL {
        let error = Context::new(method).spawn(|| (), ()).unwrap_err();
        let ErrorKind::NotSupported { reason, .. } = error.kind() else { panic!("{error:?}") };
        let expected =
            if method == StartMethod::Fork { "mount /proc, or allow them" } else { "/proc is not mounted" };
        assert!(reason.contains(expected), "{reason}");
    }
    assert_eq!(run(&Context::new(StartMethod::Fork).allow_threads(), || 6_u8, ()), 6);
    // /proc/self/exe is not there to ask; libtest is called by its path.
    set_executable(env::args_os().next().unwrap()).unwrap();
    assert_eq!(run(&Context::new(StartMethod::Spawn), || 7_u8, ()), 7);
    // The server cannot count its threads, so it refuses; a default that nobody set falls back.
    let refused = Context::new(StartMethod::ForkServer).spawn(|| (), ()).unwrap_err();
    assert!(matches!(refused.kind(), ErrorKind::NotSupported { method: "forkserver", .. }), "{refused:?}");
    assert_eq!(Process::spawn(|| 8_u8, ()).unwrap().result().unwrap(), 8);
    assert_eq!(decided_start_method(), Some(StartMethod::Spawn));
}

#[test]
fn parent_that_ignores_its_children_gets_results_and_no_status() {
    isolated(|| run_program(&["env", "--ignore-signal=CHLD"], "ignored"));
}

fn ignore_children() {
    for context in &contexts() {
        let process = start(context, || 7_u8, ());
        process.join().unwrap();
        assert!(matches!(process.status(), Some(ExitStatus::Unknown { .. })), "{process:?}");
        assert_eq!((process.exitcode(), process.is_alive()), (None, false));
        assert_eq!(process.result().unwrap(), 7);
        let killed = start(context, park_forever, ());
        killed.kill().unwrap();
        let error = killed.result().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::StatusUnknown { .. }), "{error:?}");
        assert!(format!("{killed:?}").contains("stopped exitcode=unknown"), "{killed:?}");
        let pool: Pool = context.pool().processes(2).start().unwrap();
        assert_eq!(pool.map(|x: u64| x + 1, [1, 2]).unwrap(), [2, 3]);
    }
}

/// Somebody waits for any child: then the status is theirs or ours, and no wait hangs.
#[test]
fn strangers_may_take_the_status_of_children() {
    isolated(|| {
        for context in &contexts() {
            let done = &AtomicBool::new(false);
            thread::scope(|scope| {
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        // Errors are those of having no child for a moment.
                        let _ = waitpid(None, Some(WaitPidFlag::WNOHANG));
                        thread::yield_now();
                    }
                });
                for round in 0..50_u64 {
                    let process = start(context, |x: u64| x, (round,));
                    assert_eq!(process.result().unwrap(), round, "the result does not depend on it");
                    assert!(matches!(process.exitcode(), Some(0) | None), "{process:?}");
                    let process = start(context, park_forever, ());
                    process.kill().unwrap();
                    process.join().unwrap();
                    assert!(matches!(process.exitcode(), Some(-9) | None), "{process:?}");
                }
                done.store(true, Ordering::Relaxed);
            });
        }
    });
}

/// A context for each method that executes a program: a copy made by fork goes on with its own.
fn executing() -> [Context; 2] {
    [StartMethod::Spawn, StartMethod::ForkServer].map(Context::new)
}

/// T3 (_TestProcess.test_set_executable), C15.
#[test]
fn another_file_of_this_build_may_be_executed() {
    fn program() -> String {
        fs::read_link("/proc/self/exe").unwrap().to_str().unwrap().to_owned()
    }
    isolated(|| {
        let own = program();
        let copy = env::temp_dir().join("copy of the program");
        fs::copy("/proc/self/exe", &copy).unwrap();
        for context in &executing() {
            set_executable(copy.to_str().unwrap()).unwrap();
            assert_eq!(run(context, program, ()), copy.to_str().unwrap());
            // As bytes and as a path, too; the server that runs stays.
            set_executable(std::ffi::OsStr::new(&own)).unwrap();
            if context.start_method() == StartMethod::Spawn {
                assert_eq!(run(context, program, ()), own);
            }
        }
        fs::remove_file(copy).unwrap();
    });
}

#[test]
fn program_of_another_build_is_refused_and_never_run() {
    isolated(|| {
        let link = env::temp_dir().join("link");
        for (what, kind) in [("/bin/sh", "another program"), ("/etc/passwd", "no program")] {
            let error = set_executable(what).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::AnotherProgram { .. }), "{error:?}");
            assert!(error.to_string().contains(kind) && error.to_string().contains(what), "{error}");
        }
        assert!(matches!(set_executable("/nowhere").unwrap_err().kind(), ErrorKind::Os { .. }));
        // Refusals change nothing.
        assert_eq!(run(&Context::new(StartMethod::Spawn), || 1_u8, ()), 1);
        symlink(env::current_exe().unwrap(), &link).unwrap();
        set_executable(&link).unwrap();
        fs::remove_file(&link).unwrap();
        symlink("/bin/cat", &link).unwrap();
        for context in &executing() {
            let error = context.spawn(|| (), ()).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::AnotherProgram { .. }), "{error:?}");
        }
        fs::remove_file(&link).unwrap();
        assert!(matches!(contexts()[0].spawn(|| (), ()).unwrap_err().kind(), ErrorKind::Os { .. }));
    });
}
