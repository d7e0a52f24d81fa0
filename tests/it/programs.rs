//! The programs of Python's documentation are examples here, and print what they are to print.

use crate::support::{isolated, printed};

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
