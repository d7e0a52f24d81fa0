//! The example `wordcount` as its users meet it: its counts, its exit codes, and what it says when workers are killed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, which may fail loudly"
)]
#![allow(unreachable_pub, unnameable_types, reason = "the modules of a test binary have no outside")]

/// The inline module gives the file its folder, where its own modules are.
mod it {
    pub mod support;
}

use it::support::{children_of, eventually, example_file, is_gone, isolated, kill9, process};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

type Counts = BTreeMap<String, u64>;

#[test]
fn counts_equal_an_independent_count() {
    isolated(|| {
        let tree = Tree::new();
        let texts: [(&[u8], &str); 10] = [
            (b"plain.txt", "one two two\nthree\tthree three\n"),
            (b".hidden", "hidden one"),
            (b".git/config", "deep hidden"),
            (b"a/b/c/d/e/nested", "nested\r\none"),
            (b"empty", ""),
            (b"blank", " \n\t \n"),
            (b".gitignore", "ignored.txt\n*"),
            (b"ignored.txt", "counted all the same"),
            (b"caf\xe9/\xff\xfe", "a name that is no UTF-8"),
            // No white space: U+200B. All the others between the words are.
            (b"unicode", "Ünï\u{a0}one\u{2028}ONE\u{3000}\u{85}a\u{200b}b\u{b}\u{c}日本"),
        ];
        let mut expected = Counts::new();
        for (name, text) in texts {
            tree.write(name, text.as_bytes());
            add_words(text, &mut expected);
        }
        tree.write(b"nul", b"one two\0three");
        tree.write(b"latin1", b"caf\xe9 one");
        symlink(tree.0.join("plain.txt"), tree.0.join("link")).unwrap();
        symlink(&tree.0, tree.0.join("a/loop")).unwrap();
        symlink("nowhere", tree.0.join("dangling")).unwrap();
        // Would block whoever opens it.
        mkfifo(&tree.0.join("fifo"), Mode::S_IRWXU).unwrap();

        let outcome = Run::start(&tree.0, &["--processes", "2", "--top", "1000"]).wait();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        assert_eq!(outcome.counts, expected);
        assert_eq!(outcome.named(), BTreeSet::from(["latin1".to_owned(), "nul".to_owned()]));
        let bytes: usize = texts.iter().map(|(_, text)| text.len()).sum();
        let words: u64 = expected.values().sum();
        let summary = format!("10 files (2 not counted), {bytes} bytes, {words} words, 2 workers, ");
        assert!(outcome.stdout.contains(&summary), "{outcome:?}");
        assert_eq!(outcome.stdout.lines().filter(|line| line.starts_with("worker ")).count(), 2);
    });
}

#[test]
fn many_files_are_all_counted_and_ties_go_by_code_points() {
    isolated(|| {
        let tree = Tree::new();
        let mut expected = Counts::new();
        for i in 0..1500 {
            let text = format!("all w{} {}", i % 7, "B a ".repeat(i % 3));
            tree.write(format!("{}/{i}", i % 10).as_bytes(), text.as_bytes());
            add_words(&text, &mut expected);
        }
        let outcome = Run::start(&tree.0, &["--processes", "3", "--top", "4"]).wait();
        let shown: Vec<&str> = outcome.words().map(|(word, _)| word).collect();
        assert_eq!(shown, ["B", "a", "all", "w0"], "{outcome:?}");
        assert!(outcome.words().all(|(word, times)| expected[word] == times), "{outcome:?}");
    });
}

#[test]
fn exit_codes_tell_the_kinds_of_failure_apart() {
    isolated(|| {
        let tree = Tree::new();
        tree.write(b"text/file", b"word");
        tree.write(b"binary/file", b"\0");
        fs::create_dir(tree.0.join("nothing")).unwrap();
        let table: [(&str, &str, &[&str], i32, usize); 10] = [
            ("text", "text", &[], 0, 0),
            ("all options", "text", &["--processes", "1", "--top", "0", "--retries", "3"], 0, 0),
            ("nothing readable", "binary", &[], 1, 1),
            ("an empty folder", "nothing", &[], 1, 0),
            ("no such folder", "missing", &[], 2, 1),
            ("a file", "text/file", &[], 2, 1),
            ("two folders", "text", &["text"], 2, 1),
            ("no workers", "text", &["--processes", "0"], 2, 1),
            ("no number", "text", &["--top", "many"], 2, 1),
            ("an unknown option", "text", &["--wide"], 2, 1),
        ];
        for (name, folder, options, code, lines) in table {
            let outcome = Run::start(&tree.0.join(folder), options).wait();
            let said = (outcome.code, outcome.stderr.lines().count());
            assert_eq!(said, (Some(code), lines), "{name}: {outcome:?}");
        }
    });
}

