//! The handle of a process: names, waiting, signals, results, families.

use std::{collections::HashSet, fs, os::unix::process::parent_id, process::id, thread, time::Duration};

use procession::{Connection, Context, ErrorKind, Orphan, Pool, Process, StartMethod, active_children, pipe};
use serde::{Deserialize, Serialize};

use crate::family::{contexts, park_forever, run, start};
use crate::support::{children_of, eventually, fd_count, is_gone, isolated, own_pid};

/// T8 (_TestProcess.test_process), T9 (test_process_mainthread_native_id).
#[test]
fn child_is_another_process_with_this_one_as_its_parent() {
    isolated(|| {
        for context in &contexts() {
            let process = start(context, || (id(), parent_id()), ());
            let pid = process.pid();
            assert!(process.is_alive() || process.exitcode() == Some(0));
            assert_eq!(process.result().unwrap(), (pid, id()));
            assert_ne!(pid, id());
            assert!(!process.is_alive());
            assert_eq!(process.exitcode(), Some(0));
        }
    });
}

#[test]
fn result_can_be_taken_once() {
    isolated(|| {
        for context in &contexts() {
            let process = start(context, || 5_u8, ());
            assert_eq!(process.result().unwrap(), 5);
            let error = process.result().unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::ResultTaken);
            assert_eq!(error.process(), Some(process.name()));
            process.join().unwrap();
            assert_eq!(process.exitcode(), Some(0));
        }
    });
}

/// T10 (_TestProcess.test_terminate), T11 (test_kill).
#[test]
fn terminated_and_killed_processes_say_so() {
    isolated(|| {
        for context in &contexts() {
            for (code, is_kill) in [(-15, false), (-9, true)] {
                let process = start(context, park_forever, ());
                assert!(process.is_alive());
                assert_eq!(process.exitcode(), None);
                assert!(!process.join_timeout(Duration::ZERO).unwrap());
                assert!(process.is_alive());
                if is_kill {
                    process.kill().unwrap()
                } else {
                    process.terminate().unwrap()
                }
                process.join().unwrap();
                assert!(process.join_timeout(Duration::ZERO).unwrap());
                assert!(!process.is_alive());
                assert_eq!(process.exitcode(), Some(code));
            }
        }
    });
}

#[test]
fn signals_after_the_end_are_fine_and_change_nothing() {
    isolated(|| {
        for context in &contexts() {
            let process = start(context, || 1_u8, ());
            process.join().unwrap();
            process.kill().unwrap();
            process.terminate().unwrap();
            assert_eq!(process.exitcode(), Some(0));
            assert_eq!(process.result().unwrap(), 1);
        }
    });
}

#[test]
fn several_threads_may_wait_for_one_process() {
    isolated(|| {
        for context in &contexts() {
            let process = start(context, park_forever, ());
            thread::scope(|scope| {
                let waiters: Vec<_> = (0..4).map(|_| scope.spawn(|| process.join().is_ok())).collect();
                process.kill().unwrap();
                assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
            });
            assert_eq!(process.exitcode(), Some(-9));
        }
    });
}

#[test]
fn dropped_handle_leaves_the_process_running() {
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let process = start(context, answer_once, (there,));
            let pid = process.pid().cast_signed();
            drop(process);
            here.send(&20_u64).unwrap();
            assert_eq!(here.recv::<u64>().unwrap(), 21);
            eventually("it is reaped, though nobody asks", || {
                !children_of(own_pid()).iter().any(|child| child.pid == pid)
            });
        }
    });
}

/// A thread costs each copy of this process something.
#[test]
fn process_that_is_held_costs_no_thread_and_one_that_is_dropped_is_looked_after() {
    isolated(|| {
        let without_server = contexts().into_iter().filter(|c| c.start_method() != StartMethod::ForkServer);
        for context in without_server {
            let (process, parked) = (start(&context, || 1_u8, ()), start(&context, park_forever, ()));
            assert_eq!(process.result().unwrap(), 1);
            parked.kill().unwrap();
            parked.join().unwrap();
            assert_eq!(threads_of_actors(), 0);
        }
        let parked: Process<()> = start(&contexts()[0], park_forever, ());
        let pid = parked.pid().cast_signed();
        drop(parked);
        assert_eq!(threads_of_actors(), 1);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        eventually("it is reaped", || !children_of(own_pid()).iter().any(|child| child.pid == pid));
    });
}

fn threads_of_actors() -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path().join("comm"));
    tasks.filter(|comm| fs::read_to_string(comm).is_ok_and(|name| name == "procession\n")).count()
}

fn answer_once(connection: Connection) {
    let x: u64 = connection.recv().unwrap();
    connection.send(&(x + 1)).unwrap();
}

fn name_of_a_child(method_is_spawn: bool) -> (String, Vec<String>) {
    let context = Context::new(if method_is_spawn { StartMethod::Spawn } else { StartMethod::ForkServer });
    let process = start(&context, grandchildren, ());
    (process.name().to_owned(), process.result().unwrap())
}

