//! The programs of Python's documentation are examples here, and print what they are to print.

use procession::all_start_methods;

use crate::support::{isolated, outputs, printed};

/// Z2.
#[test]
fn hello_bob() {
    isolated(|| assert_eq!(printed("hello_bob"), "hello bob\n"));
}

/// Z3.
#[test]
fn process_info() {
    isolated(|| {
        let text = printed("process_info");
        let said = |line: &str| text.lines().any(|found| found == line);
        assert!(said("main line") && said("function f") && said("hello bob"), "{text}");
        assert!(text.ends_with("the child's parent is this process: true\n"), "{text}");
    });
}

/// Z12.
#[test]
fn terminate() {
    isolated(|| {
        let text = printed("terminate");
        let lines: Vec<&str> = text.lines().collect();
        let [initial, started, stopped, last] = lines[..] else { panic!("{text}") };
        assert!(initial.contains("initial"), "{text}");
        assert!(started.contains("started") && started.ends_with("alive: true"), "{text}");
        assert!(stopped.contains("stopped") && stopped.contains("SIGTERM"), "{text}");
        assert!(stopped.ends_with("alive: false"), "{text}");
        assert_eq!(last, "true");
    });
}

/// Z35.
#[test]
fn isolation() {
    isolated(|| {
        let expected = "child: [\"+++\", \"1\", \"2\", \"3\"]\nparent: [\"+++\", \"a\", \"b\", \"c\"]\n";
        assert_eq!(printed("isolation"), expected);
    });
}

/// Z36: single, multiple, class and daemon.
#[test]
fn processes() {
    isolated(|| {
        let text = printed("processes");
        for line in [
            "single worked 3 rounds, exit code Some(0)",
            "together they worked 9 rounds",
            "clock ticked 3 times in `clockwork`",
            "server is a daemon: true, alive: true",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    });
}

#[test]
fn start_methods() {
    isolated(|| {
        let text = printed("start_methods");
        let said = |start: &str| text.lines().any(|line| line.starts_with(start));
        assert!(said("forkserver: 1000000, loaded before: true"), "{text}");
        assert!(said("spawn: 1000000, loaded before: false"), "{text}");
        assert!(all_start_methods().iter().all(|m| said(&format!("{}: process ", m.name()))), "{text}");
        assert!(said("in a copy: 23"), "{text}");
    });
}

/// Z25.
#[test]
fn log_to_stderr() {
    isolated(|| {
        let expected = "\
            [INFO/MainProcess] the main process may speak too\n\
            [INFO/Process-1] child process calling self.run()\n\
            [WARNING/Process-1] doomed\n\
            [INFO/Process-1] counted items=3\n\
            [INFO/Process-1] process exiting with exitcode 0\n";
        assert_eq!(outputs("log_to_stderr"), ["", expected]);
    });
}

#[test]
fn logging() {
    isolated(|| {
        let text = printed("logging");
        let lines = |part: &str| text.lines().filter(|line| line.contains(part)).count();
        assert_eq!(lines("INFO fetch{page=7 process=\"fetcher\""), 1, "{text}");
        assert_eq!(lines("INFO fetch{page=1 process=\"PoolWorker-"), 1, "{text}");
        assert_eq!(lines("INFO fetch{page=2 process=\"PoolWorker-"), 1, "{text}");
        assert_eq!(lines("INFO this process prints its own lines"), 1, "{text}");
        assert_eq!(lines("nobody"), 0, "{text}");
    });
}

#[test]
fn actor() {
    isolated(|| {
        let text = printed("actor");
        let expected = "\
            100 after a deposit\n\
            70 after a withdrawal\n\
            refused: 430 are missing\n\
            Some(1070) after the last of 1000 deposits\n\
            a process saved 10 times\n\
            a process saved 10 times\n\
            1100 in the end\n\
            2 lines in the journal\n\
            `Account::deposit` failed: the actor's process was ended by signal 9 (SIGKILL)\n";
        assert_eq!(text, expected);
    });
}

/// A tree whose children are killed at random: each comes back, and the hopeless one is told.
#[test]
fn supervised() {
    isolated(|| {
        let text = printed("supervised");
        let count = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
        let (killed, arrived) = (count("kill "), text.matches(" is there (").count());
        assert!(killed > 0 && arrived >= killed, "{text}");
        assert!(text.contains("all stopped\n110 in the till\n"), "{text}");
        // The old process may answer once more after the signal was sent.
        assert!(["101 in the till\n", "111 in the till\n"].iter().any(|line| text.contains(line)), "{text}");
        assert!(text.contains("in the till\nthe supervisor gave up at child `hopeless`"), "{text}");
        assert!(text.contains("the disk is full"), "{text}");
    });
}

/// Z4 to Z6, and Z31's reader.
#[test]
fn queue() {
    isolated(|| {
        let hello = "(42, None, \"hello\")\n";
        assert_eq!(printed("queue"), format!("{hello}{hello}100\n"));
    });
}

/// Z31: what two children put and get is in order.
#[test]
fn queue_producer_consumer() {
    isolated(|| {
        let text = printed("queue_producer_consumer");
        for verb in ["put", "get"] {
            let lines = text.lines().filter(|line| line.starts_with(&format!("q {verb} ")));
            let expected: Vec<_> = (0..10).map(|i| format!("q {verb} {i} in queue")).collect();
            assert_eq!(lines.collect::<Vec<_>>(), expected, "{text}");
        }
    });
}

/// Z30.
#[test]
fn queue_workers() {
    isolated(|| {
        let text = printed("queue_workers");
        let results = text.lines().filter_map(|line| line.strip_prefix('\t'));
        let mut said: Vec<_> = results.filter_map(|line| line.split_once(" says that ")).collect();
        assert!(said.iter().all(|(name, _)| name.starts_with("Process-")), "{text}");
        let mut expected: Vec<_> = (0..20).map(|i| format!("Mul({i}, 7) = {}", i * 7)).collect();
        expected.extend((0..10).map(|i| format!("Plus({i}, 8) = {}", i + 8)));
        expected.sort_unstable();
        said.sort_unstable_by_key(|(_, what)| *what);
        assert_eq!(said.iter().map(|(_, what)| *what).collect::<Vec<_>>(), expected, "{text}");
    });
}

/// Z26.
#[test]
fn queue_join() {
    isolated(|| assert_eq!(printed("queue_join"), "1000000 bytes\n"));
}

/// Z8 and Z27: whole lines.
#[test]
fn lock() {
    isolated(|| {
        let text = printed("lock");
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, (0..10).map(|i| format!("hello world {i}")).collect::<Vec<_>>());
    });
}

/// FC1.
#[test]
fn takeover() {
    isolated(|| assert_eq!(printed("takeover"), "abandoned: true\nabandoned: false\n"));
}

#[test]
fn isolated_queue() {
    isolated(|| {
        let expected = "an image of 1000 bytes\nan image of 2000 bytes\nit ended with Some(-6), and 1 was not measured\n";
        assert_eq!(printed("isolated_queue"), expected);
    });
}

#[test]
fn isolated_pool() {
    isolated(|| {
        let expected = "an image was lost: its worker was ended by signal 6 (SIGABRT)\n3 are in the queue\n\
                        thumbnail of image 1\nthumbnail of image 2\nthumbnail of image 4\n";
        let text = printed("isolated_pool");
        assert_eq!(text.replace(", core dumped", ""), expected);
    });
}
