//! What is left of a family when its head is killed, leaves, or starts a thousand children: nothing.

use std::{collections::HashSet, os::unix::process::parent_id, process::Command, thread, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use procession::{Connection, Context, ErrorKind, Orphan, Pool, Process, StartMethod, pipe};

use crate::family::{contexts, park_forever, run, start};
use crate::support::{
    children_of, eventually, fd_count, fd_table, fd_table_of, is_gone, isolated, kill9, own_pid,
};

/// Starts armed children and a pool, tells their pids, and waits to be killed.
fn head_of_a_family(connection: Connection, siblings: u32, is_daemon: bool) {
    let processes: Vec<Process> = (0..siblings)
        .map(|n| {
            let builder = Process::builder(park_forever).context(&contexts()[n as usize % 3]);
            let builder = if is_daemon { builder.daemon(true) } else { builder.orphan(Orphan::Kill) };
            builder.start().unwrap()
        })
        .collect();
    let pools = contexts().map(|c| Pool::builder().processes(4).context(&c).start().unwrap());
    let busy = [pools[0].apply_async(park_forever, ()).unwrap()];
    let all = processes.iter().map(Process::pid).chain(pools.iter().flat_map(Pool::worker_pids));
    connection.send(&all.map(u32::cast_signed).collect::<Vec<i32>>()).unwrap();
    park_forever();
    drop(busy);
}

/// FB1: the kernel ends armed children with their parent, whatever ended it.
#[test]
fn family_of_a_killed_process_is_gone() {
    isolated(|| {
        for context in &contexts() {
            for is_daemon in [true, false] {
                let (here, there) = pipe().unwrap();
                let head = start(context, head_of_a_family, (there, 50, is_daemon));
                let pids: Vec<i32> = here.recv().unwrap();
                assert_eq!(pids.len(), 62);
                assert!(pids.iter().all(|&pid| !is_gone(pid)));
                let own = children_of(head.pid().cast_signed()).len() - pids.len();
                assert!((1..=2).contains(&own), "the fork server, and the child that it keeps ready: {own}");
                head.kill().unwrap();
                head.join().unwrap();
                eventually("all are gone", || pids.iter().all(|&pid| is_gone(pid)));
                assert!(matches!(here.recv::<u8>().unwrap_err().kind(), ErrorKind::Disconnected));
            }
        }
    });
}

/// The children of children too: each lifeline hangs on its own parent.
#[test]
fn three_generations_are_gone_when_the_first_is_killed() {
    fn descend(connection: &Connection, generations: u32) {
        connection.send(&own_pid()).unwrap();
        if generations > 0 {
            let child = Process::builder(descend).args((connection, generations - 1)).daemon(true);
            let _child: Process = child.start().unwrap();
            park_forever();
        }
        park_forever();
    }
    isolated(|| {
        for context in &contexts() {
            let (here, there) = pipe().unwrap();
            let head = start(context, descend, (&there, 3));
            drop(there);
            let pids: Vec<i32> = (0..4).map(|_| here.recv().unwrap()).collect();
            head.kill().unwrap();
            eventually("all are gone", || pids.iter().all(|&pid| is_gone(pid)));
            head.join().unwrap();
        }
    });
}

/// As in Python: what is no daemon lives on.
#[test]
fn unarmed_child_outlives_its_killed_parent() {
    fn parent_of_one(connection: &Connection, is_daemon: bool) {
        let child = Process::builder(answer).args((connection,)).daemon(is_daemon).orphan(Orphan::Keep);
        let _child: Process = child.start().unwrap();
        park_forever();
    }
    fn answer(connection: &Connection) {
        connection.send(&own_pid()).unwrap();
        connection.recv::<()>().unwrap();
        connection.send(&parent_id()).unwrap();
        park_forever();
    }
    isolated(|| {
        for context in &contexts() {
            for is_daemon in [false, true] {
                let (here, there) = pipe().unwrap();
                let parent = start(context, parent_of_one, (&there, is_daemon));
                drop(there);
                let pid: i32 = here.recv().unwrap();
                parent.kill().unwrap();
                parent.join().unwrap();
                here.send(&()).unwrap();
                assert_ne!(here.recv::<u32>().unwrap(), parent.pid(), "it has been adopted");
                assert!(!is_gone(pid));
                kill9(pid);
                eventually("it is gone", || is_gone(pid));
            }
        }
    });
}

#[test]
fn failed_starts_leave_nothing() {
    isolated(|| {
        for context in &contexts() {
            let refuse = |value: serde_json::Value| value.is_null();
            let try_one = || {
                let started = Process::builder(refuse).args((serde_json::json!(1),)).context(context).start();
                assert!(started.is_err());
            };
            try_one();
            run(context, || (), ());
            let before = fd_table();
            (0..50).for_each(|_| try_one());
            eventually("no descriptor is left", || fd_count() <= before.len());
        }
    });
}

/// T24 (_TestProcess.test_forkserver_sigkill). FB3.
#[test]
fn killed_fork_server_costs_no_child_and_the_next_start_makes_another() {
    isolated(|| {
        let context = Context::new(StartMethod::ForkServer);
        for round in 0..5_u64 {
            let (here, there) = pipe().unwrap();
            let running = start(&context, answer_once, (there,));
            let server = fork_server();
            kill9(server);
            eventually("it is gone", || is_gone(server));
            let (again, there) = pipe().unwrap();
            let next = start(&context, answer_once, (there,));
            for (end, process) in [(&here, &running), (&again, &next)] {
                end.send(&round).unwrap();
                assert_eq!(end.recv::<u64>().unwrap(), round + 1);
                process.result().unwrap();
            }
        }
    });
}

#[test]
fn fork_server_that_cannot_copy_itself_says_so_each_time() {
    isolated(|| {
        let context = Context::new(StartMethod::ForkServer);
        let process = start(&context, park_forever, ());
        let server = fork_server();
        let limit = |descriptors: usize| {
            let limit = format!("--nofile={descriptors}:");
            let prlimit = Command::new("prlimit").args(["--pid", &server.to_string(), &limit]).status();
            assert!(prlimit.unwrap().success());
        };
        let mut room = usize::MAX;
        eventually("the child that waited is used up", || {
            let used: HashSet<i32> = fd_table_of(server).into_iter().map(|(fd, _)| fd).collect();
            let free = (0..).filter(|fd| !used.contains(fd)).nth(1).unwrap();
            // Room for the socket of a child, but not for its pidfd. While it is at work it has more open than it keeps.
            room = room.min(usize::try_from(free).unwrap());
            limit(room);
            Process::builder(|| ()).context(&context).start().is_err()
        });
        for _ in 0..3 {
            let error = Process::builder(|| ()).context(&context).start().unwrap_err();
            assert!(error.to_string().contains("fork server"), "{error}");
        }
        limit(100);
        assert_eq!(run(&context, |x: u8| x, (1,)), 1);
        assert_eq!(fork_server(), server);
        process.kill().unwrap();
    });
}

/// FB3: nobody has to start anything for what a killed fork server leaves behind to go.
#[test]
fn fork_server_killed_after_the_last_start_is_reaped_at_once() {
    isolated(|| {
        let context = Context::new(StartMethod::ForkServer);
        for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGSEGV, Signal::SIGKILL] {
            let process = start(&context, park_forever, ());
            let running = process.pid().cast_signed();
            let others = || children_of(own_pid()).into_iter().filter(|child| child.pid != running).count();
            let server = fork_server();
            eventually("a child waits in the server", || others() == 2);
            kill(Pid::from_raw(server), signal).unwrap();
            eventually("only the process is left", || others() == 0);
            assert!(!is_gone(running));
            assert_eq!(run(&context, |x: u8| x, (1,)), 1);
            process.kill().unwrap();
            process.join().unwrap();
        }
    });
}

