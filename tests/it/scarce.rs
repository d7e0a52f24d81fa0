//! Starting with too little, or too much at once: the start works, or is an error, and nothing is left of it either way.

use std::{
    fs::File,
    os::fd::{IntoRawFd, OwnedFd},
};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use procession::{Connection, Context, ErrorKind, Process, StartMethod, active_children, pipe};

use crate::family::{contexts, run, start};
use crate::support::{children_of, eventually, fd_count, fd_table, isolated, own_pid};

/// The context of this name. Threads that wait for the end of a test hold nothing.
fn named(method: &str) -> Context {
    Context::new(method.parse().unwrap()).allow_threads()
}

/// Lets this process have 40 descriptors more than now, and takes all of them but `free`.
fn take_descriptors(free: usize) -> Vec<OwnedFd> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let highest = fd_table().into_iter().map(|(fd, _)| fd).max().unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, highest as u64 + 41, hard).unwrap();
    let mut taken: Vec<OwnedFd> =
        std::iter::from_fn(|| File::open("/dev/null").ok()).map(Into::into).collect();
    taken.truncate(taken.len() - free);
    taken
}

/// Nobody is left but the fork server and the child that it keeps ready.
fn assert_no_rest() {
    eventually("nothing is left", || {
        active_children();
        let children = children_of(own_pid());
        children.len() <= 2 && !children.iter().any(|child| child.state == 'Z')
    });
}

/// Starts a process with few descriptors free, then another with enough of them; says whether the first start worked.
/// `is_first`: nothing was started in this process before.
fn start_with_few(context: &Context, free: usize, is_first: bool, text: &str) -> bool {
    if !is_first {
        run(context, || (), ());
    }
    let taken = take_descriptors(free);
    let started = Process::builder(str::len).args((text,)).context(context).start();
    drop(taken);
    let works = match started {
        Ok(process) => process.result().unwrap() == text.len(),
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::Os { .. }), "{error:?}");
            assert_no_rest();
            false
        }
    };
    assert_eq!(run(context, |x: u8| x, (7,)), 7);
    assert_no_rest();
    works
}

#[test]
fn start_without_enough_descriptors_works_or_is_an_error_and_leaves_nothing() {
    isolated(|| {
        for context in &contexts() {
            for (is_first, length) in [(true, 0), (false, 0), (false, 100_000)] {
                let works = |free: usize| {
                    run(
                        context,
                        |method: &str, free: usize, is_first: bool, text: &String| {
                            start_with_few(&named(method), free, is_first, text)
                        },
                        (context.start_method().name(), free, is_first, &"x".repeat(length)),
                    )
                };
                let enough = (0..16).find(|&free| works(free));
                assert!(enough.is_some_and(|free| free > 0 && works(free + 1)), "{enough:?}");
            }
        }
    });
}

#[test]
fn start_with_more_descriptors_than_a_message_takes_is_an_error_and_leaves_nothing() {
    isolated(|| {
        for context in &contexts() {
            run(context, || (), ());
            assert_no_rest();
            let before = fd_count();
            let ends: Vec<Connection> = (0..130).flat_map(|_| <[_; 2]>::from(pipe().unwrap())).collect();
            let taken = Process::builder(Vec::<Connection>::len).args((&ends,)).context(context);
            let error = taken.start().unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Codec { .. }), "{error:?}");
            assert_no_rest();
            assert_eq!(run(context, <[Connection]>::len, (&ends[..200],)), 200);
            drop(ends);
            assert_no_rest();
            eventually("no descriptor is left", || fd_count() <= before);
        }
    });
}

/// A limit for files is one for the memory files in which much travels, too.
#[test]
fn start_with_more_than_a_file_may_hold_is_an_error_and_no_signal() {
    fn start_much(method: &str) -> (bool, usize) {
        let context = named(method);
        setrlimit(Resource::RLIMIT_FSIZE, 50_000, 50_000).unwrap();
        let started = context.builder(str::len).args((&*"x".repeat(100_000),)).start();
        let told = match context.start_method() {
            // A copy has its arguments in memory.
            StartMethod::Fork => started.unwrap().result().unwrap() == 100_000,
            _ => matches!(started.unwrap_err().kind(), ErrorKind::Os { .. }),
        };
        (told, context.builder(str::len).args((&*"x".repeat(20_000),)).start().unwrap().result().unwrap())
    }
    isolated(|| {
        for context in &contexts() {
            let told = start(context, start_much, (context.start_method().name(),));
            assert_eq!(told.result().unwrap(), (true, 20_000));
        }
    });
}

