//! Uses that nobody planned: everything at once, from everywhere, in the wrong moment.

use std::{
    env, fs,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread,
};

use nix::{sys::signal::SigSet, unistd::close};
use procession::{Connection, Context, ErrorKind, Orphan, Pool, Process, StartMethod, active_children, pipe};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::family::{METHODS, contexts, leave, park_forever, run, start};
use crate::support::{eventually, fd_count, fd_table, is_gone, isolated, own_pid};

/// Which program the helper test plays.
const PLAY: &str = "PROCESSION_TEST_ODD_USES";

/// Plays a program, but only when a test here starts it.
#[test]
fn program() {
    match env::var(PLAY).as_deref() {
        Ok("removed") => be_removed(),
        Ok("exec") => become_another_program(),
        Ok("stubborn") => leave_a_stubborn_daemon(),
        Ok("busy") => leave_while_threads_start_processes(),
        _ => {}
    }
}

/// Runs `program`, which is this one or a copy, as another program: what it printed.
#[track_caller]
fn played(program: &str, play: &str) -> String {
    let output = Command::new(program)
        .args(["--exact", "odd_uses::program", "--nocapture", "--test-threads=1"])
        .env_remove("PROCESSION_TEST_ROLE")
        .env(PLAY, play)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{play}: {:?} {text}", output.status);
    text
}

/// Threads that start, join, kill, list, ask and drop, all of it at the same time and each other's children too.
#[test]
fn threads_do_everything_at_once() {
    isolated(|| {
        let contexts = &contexts();
        run(&contexts[0], || (), ());
        run(&contexts[1], || (), ());
        thread::scope(|scope| {
            for number in 0..4_usize {
                scope.spawn(move || {
                    for round in 0..30 {
                        let context = &contexts[(number + round) % contexts.len()];
                        let process = start(context, |x: usize| vec![x; 3000], (round,));
                        match round % 3 {
                            0 => process.join().unwrap(),
                            1 => assert_eq!(process.result().unwrap(), [round; 3000]),
                            _ => drop(process),
                        }
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..200 {
                    for child in active_children() {
                        let _ = (child.is_alive(), child.exitcode(), format!("{child:?}"));
                        child.join().unwrap();
                        child.terminate().unwrap();
                        child.close().unwrap();
                    }
                    thread::yield_now();
                }
            });
        });
        eventually("all are reaped", || active_children().is_empty());
    });
}

#[test]
fn results_that_nobody_takes_cost_nothing() {
    isolated(|| {
        for context in &contexts() {
            // It still runs when its handle is dropped: the actors are there from then on.
            let (here, there) = pipe().unwrap();
            drop(start(context, |end: Connection| drop(end.recv::<()>()), (there,)));
            drop(here);
            eventually("the first one is forgotten", || active_children().is_empty());
            let before = fd_count();
            for _ in 0..20 {
                drop(start(context, || vec![1_u8; 1 << 20], ()));
            }
            eventually("nothing is left", || active_children().is_empty() && fd_count() <= before);
        }
    });
}

/// Starts a process whenever it is encoded or decoded.
struct Starter(u32);

impl Serialize for Starter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let number = Process::spawn(|x: u32| x + 1, (self.0,)).unwrap().result().unwrap();
        serializer.serialize_u32(number)
    }
}

impl<'de> Deserialize<'de> for Starter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u32::deserialize(deserializer)?;
        Ok(Self(Process::spawn(|x: u32| x + 1, (number,)).unwrap().result().unwrap()))
    }
}

#[test]
fn encoding_and_decoding_may_start_processes() {
    isolated(|| {
        for context in &contexts() {
            let back = run(context, |starter: Starter| Starter(starter.0 * 10), (Starter(1),));
            assert_eq!(back.0, 32);
        }
    });
}

/// Panics when it is encoded, in this process.
struct Bomb;

impl Serialize for Bomb {
    fn serialize<S: Serializer>(&self, _serializer: S) -> Result<S::Ok, S::Error> {
        panic!("not to be encoded")
    }
}

