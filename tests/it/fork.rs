//! Copies of this process: closures that capture, and what a copy has of its parent and what it has not.
//!
//! The harness's own thread is a stranger to every fork here, hence `allow_threads`. What holds without it is in
//! `fork_programs`, whose program has one thread.

use std::{cell::RefCell, rc::Rc, sync::atomic::AtomicU32, sync::atomic::Ordering, thread};

use procession::{
    Connection, Context, ErrorKind, ForkBuilder, Orphan, Pool, Process, StartMethod, Wire, active_children,
    current_process, pipe,
};

use crate::family::{Death, contexts, die, park_forever, run, start};
use crate::support::{eventually, is_gone, isolated, own_pid};

/// A copy of this process that runs `closure`, though the harness has a thread.
fn copy<F: FnOnce() -> R, R: Wire>(closure: F) -> Process<R> {
    builder(closure).start().unwrap()
}

fn builder<F>(closure: F) -> ForkBuilder<F> {
    Process::fork_builder(closure).allow_threads()
}

fn forking() -> Context {
    Context::new(StartMethod::Fork).allow_threads()
}

#[test]
fn closure_has_what_it_captured_whatever_that_is() {
    isolated(|| {
        let words = ["by reference".to_owned(), "from the stack".to_owned()];
        let shared = Rc::new(RefCell::new(1));
        let moved = Rc::clone(&shared);
        let process = copy(move || {
            *moved.borrow_mut() += 1;
            (words.concat(), *moved.borrow(), std::process::id())
        });
        assert_eq!(Rc::strong_count(&shared), 1, "what was moved is dropped here");
        let pid = process.pid();
        assert_eq!(process.result().unwrap(), ("by referencefrom the stack".to_owned(), 2, pid));
        assert_eq!(*shared.borrow(), 1, "a copy changes its own memory");
    });
}

/// Says on a connection when it is dropped, as a thread-local that writes something out.
struct Tell(Connection);

impl Drop for Tell {
    fn drop(&mut self) {
        let _ = self.0.send(&7_u8);
    }
}

thread_local! {
    static TELL: RefCell<Option<Tell>> = const { RefCell::new(None) };
}

#[test]
fn thread_locals_of_the_parent_are_not_dropped_in_a_copy() {
    isolated(|| {
        let (here, there) = pipe().unwrap();
        TELL.set(Some(Tell(there)));
        let has_it = copy(|| TELL.with_borrow(Option::is_some));
        assert!(has_it.result().unwrap());
        assert!(!here.poll().unwrap(), "the copy dropped it");
        TELL.set(None);
        assert_eq!(here.recv::<u8>().unwrap(), 7);
    });
}

#[test]
fn copies_are_processes_like_all_others() {
    isolated(|| {
        let described = builder(|| current_process().name().to_owned()).name("copied").daemon(true);
        assert!(format!("{described:?}").contains("name='copied'"), "{described:?}");
        let process = described.start().unwrap();
        assert!(process.is_daemon());
        assert_eq!(process.result().unwrap(), "copied");
        let parent = std::process::id();
        let unnamed = copy(move || {
            let own = current_process();
            let mother = procession::parent_process().unwrap();
            (own.name().to_owned(), own.is_daemon(), mother.pid() == parent && mother.is_alive())
        });
        assert_eq!(unnamed.result().unwrap(), ("Process-2".to_owned(), false, true));
        assert_eq!(unnamed.exitcode(), Some(0));
    });
}

#[test]
fn copies_end_in_all_the_ways_of_a_process() {
    isolated(|| {
        let cases = [
            (Death::Panic, 1),
            (Death::Exit(7), 7),
            (Death::Exit(256), 0),
            (Death::KILL, -9),
            (Death::SEGV, -11),
            (Death::Abort, -6),
        ];
        for (death, code) in cases {
            let process = copy(|| die(death));
            let error = process.result().unwrap_err();
            assert_eq!(process.exitcode(), Some(code), "{error}");
            match (death, error.kind()) {
                (Death::Panic, ErrorKind::Panicked { message, .. }) => assert_eq!(message, "as it was told"),
                (Death::Exit(_), ErrorKind::Exited { .. }) => {}
                (_, ErrorKind::Signaled { signal, .. }) => assert_eq!(-signal, code),
                (_, other) => panic!("{death:?}: {other:?}"),
            }
        }
    });
}

fn grandchild() -> (u32, String) {
    (std::process::id(), current_process().name().to_owned())
}

#[test]
fn every_method_works_within_every_other() {
    isolated(|| {
        for outer in &contexts() {
            // The second child of the copy: what its parent has started does not count.
            let inner = || contexts().map(|context| run(&context, grandchild, ()).1);
            let names = run(outer, inner, ());
            let own = |n: usize| names[n - 1].ends_with(&format!(":{n}"));
            assert!((1..=3).all(own), "{names:?}");
        }
        let nested = copy(|| {
            let (pid, name) = copy(|| copy(grandchild).result().unwrap()).result().unwrap();
            let pool = Pool::builder().processes(2).context(&forking()).start().unwrap();
            (pid != std::process::id(), name, pool.map(|x: u64| x * x, 0..100).unwrap().iter().sum::<u64>())
        });
        assert_eq!(nested.result().unwrap(), (true, "Process-4:1:1".to_owned(), 328_350));
    });
}