fn grandchildren() -> Vec<String> {
    let names = [Process::spawn(|| (), ()).unwrap(), Process::spawn(|| (), ()).unwrap()];
    names.iter().map(|process| process.join().map(|()| process.name().to_owned()).unwrap()).collect()
}

#[test]
fn names_follow_the_place_in_the_family() {
    isolated(|| {
        for (index, context) in contexts().iter().enumerate() {
            let place = 3 * index + 1;
            let named = Process::builder(|| ()).name("given").context(context).start().unwrap();
            assert_eq!(named.name(), "given");
            let process = start(context, || (), ());
            assert_eq!(process.name(), format!("Process-{}", place + 1));
            let nested = start(context, name_of_a_child, (index == 0,));
            let (child, grandchildren) = nested.result().unwrap();
            assert_eq!(child, format!("Process-{}:1", place + 2));
            let expected = [1, 2].map(|n| format!("Process-{}:1:{n}", place + 2));
            assert_eq!(grandchildren, expected);
            process.join().unwrap();
            named.join().unwrap();
        }
    });
}

fn daemon_flag_of_a_child(explicit: Option<bool>) -> bool {
    let builder = Process::builder(|| ());
    let builder = if let Some(daemon) = explicit { builder.daemon(daemon) } else { builder };
    let process = builder.start().unwrap();
    process.join().unwrap();
    process.is_daemon()
}

/// T5 (_TestProcess.test_daemon_argument).
#[test]
fn daemon_flag_is_inherited_unless_it_is_given() {
    isolated(|| {
        for context in &contexts() {
            for (own, given, expected) in [
                (false, None, false),
                (true, None, true),
                (true, Some(false), false),
                (false, Some(true), true),
            ] {
                let process = Process::builder(daemon_flag_of_a_child)
                    .args((given,))
                    .daemon(own)
                    .context(context)
                    .start()
                    .unwrap();
                assert_eq!(process.is_daemon(), own);
                assert_eq!(process.result().unwrap(), expected, "{own} {given:?}");
            }
        }
    });
}

/// T17 (_TestProcess.test_many_processes).
#[test]
fn a_hundred_processes_end_and_a_hundred_are_terminated() {
    isolated(|| {
        for context in &contexts() {
            let processes: Vec<_> = (0..100).map(|_| start(context, || (), ())).collect();
            for process in &processes {
                process.join().unwrap();
                assert_eq!(process.exitcode(), Some(0));
            }
            let pids: HashSet<u32> = processes.iter().map(Process::pid).collect();
            assert_eq!(pids.len(), 100, "a pid was given twice while its handle lived");
            let processes: Vec<_> = (0..100).map(|_| start(context, park_forever, ())).collect();
            processes.iter().for_each(|process| process.terminate().unwrap());
            for process in &processes {
                process.join().unwrap();
                assert_eq!(process.exitcode(), Some(-15));
            }
        }
    });
}

fn descend(connection: &Connection, place: Vec<u8>) {
    connection.send(&place).unwrap();
    if place.len() < 2 {
        for child in 0..2 {
            let place = [&place[..], &[child]].concat();
            Process::spawn(descend, (connection, place)).unwrap().result().unwrap();
        }
    }
}

/// T14 (_TestProcess.test_recursion).
#[test]
fn children_start_children_and_all_report_in_order() {
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            start(context, descend, (&there, Vec::new())).result().unwrap();
            drop(there);
            let places: Vec<Vec<u8>> = (0..7).map(|_| here.recv().unwrap()).collect();
            let expected: [&[u8]; 7] = [&[], &[0], &[0, 0], &[0, 1], &[1], &[1, 0], &[1, 1]];
            assert_eq!(places, expected);
            assert_eq!(here.recv::<Vec<u8>>().unwrap_err().kind(), &ErrorKind::Disconnected);
        }
    });
}

/// T164, T165 (TestStdinBadfiledescriptor.test_queue_in_process, test_pool_in_process).
#[test]
fn child_may_use_a_pool() {
    fn squares(n: u64) -> Vec<u64> {
        let pool = Pool::new(2).unwrap();
        pool.map(|x: u64| x * x, 0..n).unwrap()
    }
    isolated(|| {
        for context in &contexts() {
            assert_eq!(run(context, squares, (5,)), [0, 1, 4, 9, 16]);
        }
    });
}

/// FB2: the lifeline belongs to the process, not to the thread that starts: PR_SET_PDEATHSIG would fire here.
#[test]
fn child_outlives_the_thread_that_started_it() {
    isolated(|| {
        for context in contexts() {
            let (here, there) = pipe().unwrap();
            let starter = thread::spawn(move || {
                Process::builder(answer_once)
                    .args((there,))
                    .daemon(true)
                    .orphan(Orphan::Kill)
                    .context(&context)
                    .start()
                    .unwrap()
            });
            let process = starter.join().unwrap();
            here.send(&1_u64).unwrap();
            assert_eq!(here.recv::<u64>().unwrap(), 2);
            process.join().unwrap();
            assert_eq!(process.exitcode(), Some(0));
        }
    });
}

