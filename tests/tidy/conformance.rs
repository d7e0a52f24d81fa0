//! Which test here shows which of CPython's: read from the tests' own comments, and written into the book.
//!
//! A test that ports one says so by number and name: `/// T8 (_TestProcess.test_process).` Numbers and names stand in
//! `cpython.txt`: all test methods of CPython 3.11's `Lib/test/_test_multiprocessing.py`, one a line, in their order, those
//! that cannot apply with the reason.
//!
//! The page is `book/src/conformance.md`, written anew by each build of the book. What it claims must be true; a test that
//! it does not name yet is no error, so that two changes which add tests do not meet in it.

use crate::checks::File;
use crate::source::{has, is_word};
use std::fmt::Write;

/// All of CPython's tests.
const CPYTHON: &str = include_str!("cpython.txt");

/// Where the page lies.
pub(crate) const PAGE: &str = "book/src/conformance.md";

/// One of CPython's tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Original {
    /// `T8`.
    number: &'static str,
    /// `_TestProcess.test_process`.
    name: &'static str,
    /// Why it cannot apply here.
    not_applicable: Option<&'static str>,
}

fn originals() -> impl Iterator<Item = Original> {
    CPYTHON.lines().filter_map(|line| {
        let (test, reason) = line.split_once(" -- ").map_or((line, None), |(test, why)| (test, Some(why)));
        let (number, name) = test.split_once(' ')?;
        Some(Original { number, name, not_applicable: reason })
    })
}

/// A test of ours that names one of CPython's.
#[derive(Debug)]
struct Port {
    /// `T8`.
    number: String,
    /// `process::child_is_another_process`.
    test: String,
    /// The documentation, in one line.
    comment: String,
    /// Line of the function, from 0.
    line: usize,
}

/// What the comments of `file` say about its tests.
fn ports(file: &File) -> Vec<Port> {
    let (mut found, mut comment, mut is_test) = (Vec::new(), String::new(), false);
    for (index, line) in file.text.lines().map(str::trim).enumerate() {
        if let Some(text) = line.strip_prefix("///") {
            comment += text;
        } else if line.starts_with("#[") {
            is_test |= line == "#[test]";
        } else {
            let name = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            if let (Some(name), true) = (name, is_test) {
                let test = format!("{}::{name}", module(&file.path));
                let port = |number: &str| Port {
                    number: number.to_owned(),
                    test: test.clone(),
                    comment: comment.clone(),
                    line: index,
                };
                found.extend(numbers(&comment).map(port));
            }
            (comment, is_test) = (String::new(), false);
        }
    }
    found
}

/// `process` for tests/it/process.rs, `ipc::child` for ipc/src/child.rs.
fn module(path: &str) -> String {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_prefix("tests/it/").or(path.strip_prefix("tests/")).unwrap_or(path);
    path.replace("/src/", "/").replace('/', "::")
}

/// The words like `T8`.
fn numbers(comment: &str) -> impl Iterator<Item = &str> {
    let words = comment.split(|c| !is_word(c));
    words.filter(|word| word.strip_prefix('T').is_some_and(|rest| rest.parse::<u16>().is_ok()))
}

/// Numbers that stand beside another name than CPython's, or beside none.
pub(crate) fn names(file: &File) -> Vec<String> {
    let wrong = |port: &Port| {
        let Some(original) = originals().find(|original| original.number == port.number) else {
            return Some(format!("CPython has no test {}", port.number));
        };
        let method = original.name.rsplit('.').next().unwrap_or(original.name);
        let is_named = has(&port.comment, method);
        (!is_named).then(|| format!("{} is {}: name it, too", original.number, original.name))
    };
    ports(file).iter().filter_map(|port| Some(file.finding(port.line, &wrong(port)?))).collect()
}

/// Tests that the page names and that do not say so themselves.
pub(crate) fn untrue(page: &File, files: &[File]) -> Vec<String> {
    let ports: Vec<Port> = files.iter().flat_map(ports).collect();
    let mut findings = Vec::new();
    for (index, line) in page.text.lines().enumerate() {
        let Some((number, tests)) = line
            .strip_prefix("| T")
            .and_then(|rest| Some((rest.split_once(' ')?.0, rest.rsplit_once('|')?.0)))
        else {
            continue;
        };
        let number = format!("T{number}");
        let claimed = tests.split('`').skip(1).step_by(2).filter(|test| test.contains("::"));
        for test in
            claimed.filter(|test| !ports.iter().any(|port| port.number == number && port.test == **test))
        {
            let message = format!("`{test}` does not show {number}: build the book, or see CONTRIBUTING.md");
            findings.push(page.finding(index, &message));
        }
    }
    findings
}