impl<'de> Deserialize<'de> for Bomb {
    fn deserialize<D: Deserializer<'de>>(_deserializer: D) -> Result<Self, D::Error> {
        Ok(Self)
    }
}

#[test]
fn panic_while_arguments_are_encoded_is_one_of_the_caller_and_spoils_nothing() {
    isolated(|| {
        for context in &contexts() {
            run(context, || (), ());
            let before = fd_count();
            let caught = thread::scope(|scope| {
                scope.spawn(|| context.spawn(|_: Bomb| (), (Bomb,)).is_ok()).join().is_err()
            });
            assert!(caught);
            assert_eq!(run(context, |x: u8| x, (1,)), 1);
            eventually("no descriptor is left", || {
                active_children();
                fd_count() <= before
            });
            let error = start(context, || Bomb, ()).result().err().unwrap();
            assert!(matches!(error.kind(), ErrorKind::Panicked { .. }), "{error:?}");
        }
    });
}

/// As long as it runs, a program can be started again, also when its file is gone.
#[test]
fn program_whose_file_was_removed_starts_processes() {
    isolated(|| {
        let copy = env::temp_dir().join("to be removed");
        fs::copy("/proc/self/exe", &copy).unwrap();
        let text = played(copy.to_str().unwrap(), "removed");
        assert!(text.contains("played to the end"), "{text}");
        assert!(!copy.exists());
    });
}

fn be_removed() {
    fs::remove_file(env::current_exe().unwrap()).unwrap();
    for context in &contexts() {
        assert_eq!(run(context, |x: u8| run(&contexts()[0], |y: u8| y + 1, (x,)), (7,)), 8);
    }
    println!("\nplayed to the end");
}

/// The new program knows nothing of the children of the old one: those that are armed end.
#[test]
fn program_that_becomes_another_loses_its_armed_children() {
    isolated(|| {
        let text = played("/proc/self/exe", "exec");
        let pids: Vec<i32> =
            text.lines().filter_map(|line| line.strip_prefix("pid ")?.parse().ok()).collect();
        assert_eq!(pids.len(), METHODS.len());
        eventually("they are gone", || pids.iter().all(|&pid| is_gone(pid)));
        assert!(text.contains("another program"), "{text}");
    });
}

fn become_another_program() {
    println!();
    for context in &contexts() {
        let daemon = context.builder(park_forever).daemon(true).start().unwrap();
        println!("pid {}", daemon.pid());
    }
    panic!("{}", Command::new("echo").arg("another program").exec());
}

/// D25: daemons may have children, and pools; all of them go with the first.
#[test]
fn daemons_have_daemons_and_pools_and_all_end_with_the_first() {
    fn descend(connection: &Connection, generations: u32) {
        let pool = Pool::new(1).unwrap();
        connection.send(&(std::process::id(), pool.worker_pids()[0])).unwrap();
        if generations > 0 {
            let child = Process::spawn(descend, (connection, generations - 1)).unwrap();
            assert!(child.is_daemon());
        }
        park_forever();
    }
    isolated(|| {
        for context in &contexts() {
            for ends_by_itself in [false, true] {
                let (here, there) = pipe().unwrap();
                let first = context.builder(descend).args((&there, 2)).daemon(true).start().unwrap();
                let pids: Vec<(i32, i32)> = (0..3).map(|_| here.recv().unwrap()).collect();
                if ends_by_itself { first.terminate() } else { first.kill() }.unwrap();
                first.join().unwrap();
                let is_over = || pids.iter().all(|&(pid, worker)| is_gone(pid) && is_gone(worker));
                eventually("all are gone", is_over);
            }
        }
    });
}

/// What does not listen to SIGTERM is killed 5 s later.
#[test]
fn daemon_that_blocks_the_request_to_end_does_not_keep_the_program() {
    isolated(|| {
        let text = played("/proc/self/exe", "stubborn");
        let pid = text.lines().find_map(|line| line.strip_prefix("pid ")?.parse().ok()).unwrap();
        assert!(is_gone(pid), "{text}");
    });
}