#[test]
fn processes_start_from_many_threads_at_once() {
    isolated(|| {
        for context in &contexts() {
            thread::scope(|scope| {
                let threads: Vec<_> = (0..8_u64)
                    .map(|n| {
                        scope.spawn(move || (0..5).map(|k| run(context, |x: u64| x * 2, (n + k,))).sum())
                    })
                    .collect();
                for (n, thread) in (0..8).zip(threads) {
                    let sum: u64 = thread.join().unwrap();
                    assert_eq!(sum, 2 * (5 * n + 10));
                }
            });
        }
    });
}

/// T16 (_TestProcess.test_close).
#[test]
fn closed_handle_answers_questions_and_does_nothing_more() {
    isolated(|| {
        for context in &contexts() {
            let process = context.builder(park_forever).name("closed").start().unwrap();
            let error = process.close().unwrap_err();
            assert_eq!(error.kind(), &ErrorKind::StillRunning);
            assert_eq!(error.process(), Some("closed"));
            process.kill().unwrap();
            process.join().unwrap();
            let before = fd_count();
            process.close().unwrap();
            process.close().unwrap();
            assert!(fd_count() < before, "nothing was given back");
            let refusals = [
                process.join(),
                process.join_timeout(Duration::ZERO).map(drop),
                process.terminate(),
                process.kill(),
                process.interrupt(),
                process.result(),
            ];
            for refusal in refusals {
                assert_eq!(refusal.unwrap_err().kind(), &ErrorKind::Closed);
            }
            assert_eq!((process.name(), process.is_alive(), process.exitcode()), ("closed", false, Some(-9)));
        }
    });
}

#[test]
fn handle_of_an_ended_process_keeps_its_sentinel_and_its_result_alone() {
    isolated(|| {
        for context in &contexts() {
            run(context, || (), ());
            eventually("the first one is forgotten", || active_children().is_empty());
            let before = fd_count();
            let ended: Vec<Process<u8>> =
                (0..20).map(|_| context.builder(|| 1_u8).orphan(Orphan::Kill).start().unwrap()).collect();
            ended.iter().for_each(|process| process.join().unwrap());
            eventually("lifelines are closed", || fd_count() <= before + 2 * ended.len());
            ended.iter().for_each(|process| process.close().unwrap());
            eventually("results are given up", || fd_count() <= before + ended.len());
            drop(ended);
            eventually("all is given back", || {
                active_children();
                fd_count() <= before
            });
        }
    });
}

/// A31.
#[test]
fn interrupted_process_ends_by_the_signal() {
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let process =
                start(context, |end: Connection| end.send(&()).map(|()| park_forever()).unwrap(), (there,));
            here.recv::<()>().unwrap();
            process.interrupt().unwrap();
            process.join().unwrap();
            assert_eq!(process.exitcode(), Some(-2));
            process.interrupt().unwrap();
        }
    });
}

#[test]
fn pid_of_a_joined_process_is_gone() {
    isolated(|| {
        for context in &contexts() {
            let process = start(context, || (), ());
            process.join().unwrap();
            assert!(is_gone(process.pid().cast_signed()));
        }
    });
}

#[test]
fn process_with_the_name_of_another_is_fine() {
    isolated(|| {
        let twins: Vec<Process<u8>> =
            (0..2).map(|n| Process::builder(|x: u8| x).args((n,)).name("twin").start().unwrap()).collect();
        for (twin, expected) in twins.iter().zip(0..) {
            assert_eq!((twin.name(), twin.result().unwrap()), ("twin", expected));
        }
    });
}

/// T25 (_TestSubclassingProcess.test_subclassing): where Python derives a class and overrides `run`, a method is the
/// function and the value with its connection an argument.
#[test]
fn value_with_a_method_runs_as_a_process() {
    #[derive(Serialize, Deserialize)]
    struct UpperCaser {
        end: Connection,
    }
    impl UpperCaser {
        fn run(&self) {
            while let Some(text) = self.end.recv::<Option<String>>().unwrap() {
                self.end.send(&text.to_uppercase()).unwrap();
            }
        }
    }
    isolated(|| {
        for context in &contexts() {
            let (here, end) = pipe().unwrap();
            let caser = UpperCaser { end };
            let process = start(context, UpperCaser::run, (&caser,));
            for (text, expected) in [("hello", "HELLO"), ("world", "WORLD")] {
                here.send(&Some(text)).unwrap();
                assert_eq!(here.recv::<String>().unwrap(), expected);
            }
            here.send(&None::<String>).unwrap();
            process.result().unwrap();
        }
    });
}