#[test]
fn a_killed_worker_costs_the_file_in_its_hands_and_no_other() {
    isolated(|| {
        let (tree, texts) = big_tree();
        let run = Run::start(&tree.0, &["--processes", "2", "--top", "1000"]);
        let killed = [run.kill_a_busy_worker(), run.kill_a_busy_worker()];
        let outcome = run.wait();
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        let named = outcome.named();
        assert_eq!(named.len(), killed.len(), "{outcome:?}");
        for pid in killed {
            let story = format!("lost with worker {pid}, which was ended by signal 9 (SIGKILL)");
            assert!(outcome.stderr.contains(&story), "{outcome:?}");
        }
        let mut expected = Counts::new();
        for (name, text) in &texts {
            if !named.contains(name) {
                add_words(text, &mut expected);
            }
        }
        assert_eq!(outcome.counts, expected, "{}", outcome.stderr);
    });
}

#[test]
fn with_retries_a_killed_worker_costs_nothing() {
    isolated(|| {
        let (tree, texts) = big_tree();
        let run = Run::start(&tree.0, &["--processes", "2", "--top", "1000", "--retries", "5"]);
        run.kill_a_busy_worker();
        run.kill_a_busy_worker();
        let outcome = run.wait();
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{outcome:?}");
        let mut expected = Counts::new();
        texts.values().for_each(|text| add_words(text, &mut expected));
        assert_eq!(outcome.counts, expected);
    });
}

/// Large enough that a worker which holds it in memory cannot be mistaken.
const BIG: usize = 8 << 20;

/// Big files among small ones; each has a word of its own.
fn big_tree() -> (Tree, BTreeMap<String, String>) {
    let tree = Tree::new();
    let mut texts = BTreeMap::new();
    for i in 0..30 {
        let length = if i % 5 == 0 { BIG } else { 100 };
        let line = format!("only-in-{i} common words\n");
        texts.insert(format!("file-{i}"), line.repeat(length / line.len() + 1));
    }
    for (name, text) in &texts {
        tree.write(name.as_bytes(), text.as_bytes());
    }
    (tree, texts)
}

/// Counts another way than the example does: character by character.
fn add_words(text: &str, counts: &mut Counts) {
    let mut word = String::new();
    for c in text.chars().chain(['\n']) {
        if !c.is_whitespace() {
            word.push(c);
        } else if !word.is_empty() {
            *counts.entry(std::mem::take(&mut word)).or_default() += 1;
        }
    }
}

/// A folder of files, until it is dropped.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Self {
        let folder = std::env::temp_dir().join("tree");
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &[u8], content: &[u8]) {
        let path = self.0.join(OsStr::from_bytes(name));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A `wordcount` on its way.
struct Run(Child);

impl Run {
    fn start(folder: &Path, options: &[&str]) -> Self {
        let mut command = Command::new(example_file("wordcount", "wordcount"));
        command.arg(folder).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Kills a worker that has a big file in its memory, so is counting it. It is stopped first, so that what was seen
    /// still holds when it is killed.
    fn kill_a_busy_worker(&self) -> i32 {
        let mut killed = None;
        eventually("a worker counts a big file", || {
            killed = children_of(self.0.id().cast_signed())
                .into_iter()
                .map(|child| child.pid)
                .filter(|&pid| holds_a_big_file(pid))
                .find(|&pid| stop_and_kill(pid));
            killed.is_some()
        });
        killed.unwrap()
    }

    fn wait(self) -> Outcome {
        let output = self.0.wait_with_output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut outcome = Outcome { code: output.status.code(), stdout, stderr, counts: Counts::new() };
        outcome.counts = outcome.words().map(|(word, times)| (word.to_owned(), times)).collect();
        outcome
    }
}

fn stop_and_kill(pid: i32) -> bool {
    let id = Pid::from_raw(pid);
    if kill(id, Signal::SIGSTOP).is_err() {
        return false;
    }
    eventually("a worker stops", || process(pid).is_none_or(|found| matches!(found.state, 'T' | 'Z')));
    let busy = holds_a_big_file(pid);
    if busy {
        kill9(pid);
        eventually("a killed worker is gone", || is_gone(pid));
    } else {
        let _ = kill(id, Signal::SIGCONT);
    }
    busy
}

fn holds_a_big_file(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.strip_suffix("kB"));
    anonymous.is_some_and(|kib| kib.trim().parse::<usize>().is_ok_and(|kib| kib << 10 >= BIG))
}

/// What a `wordcount` said.
#[derive(Debug)]
struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    counts: Counts,
}

impl Outcome {
    /// The words in the order in which they are shown.
    fn words(&self) -> impl Iterator<Item = (&str, u64)> {
        let lines = self.stdout.lines().take_while(|line| !line.is_empty());
        lines.map(|line| {
            let (times, word) = line.trim_start().split_once("  ").unwrap();
            (word, times.parse().unwrap())
        })
    }

    /// File names of what is not counted.
    fn named(&self) -> BTreeSet<String> {
        let lines = self.stderr.lines().map(|line| line.strip_prefix("not counted: ").unwrap());
        let paths = lines.map(|line| line.split_once(": ").unwrap().0);
        paths.map(|path| path.rsplit('/').next().unwrap().to_owned()).collect()
    }
}