/// The page.
pub(crate) fn page(files: &[File]) -> String {
    let mut ports: Vec<Port> = files.iter().flat_map(ports).collect();
    ports.sort_by(|a, b| a.test.cmp(&b.test));
    let mut rows = String::new();
    let (mut all, mut applicable, mut shown) = (0, 0, 0);
    for Original { number, name, not_applicable } in originals() {
        let tests: Vec<String> = ports
            .iter()
            .filter(|port| port.number == number)
            .map(|port| format!("`{}`", port.test))
            .collect();
        let told = match (tests.is_empty(), not_applicable) {
            (false, _) => tests.join(", "),
            (true, Some(reason)) => format!("does not apply: {reason}"),
            (true, None) => "not yet".to_owned(),
        };
        all += 1;
        applicable += usize::from(not_applicable.is_none());
        shown += usize::from(!tests.is_empty());
        // Writing to a String cannot fail.
        let _ = writeln!(rows, "| {number} | `{name}` | {told} |");
    }
    format!(
        "# Conformance\n\n\
         CPython's own tests of `multiprocessing` are {all} methods in `Lib/test/_test_multiprocessing.py` (3.11). {applicable} of them\n\
         can apply to a Rust library, as they are or in its terms, and {shown} have a test here. The others are waiting for what they\n\
         test. This table is made from the comments of the tests, which all pass, or the build fails.\n\n\
         | | CPython's test | shown by |\n|---|---|---|\n{rows}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File::new("tests/it/process.rs", text)
    }

    #[test]
    fn tests_are_found_by_their_comments() {
        let text = "/// T8 (_TestProcess.test_process), T9\n/// (test_process_mainthread_native_id), T2x.\n#[test]\nfn first() {\n    \
                    assert!(true);\n}\n\n/// T10.\nfn helper() {}\n";
        let page = page(&[file(text), File::new("ipc/src/child.rs", &text.replace("first", "second"))]);
        let both = "`ipc::child::second`, `process::first` |";
        assert!(page.contains(&format!("| T8 | `_TestProcess.test_process` | {both}")), "{page}");
        assert!(page.contains(&format!("| T9 | `_TestProcess.test_process_mainthread_native_id` | {both}")));
        assert!(page.contains("| T10 | `_TestProcess.test_terminate` | not yet |"), "{page}");
        assert!(page.contains("| T33 | `_TestQueue.test_no_import_lock_contention` | does not apply: "));
    }

    #[test]
    fn numbers_without_their_names_are_found() {
        let cases = [
            ("/// T8 (test_process), T9 (_TestProcess.test_process_mainthread_native_id).", 0),
            ("/// T8.", 1),
            ("/// T8 (_TestProcess.test_processes).", 1),
            ("/// T219 (test_process).", 1),
        ];
        for (comment, expected) in cases {
            let findings = names(&file(&format!("{comment}\n#[test]\nfn first() {{}}\n")));
            assert_eq!(findings.len(), expected, "{comment}: {findings:?}");
        }
    }

    #[test]
    fn claims_without_a_test_are_found_and_tests_without_a_claim_are_not() {
        let text = "/// T8 (test_process).\n#[test]\nfn first() {}\n";
        let of = |row: &str| File::new(PAGE, &format!("# Conformance\n{row}\n"));
        let files = [file(text)];
        let cases = [
            ("| T8 | `_TestProcess.test_process` | `process::first` |", 0),
            ("| T8 | `_TestProcess.test_process` | not yet |", 0),
            ("| T9 | `x` | `process::first` |", 1),
            ("| T8 | `x` | `process::first`, `process::second` |", 1),
        ];
        for (row, expected) in cases {
            assert_eq!(untrue(&of(row), &files).len(), expected, "{row}");
        }
        assert!(untrue(&File::new(PAGE, &page(&files)), &files).is_empty());
    }
}