fn leave_a_stubborn_daemon() {
    fn refuse(connection: &Connection) {
        SigSet::all().thread_block().unwrap();
        connection.send(&()).unwrap();
        park_forever();
    }
    let (here, there) = pipe().unwrap();
    // Not armed, so it is the exit handler that ends it and not the kernel.
    let daemon = Process::builder(refuse).args((&there,)).daemon(true).orphan(Orphan::Keep).start().unwrap();
    here.recv::<()>().unwrap();
    println!("\npid {}", daemon.pid());
}

/// The methods take turns, twelve generations deep; each waits for the next.
#[test]
fn generations_follow_each_other() {
    fn descend(generation: usize) -> Vec<i32> {
        let mut pids = vec![own_pid()];
        if generation > 0 {
            let context = Context::new(METHODS[generation % METHODS.len()]);
            pids.extend(run(&context, descend, (generation - 1,)));
        }
        pids
    }
    isolated(|| {
        let mut pids = run(&Context::new(StartMethod::ForkServer), descend, (12,));
        assert_eq!(pids.len(), 13);
        pids.sort_unstable();
        pids.dedup();
        assert_eq!(pids.len(), 13, "all at the same time");
        assert!(pids.into_iter().all(is_gone));
    });
}

/// As programs do that make themselves a service: the line to the parent is among them.
#[test]
fn process_that_closes_all_its_descriptors_has_no_result_and_says_so() {
    fn close_all() -> u8 {
        let open = fd_table().into_iter().map(|(fd, _)| fd).filter(|&fd| fd > 2);
        open.for_each(|fd| {
            let _ = close(fd);
        });
        7
    }
    isolated(|| {
        for context in &contexts() {
            let process = start(context, close_all, ());
            let error = process.result().unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::Exited { code: 1 }, "{error:?}");
        }
    });
}

/// `exit` by any thread ends the process in order, its children first.
#[test]
fn exit_by_another_thread_is_an_exit() {
    fn exit_aside(connection: &Connection) {
        let daemon = Process::builder(park_forever).daemon(true).orphan(Orphan::Keep).start().unwrap();
        connection.send(&daemon.pid()).unwrap();
        thread::spawn(|| leave(9));
        park_forever();
    }
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let process = start(context, exit_aside, (&there,));
            let daemon: u32 = here.recv().unwrap();
            assert_eq!(process.result().unwrap_err().kind(), &ErrorKind::Exited { code: 9 });
            assert!(is_gone(daemon.cast_signed()));
        }
    });
}

/// The end of the program meets threads in the middle of starts, joins and kills.
#[test]
fn program_ends_while_its_threads_start_processes() {
    isolated(|| {
        for _ in 0..10 {
            played("/proc/self/exe", "busy");
        }
    });
}

fn leave_while_threads_start_processes() {
    let (here, there) = pipe().unwrap();
    let there = std::sync::Arc::new(there);
    for number in 0..4 {
        let there = std::sync::Arc::clone(&there);
        thread::spawn(move || {
            let context = &contexts()[number % METHODS.len()];
            loop {
                let daemon = context.builder(park_forever).daemon(true).start();
                let brief = context.spawn(|| (), ());
                let _ = (daemon.map(|daemon| daemon.kill()), brief.map(|brief| brief.join()));
                let _ = there.send(&());
            }
        });
    }
    (0..20).for_each(|_| here.recv().unwrap());
}

/// Closures that capture, from many threads at once; each copy has one of the threads, and the value of its own.
#[test]
fn threads_copy_the_process_at_once() {
    isolated(|| {
        thread::scope(|scope| {
            for number in 0..4_u64 {
                scope.spawn(move || {
                    for round in 0..15 {
                        let captured = vec![number; 1000 + round];
                        let copy = || {
                            let nested = Process::fork_builder(|| captured.len()).allow_threads().start();
                            (captured.iter().sum::<u64>(), nested.unwrap().result().unwrap())
                        };
                        let process = Process::fork_builder(copy).allow_threads().start().unwrap();
                        let length = 1000 + round;
                        assert_eq!(process.result().unwrap(), (number * length as u64, length));
                    }
                });
            }
        });
        eventually("all are reaped", || active_children().is_empty());
    });
}