/// T23 (_TestProcess.test_forkserver_sigint). FB3.
#[test]
fn interrupted_fork_server_goes_on() {
    isolated(|| {
        let context = Context::new(StartMethod::ForkServer);
        let (here, there) = pipe().unwrap();
        let running = start(&context, answer_once, (there,));
        let server = fork_server();
        for _ in 0..3 {
            kill(Pid::from_raw(server), Signal::SIGINT).unwrap();
            assert_eq!(run(&context, |x: u8| x, (1,)), 1);
        }
        here.send(&1_u64).unwrap();
        assert_eq!(here.recv::<u64>().unwrap(), 2);
        running.result().unwrap();
        // A child is no server: SIGINT ends it, as it ends any program.
        let child = start(&context, park_forever, ());
        let (ready, their_ready) = pipe().unwrap();
        let told = start(
            &context,
            |end: Connection| end.send(&()).map(|()| park_forever()).unwrap(),
            (their_ready,),
        );
        ready.recv::<()>().unwrap();
        kill(Pid::from_raw(told.pid().cast_signed()), Signal::SIGINT).unwrap();
        told.join().unwrap();
        assert_eq!(told.exitcode(), Some(-2));
        child.kill().unwrap();
    });
}

/// The server killed while eight threads start processes: each start works.
#[test]
fn starts_go_on_while_fork_servers_are_killed() {
    isolated(|| {
        let context = &Context::new(StartMethod::ForkServer);
        run(context, || (), ());
        let done = &std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            let starters: Vec<_> = (0..4_u64)
                .map(|n| scope.spawn(move || (0..25).map(|k| start_patiently(context, n * k)).sum::<u64>()))
                .collect();
            scope.spawn(move || {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    // Servers and children look alike from outside; a child that is hit says so, and is started again.
                    if let Some(server) = children_of(own_pid()).iter().map(|child| child.pid).min() {
                        kill9(server);
                    }
                    thread::park_timeout(Duration::from_millis(20));
                }
            });
            let sums: Vec<u64> = starters.into_iter().map(|starter| starter.join().unwrap()).collect();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(sums, [0, 300, 600, 900]);
        });
        eventually("what was killed after the last start is reaped", || {
            !children_of(own_pid()).iter().any(|child| child.state == 'Z')
        });
    });
}

/// A start may lose two servers in a row, and a child may be hit itself: both are told, and tried again.
fn start_patiently(context: &Context, x: u64) -> u64 {
    loop {
        let Ok(process) = Process::builder(|x: u64| x).args((x,)).context(context).start() else { continue };
        match process.result() {
            Ok(value) => return value,
            Err(error) => assert!(
                matches!(error.kind(), ErrorKind::Signaled { signal: 9, .. }),
                "a child that nobody killed has no result: {error:?}"
            ),
        }
    }
}

/// As the library knows it: process ids come round, so the server need not have the lowest of the children.
fn fork_server() -> i32 {
    procession_ipc::start::forkserver::pid().unwrap()
}

fn answer_once(connection: Connection) {
    let x: u64 = connection.recv().unwrap();
    connection.send(&(x + 1)).unwrap();
}

#[test]
fn pids_of_simultaneous_children_differ() {
    isolated(|| {
        for context in &contexts() {
            let processes: Vec<_> = (0..50).map(|_| start(context, park_forever, ())).collect();
            assert_eq!(processes.iter().map(Process::pid).collect::<HashSet<_>>().len(), 50);
            processes.iter().for_each(|process| process.kill().unwrap());
        }
    });
}
