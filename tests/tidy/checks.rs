//! The checks: pure functions from a path and a text to the lines that break a rule.

use crate::source::{Line, has};

/// A file of the tree. The path is relative to the root, with forward slashes.
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
    /// Code and comments; empty for what is not Rust.
    pub(crate) lines: Vec<Line>,
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let lines = if path.ends_with(".rs") { crate::source::lines(text) } else { Vec::new() };
        Self { path: path.to_owned(), text: text.to_owned(), lines }
    }

    /// `path:line: message`, with lines counted from 1.
    pub(crate) fn finding(&self, index: usize, message: &str) -> String {
        format!("{}:{}: {message}", self.path, index + 1)
    }

    /// Each line of code with its index.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines.iter().enumerate().map(|(index, line)| (index, line.code.as_str()))
    }

    /// Programs that must not compile: no modules, and their line numbers stand in `.stderr` files.
    pub(crate) fn is_compile_fail(&self) -> bool {
        self.path.contains("/ui/")
    }

    fn is_under(&self, folders: &[&str]) -> bool {
        folders.iter().any(|folder| self.path.starts_with(folder))
    }
}

const MOST_LINES: usize = 500;

/// Files that are better long: (path, reason).
const LONG_FILES: [(&str, &str); 0] = [];

pub(crate) fn length(file: &File) -> Vec<String> {
    let count = file.text.lines().count();
    if count <= MOST_LINES || LONG_FILES.iter().any(|(path, _reason)| *path == file.path) {
        return Vec::new();
    }
    vec![file.finding(
        MOST_LINES,
        &format!("{count} lines, {MOST_LINES} are allowed: split the file by what it does"),
    )]
}

pub(crate) fn module_docs(file: &File) -> Vec<String> {
    if file.is_compile_fail() {
        return Vec::new();
    }
    let mut in_attribute = 0_usize;
    for (index, line) in file.text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        if in_attribute == 0 && !line.starts_with("#![") {
            let is_doc = line.starts_with("//!");
            return if is_doc { Vec::new() } else { vec![file.finding(index, "a module begins with `//!`")] };
        }
        in_attribute += line.matches('[').count();
        in_attribute = in_attribute.saturating_sub(line.matches(']').count());
    }
    vec![file.finding(0, "a module begins with `//!`")]
}

/// (folder, what it must not name): data flows face -> actors -> ipc -> kernel, and only actors know the runtime.
const LAYERS: [(&str, &[&str]); 3] = [
    ("ipc/", &["procession_actors", "ractor", "tokio", "indicatif", "procession::"]),
    ("actors/", &["procession::", "indicatif"]),
    ("src/", &["tokio", "ractor"]),
];

pub(crate) fn layers(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    for (folder, forbidden) in LAYERS {
        if !file.path.starts_with(folder) {
            continue;
        }
        for (index, code) in file.code() {
            for name in forbidden.iter().filter(|name| has(code, name)) {
                findings.push(file.finding(index, &format!("`{name}` is not for the layer {folder}")));
            }
        }
    }
    findings
}

/// Where `unsafe` may stand.
const UNSAFE_ROOMS: [&str; 6] = [
    "ipc/src/sys.rs",
    "ipc/src/sys/",
    "ipc/src/shm.rs",
    "ipc/src/shm/",
    "ipc/src/start.rs",
    "ipc/src/start/",
];

/// `cdylibs` are the examples that are libraries for other programs: they export symbols.
pub(crate) fn unsafe_rooms(file: &File, cdylibs: &[String]) -> Vec<String> {
    if file.is_under(&UNSAFE_ROOMS) || cdylibs.contains(&file.path) {
        return Vec::new();
    }
    // A word of its own: `unsafe_code` and `unsafe_op_in_unsafe_fn` are names of lints.
    file.code()
        .filter(|(_index, code)| has(code, "unsafe"))
        .map(|(index, _code)| file.finding(index, "`unsafe` outside ipc/src/{sys,shm,start}"))
        .collect()
}

/// Lines of code that may stand between a SAFETY comment and its `unsafe`: the head of the statement, an attribute.
const SAFETY_REACH: usize = 3;

pub(crate) fn safety_comments(file: &File) -> Vec<String> {
    let needs = |code: &str| {
        code.match_indices("unsafe").any(|(at, word)| {
            let rest = code[at + word.len()..].trim_start();
            has(&code[at..], "unsafe")
                && (rest.starts_with('{') || has(rest.split(' ').next().unwrap_or(""), "impl"))
        })
    };
    let explained = |index: usize| {
        let mut reach = SAFETY_REACH;
        for line in file.lines[..=index].iter().rev() {
            if line.comment.contains("SAFETY:") {
                return true;
            }
            // The line itself is free, and so are the lines of the comment.
            let is_code = !line.code.trim().is_empty();
            if is_code && reach == 0 {
                return false;
            }
            reach -= usize::from(is_code);
        }
        false
    };
    let reports = file.code().filter(|(index, code)| needs(code) && !explained(*index));
    reports.map(|(index, _code)| file.finding(index, "no `// SAFETY:` comment above")).collect()
}