#[test]
fn result_that_cannot_be_sent_for_want_of_something_is_a_bad_result() {
    fn without_descriptors() -> String {
        // Open for good, as in a program that leaks them.
        for taken in take_descriptors(0) {
            let _number = taken.into_raw_fd();
        }
        "x".repeat(100_000)
    }
    fn beyond_the_limit_of_files() -> String {
        setrlimit(Resource::RLIMIT_FSIZE, 50_000, 50_000).unwrap();
        "x".repeat(100_000)
    }
    fn with_too_many_descriptors() -> Vec<Connection> {
        (0..130).flat_map(|_| <[_; 2]>::from(pipe().unwrap())).collect()
    }
    isolated(|| {
        for context in &contexts() {
            let ends = [
                start(context, without_descriptors, ()).result().map(drop),
                start(context, beyond_the_limit_of_files, ()).result().map(drop),
                start(context, with_too_many_descriptors, ()).result().map(drop),
            ];
            for end in ends {
                let error = end.unwrap_err();
                assert!(matches!(error.kind(), ErrorKind::BadResult { .. }), "{error:?}");
            }
        }
    });
}

#[test]
fn pool_without_enough_descriptors_works_or_is_an_error_and_leaves_nothing() {
    fn start_a_pool(method: &str, free: usize) -> bool {
        let context = named(method);
        run(&context, || (), ());
        let taken = take_descriptors(free);
        let started = context.pool().processes(2).start();
        drop(taken);
        let works = match started {
            Ok(pool) => {
                assert_eq!(pool.map(|x: u64| x + 1, [1, 2]).unwrap(), [2, 3]);
                pool.close();
                pool.join().unwrap();
                true
            }
            Err(error) => {
                // It may be the duplicate of a descriptor that travels to a worker.
                let (kind, text) = (error.kind(), error.to_string());
                assert!(
                    matches!(kind, ErrorKind::Os { .. } | ErrorKind::Other { .. })
                        || text.contains("Too many open files"),
                    "{error:?}"
                );
                false
            }
        };
        run(&context, || (), ());
        assert_no_rest();
        works
    }
    isolated(|| {
        for context in &contexts() {
            let works = |free: usize| run(context, start_a_pool, (context.start_method().name(), free));
            let enough = (0..40).find(|&free| works(free));
            assert!(enough.is_some_and(|free| free > 0 && works(free + 1)), "{enough:?}");
        }
    });
}

/// As many of the descriptors as fit have come, and are closed again.
#[test]
fn message_with_more_descriptors_than_are_free_is_an_error_and_keeps_none() {
    isolated(|| {
        let (here, there) = pipe().unwrap();
        let ends: Vec<Connection> = (0..10).flat_map(|_| <[_; 2]>::from(pipe().unwrap())).collect();
        here.send(&ends).unwrap();
        let before = fd_count();
        let taken = take_descriptors(5);
        let error = there.recv::<Vec<Connection>>().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Os { .. }), "{error:?}");
        assert_eq!(fd_count(), before + taken.len());
    });
}

/// A closure needs no descriptor for what it captures, only for its start and a large answer.
#[test]
fn copy_without_enough_descriptors_works_or_is_an_error_and_leaves_nothing() {
    fn copy_with_few(free: usize) -> bool {
        let captured = "x".repeat(100_000);
        let taken = take_descriptors(free);
        let copy = || Process::fork_builder(|| captured.clone()).allow_threads().start();
        let started = copy();
        drop(taken);
        let ended = started.and_then(|process| process.result());
        // The copy has as few as this process had, and a large result takes one.
        let told = ended.as_ref().map_err(procession::Error::kind);
        assert!(matches!(told, Ok(_) | Err(ErrorKind::Os { .. } | ErrorKind::BadResult { .. })), "{told:?}");
        let works = ended.is_ok_and(|text| text == captured);
        assert_no_rest();
        assert_eq!(copy().unwrap().result().unwrap(), captured);
        works
    }
    isolated(|| {
        let works = |free: usize| run(&contexts()[0], copy_with_few, (free,));
        let enough = (0..16).find(|&free| works(free));
        assert!(enough.is_some_and(|free| free > 0 && works(free + 1)), "{enough:?}");
    });
}
