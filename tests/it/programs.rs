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

/// Z35.
#[test]
fn isolation() {
    isolated(|| {
        let expected = "child: [\"+++\", \"1\", \"2\", \"3\"]\nparent: [\"+++\", \"a\", \"b\", \"c\"]\n";
        assert_eq!(printed("isolation"), expected);
    });
}