/// The version of the workspace in a `Cargo.toml`.
pub(crate) fn workspace_version(manifest: &str) -> Option<&str> {
    let section = manifest.split("[workspace.package]").nth(1)?;
    let line = section.lines().find(|line| line.trim_start().starts_with("version"))?;
    line.split('"').nth(1)
}

/// The version has a section of its own, or the section of what is unreleased names it.
pub(crate) fn changelog(file: &File, version: &str) -> Vec<String> {
    let mut sections = file.text.split("\n## ").skip(1);
    let names = |section: &str| {
        section.starts_with(&format!("[{version}]"))
            || (section.starts_with("[Unreleased]")
                && section.split_whitespace().any(|word| is_version(word, version)))
    };
    if sections.any(names) {
        return Vec::new();
    }
    vec![
        file.finding(
            0,
            &format!("no section `## [{version}]`, and `## [Unreleased]` does not name {version}"),
        ),
    ]
}

fn is_version(word: &str, version: &str) -> bool {
    word.trim_matches(|c: char| !c.is_ascii_alphanumeric()) == version
}

const STARTS: [&str; 5] = ["Process::", "Pool::", ".builder(", "fork(", "Command::new"];

pub(crate) fn isolation(file: &File) -> Vec<String> {
    let is_support = file.is_under(&["tests/it/support.rs", "tests/it/support/"]);
    if is_support || !file.is_under(&["tests/it/", "tests/kills/"]) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, body) in test_bodies(&file.lines) {
        let starts = STARTS.iter().find(|start| has(&body, start));
        let is_isolated = ["isolated(", "isolated_with("].iter().any(|call| body.contains(call));
        if let (Some(start), false) = (starts, is_isolated) {
            findings.push(file.finding(index, &format!("the test has `{start}` outside `isolated(`")));
        }
    }
    findings
}

/// The bodies of the functions with `#[test]`, and the lines of the attribute.
fn test_bodies(lines: &[Line]) -> Vec<(usize, String)> {
    let starts = lines.iter().enumerate().filter(|(_index, line)| line.code.contains("#[test]"));
    starts.map(|(index, _line)| (index, body_from(&lines[index..]))).collect()
}

/// The first block in braces.
fn body_from(lines: &[Line]) -> String {
    let mut body = String::new();
    let mut depth = 0_usize;
    for line in lines {
        for c in line.code.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => return body,
                '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > 0 {
                body.push(c);
            }
        }
        body.push('\n');
    }
    body
}

const UNFINISHED: [&str; 4] = ["#[ignore", "todo!", "unimplemented!", "dbg!"];

pub(crate) fn unfinished(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    for (index, line) in file.lines.iter().enumerate() {
        for word in UNFINISHED.iter().filter(|word| has(&line.code, word)) {
            findings.push(file.finding(index, &format!("`{word}` in the tree")));
        }
        let comment = line.comment.trim_start_matches(['/', '!', '*', ' ']);
        let fence = comment.strip_prefix("```").unwrap_or("");
        for word in ["ignore", "no_run"].iter().filter(|word| has(fence, word)) {
            findings.push(file.finding(index, &format!("a doc-test with `{word}` proves nothing")));
        }
    }
    findings
}

pub(crate) fn sleeps(file: &File) -> Vec<String> {
    if file.is_under(&["tests/it/support.rs", "tests/it/support/"]) {
        return Vec::new();
    }
    let sleeping = file.code().filter(|(_index, code)| has(code, "thread::sleep"));
    sleeping
        .map(|(index, _code)| file.finding(index, "`thread::sleep`: wait for the event instead"))
        .collect()
}

/// Spelt in two parts, or this file would break its own rule.
const MACHINE_FOLDERS: [&str; 3] = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

pub(crate) fn machine_paths(file: &File) -> Vec<String> {
    let starts_path = |line: &str, folder: &str| {
        // `target/home/x` and `https://a.b/home/x` are no absolute paths.
        let inside = |before: &str| before.ends_with(|c: char| c.is_alphanumeric() || "._-~/)}".contains(c));
        line.match_indices(folder).any(|(at, _)| !inside(&line[..at]))
    };
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for folder in MACHINE_FOLDERS.iter().filter(|folder| starts_path(line, folder)) {
            findings.push(file.finding(index, &format!("`{folder}` is a path of one machine")));
        }
    }
    findings
}

/// The paths of the examples in a `Cargo.toml` that are C libraries.
pub(crate) fn cdylib_examples(manifest: &str) -> Vec<String> {
    let value = |block: &str, key: &str| {
        let line = block.lines().find(|line| line.trim_start().starts_with(key))?;
        line.split('"').nth(1).map(str::to_owned)
    };
    let blocks = manifest.split("[[example]]").skip(1).map(|rest| rest.split("\n[").next().unwrap_or(rest));
    let path =
        |block| value(block, "path").or_else(|| Some(format!("examples/{}.rs", value(block, "name")?)));
    blocks.filter(|block| block.contains("cdylib")).filter_map(path).collect()
}
