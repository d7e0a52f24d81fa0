//! The preload function of the fork server.

use std::{
    env,
    fs::{self, File},
    io,
    os::fd::AsFd,
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use nix::unistd::{dup2_stderr, dup2_stdout};
use procession::{
    Context, Error, ErrorKind, OnPreloadError, StartMethod, set_forkserver_preload,
    set_forkserver_preload_with,
};

use crate::family::{contexts, leave, run};
use crate::support::{eventually, is_gone, isolated, kill9, own_pid};

/// The process in which the preload function ran; 0 where it did not.
static LOADED_BY: AtomicU32 = AtomicU32::new(0);

fn load() {
    LOADED_BY.store(std::process::id(), Ordering::Relaxed);
}

fn loaded_by() -> u32 {
    LOADED_BY.load(Ordering::Relaxed)
}

/// T187 (TestStartMethod.test_preload_resources), A35, A37.
#[test]
fn children_have_what_the_server_has_loaded_once() {
    isolated(|| {
        let context = Context::new(StartMethod::ForkServer);
        set_forkserver_preload(load).unwrap();
        let server = run(&context, loaded_by, ());
        assert!(server != 0 && server != std::process::id());
        for _ in 0..5 {
            assert_eq!(run(&context, loaded_by, ()), server);
        }
        assert_eq!(loaded_by(), 0, "it did not run here");
        assert_eq!(run(&Context::new(StartMethod::Spawn), loaded_by, ()), 0);
        assert_eq!(
            run(&context, || run(&Context::new(StartMethod::ForkServer), loaded_by, ()), ()),
            0,
            "children have servers of their own"
        );
        let error = set_forkserver_preload(load).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::ForkServerRuns { server: server.cast_signed() });
        kill9(server.cast_signed());
        eventually("it is gone", || is_gone(server.cast_signed()));
        // The child that the old server had ready may still be used.
        let next = [(); 2].map(|()| run(&context, loaded_by, ()))[1];
        assert!(next != 0 && next != server, "the new server has loaded too");
    });
}

fn panics() {
    panic!("no preload today");
}

fn refuses() -> Result<(), String> {
    Err("no preload today".to_owned())
}

/// In a process of its own, whose server has not been started: what the first start gives.
fn first_start(is_panic: bool, on_error: u8) -> Result<u32, (String, bool)> {
    let on_error =
        [OnPreloadError::Ignore, OnPreloadError::Warn, OnPreloadError::Fail][usize::from(on_error)];
    if is_panic {
        set_forkserver_preload_with(panics, on_error).unwrap();
    } else {
        set_forkserver_preload_with(refuses, on_error).unwrap();
    }
    start_twice()
}

/// The second start is as the first.
fn start_twice() -> Result<u32, (String, bool)> {
    let told = |error: Error| (error.to_string(), matches!(error.kind(), ErrorKind::PreloadFailed { .. }));
    let context = Context::new(StartMethod::ForkServer);
    let first = context.spawn(loaded_by, ()).map(drop).map_err(told);
    let second = context.spawn(loaded_by, ()).map_err(told);
    assert_eq!(first.is_ok(), second.is_ok());
    second.map(|process| process.result().unwrap())
}

/// A36.
#[test]
fn failing_preload_is_ignored_told_or_an_error() {
    isolated(|| {
        let path = env::temp_dir().join("told");
        let own = io::stderr().as_fd().try_clone_to_owned().unwrap();
        for context in &contexts() {
            for is_panic in [false, true] {
                for (on_error, lines) in [(0, 0), (1, 1), (2, 0)] {
                    dup2_stderr(File::create(&path).unwrap()).unwrap();
                    let outcome = context.spawn(first_start, (is_panic, on_error)).unwrap().result();
                    dup2_stderr(&own).unwrap();
                    let text = fs::read_to_string(&path).unwrap();
                    let told = text.matches("procession: the preload function of the fork server").count();
                    assert_eq!(told, lines, "{is_panic} {on_error}: {text}");
                    match outcome.unwrap() {
                        Ok(loaded) => assert_eq!((loaded, on_error < 2), (0, true)),
                        Err((error, is_typed)) => {
                            assert!(
                                on_error == 2 && is_typed && error.contains("no preload today"),
                                "{error}"
                            );
                        }
                    }
                }
            }
        }
        fs::remove_file(path).unwrap();
    });
}

fn leaves_a_thread() {
    thread::spawn(crate::family::park_forever);
}

fn uses_threads() {
    thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(load))));
}

#[test]
fn preload_may_use_threads_but_not_leave_them() {
    isolated(|| {
        for context in &contexts() {
            let left = || {
                set_forkserver_preload_with(leaves_a_thread, OnPreloadError::Ignore).unwrap();
                start_twice()
            };
            let (error, is_typed) = run(context, left, ()).unwrap_err();
            assert!(is_typed && error.contains("1 threads"), "{error}");
            let joined = || {
                set_forkserver_preload_with(uses_threads, OnPreloadError::Fail).unwrap();
                start_twice()
            };
            assert_ne!(run(context, joined, ()).unwrap(), 0);
        }
    });
}

#[test]
fn preload_that_ends_the_server_is_an_error() {
    isolated(|| {
        for context in &contexts() {
            let left = || {
                set_forkserver_preload_with(|| -> () { leave(3) }, OnPreloadError::Ignore).unwrap();
                start_twice()
            };
            let (error, is_typed) = run(context, left, ()).unwrap_err();
            assert!(is_typed && error.contains("code 3"), "{error}");
        }
    });
}

/// U9: what the server has in its buffer would be printed by each child.
#[test]
fn output_of_the_preload_is_printed_once() {
    isolated(|| {
        set_forkserver_preload(|| print!("half a line of {}", own_pid())).unwrap();
        let path = env::temp_dir().join("output");
        let own = io::stdout().as_fd().try_clone_to_owned().unwrap();
        dup2_stdout(File::create(&path).unwrap()).unwrap();
        let context = Context::new(StartMethod::ForkServer);
        (0..3).for_each(|_| run(&context, || print!("."), ()));
        dup2_stdout(&own).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!((text.matches("half a line").count(), text.matches('.').count()), (1, 3), "{text}");
        fs::remove_file(path).unwrap();
    });
}