/// P16, after a fork.
#[test]
fn handles_of_the_parent_are_refused_in_a_copy() {
    isolated(|| {
        let sibling: Process<()> = Process::builder(park_forever).daemon(true).start().unwrap();
        let pool = Pool::new(2).unwrap();
        let pending = pool.apply_async(park_forever, ()).unwrap();
        let seen = copy(|| {
            assert!(sibling.is_alive());
            assert!(active_children().is_empty());
            assert!(pool.worker_pids().is_empty());
            pool.close();
            pool.terminate();
            pending.wait();
            let errors = [
                sibling.join().unwrap_err(),
                sibling.kill().unwrap_err(),
                sibling.result().unwrap_err(),
                pool.apply(|x: u8| x, (1,)).unwrap_err(),
                pool.map(|x: u8| x, [1]).unwrap_err(),
                pool.imap(|x: u8| x, [1]).and_then(|mut all| all.next().unwrap()).unwrap_err(),
                pool.join().unwrap_err(),
                pending.get().unwrap_err(),
            ];
            errors.map(|error| format!("{:?}", error.kind()))
        });
        let creator = format!("creator: {}", own_pid());
        let kinds = seen.result().unwrap();
        for kind in &kinds[..3] {
            assert!(kind.contains("ForeignChild") || kind.contains("NotCreator"), "{kind}");
        }
        assert!(
            kinds[3..].iter().all(|kind| kind.contains("NotCreator") && kind.contains(&creator)),
            "{kinds:?}"
        );
        assert_eq!(pool.apply(|x: u8| x + 1, (1,)).unwrap(), 2, "the pool has not noticed");
        pool.terminate();
        pool.join().unwrap();
        sibling.kill().unwrap();
        sibling.join().unwrap();
    });
}

#[test]
fn captured_connection_works_and_others_end_as_if_no_copy_lived() {
    isolated(|| {
        let (here, there) = pipe().unwrap();
        let speaker = copy(move || there.send(&"from the copy".to_owned()).unwrap());
        assert_eq!(here.recv::<String>().unwrap(), "from the copy");
        speaker.result().unwrap();
        // Both ends are open here when the bystanders are made; they run a plain function, which cannot know of them.
        let (ours, theirs) = pipe().unwrap();
        let first: Process<()> = start(&forking(), park_forever, ());
        let reader =
            start(&forking(), |end: Connection| end.recv::<u8>().unwrap_err().to_string(), (theirs,));
        let second: Process<()> = start(&forking(), park_forever, ());
        drop(ours);
        assert!(reader.result().unwrap().contains("closed"));
        for process in [first, second] {
            process.kill().unwrap();
            process.join().unwrap();
        }
    });
}

fn head(connection: &Connection) {
    let armed: Vec<Process> = (0..5)
        .map(|_| {
            let child = Process::builder(park_forever).context(&forking()).orphan(Orphan::Kill);
            child.start().unwrap()
        })
        .collect();
    connection.send(&armed.iter().map(|child| child.pid().cast_signed()).collect::<Vec<i32>>()).unwrap();
    park_forever();
}

/// FB1: each sibling has inherited everything, but not the lifelines of the others.
#[test]
fn forked_siblings_die_with_their_killed_parent() {
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let process = start(context, head, (&there,));
            let pids: Vec<i32> = here.recv().unwrap();
            process.kill().unwrap();
            eventually("all are gone", || pids.iter().all(|&pid| is_gone(pid)));
            process.join().unwrap();
        }
    });
}

/// A20, D7: a copy would not have the thread, but whatever it holds.
#[test]
fn threads_of_others_are_refused_by_name() {
    isolated(|| {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let named = thread::Builder::new().name("a stranger".to_owned());
        let stranger = named.spawn(move || receiver.recv().unwrap_err()).unwrap();
        for error in [
            Process::fork(|| 1).unwrap_err(),
            Process::builder(|| 1).context(&Context::new(StartMethod::Fork)).start().unwrap_err(),
            Pool::builder().context(&Context::new(StartMethod::Fork)).start().map(drop).unwrap_err(),
        ] {
            let ErrorKind::OtherThreads { count, names } = error.kind() else { panic!("{error:?}") };
            assert!(*count >= 2 && names.iter().any(|name| name == "a stranger"), "{error}");
            assert!(error.to_string().contains("a stranger"), "{error}");
        }
        assert_eq!(copy(|| 1).result().unwrap(), 1);
        drop(sender);
        stranger.join().unwrap();
    });
}

/// FE11, as far as it can be had: glibc looks after its allocator, and this library after its own locks.
#[test]
fn forks_beside_threads_that_allocate_start_and_end_find_no_lock_taken() {
    static ROUNDS: AtomicU32 = AtomicU32::new(0);
    isolated(|| {
        let done = &std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            for n in 0..8_u64 {
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        let text: Vec<String> = (0..100).map(|x: u64| (x * n).to_string()).collect();
                        assert_eq!(text.len(), 100);
                        ROUNDS.fetch_add(1, Ordering::Relaxed);
                        if n == 0 {
                            Process::spawn(|x: u64| x, (n,)).unwrap().result().unwrap();
                        }
                    }
                });
            }
            for n in 0..100_u64 {
                let process = copy(|| copy(|| n.to_string()).result().unwrap());
                assert_eq!(process.result().unwrap(), n.to_string());
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(ROUNDS.load(Ordering::Relaxed) > 0);
    });
}
