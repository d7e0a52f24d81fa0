//! Rules that a machine can check, so that no reviewer has to: length, module docs, layer imports, where `unsafe` may
//! stand, process starts only inside `isolated`, a few words that do not belong in the tree, and whether the book's page of
//! CPython's tests is true.
//!
//! Each rule is a test that lists `file:line: what is wrong`. The rules are pure functions in `tidy/checks.rs`, and
//! `tidy/proofs.rs` shows each of them failing on a bad input.

#[path = "tidy/checks.rs"]
mod checks;
#[path = "tidy/conformance.rs"]
mod conformance;
#[path = "tidy/proofs.rs"]
mod proofs;
#[path = "tidy/source.rs"]
mod source;

use std::{fs, path::Path};

use checks::File;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const SOURCES: [&str; 7] = ["src", "actors", "ipc", "macros", "benches", "tests", "examples"];
/// Built things: whatever has such a name is no source.
const BUILT: [&str; 3] = ["target", ".git", "book/book"];

#[test]
fn files_are_short() {
    report(sources().iter().flat_map(checks::length));
}

#[test]
fn modules_begin_with_their_docs() {
    report(sources().iter().flat_map(checks::module_docs));
}

#[test]
fn layers_import_downwards_only() {
    report(sources().iter().flat_map(checks::layers));
}

#[test]
fn unsafe_stays_in_its_rooms() {
    let cdylibs = checks::cdylib_examples(&read("Cargo.toml").text);
    report(sources().iter().flat_map(|file| checks::unsafe_rooms(file, &cdylibs)));
}

#[test]
fn unsafe_is_explained() {
    report(sources().iter().flat_map(checks::safety_comments));
}

#[test]
fn changelog_names_the_version() {
    let manifest = read("Cargo.toml").text;
    let version = checks::workspace_version(&manifest).expect("Cargo.toml has no workspace version");
    report(checks::changelog(&read("CHANGELOG.md"), version));
}

#[test]
fn processes_start_inside_isolated_only() {
    report(sources().iter().flat_map(checks::isolation));
}

#[test]
fn nothing_is_unfinished() {
    report(sources().iter().flat_map(checks::unfinished));
}

#[test]
fn nothing_sleeps() {
    report(sources().iter().flat_map(checks::sleeps));
}

#[test]
fn no_paths_of_one_machine() {
    report(everything().iter().flat_map(checks::machine_paths));
}

#[test]
fn ports_of_cpythons_tests_have_their_names() {
    report(sources().iter().flat_map(conformance::names));
}

/// With `PROCESSION_UPDATE=1` in the environment it writes the page first.
#[test]
fn conformance_page_is_true() {
    let files = sources();
    if std::env::var_os("PROCESSION_UPDATE").is_some() {
        fs::write(Path::new(ROOT).join(conformance::PAGE), conformance::page(&files))
            .expect("a writable tree");
    }
    report(conformance::untrue(&read(conformance::PAGE), &files));
}

/// The checks above would all pass over an empty tree.
#[test]
fn the_walk_finds_the_tree() {
    let paths: Vec<String> = everything().into_iter().map(|file| file.path).collect();
    for expected in [
        "src/lib.rs",
        "ipc/src/lib.rs",
        "actors/src/lib.rs",
        "tests/tidy.rs",
        ".ci/run",
        "Cargo.toml",
        conformance::PAGE,
    ] {
        assert!(paths.iter().any(|path| path == expected), "{expected} is missing in {paths:#?}");
    }
}

#[track_caller]
fn report(findings: impl IntoIterator<Item = String>) {
    let findings: Vec<String> = findings.into_iter().collect();
    assert!(findings.is_empty(), "{} findings:\n{}", findings.len(), findings.join("\n"));
}

/// All Rust files of the workspace.
fn sources() -> Vec<File> {
    let mut files = Vec::new();
    for folder in SOURCES {
        walk(folder, &mut files);
    }
    files.retain(|file| file.path.ends_with(".rs"));
    files
}

/// All text files, whether tracked already or not.
fn everything() -> Vec<File> {
    let mut files = Vec::new();
    walk("", &mut files);
    files
}

fn walk(folder: &str, files: &mut Vec<File>) {
    let Ok(entries) = fs::read_dir(Path::new(ROOT).join(folder)) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if BUILT.contains(&path.as_str()) || BUILT.contains(&name.as_str()) {
            continue;
        }
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            walk(&path, files);
        } else if let Ok(text) = fs::read_to_string(entry.path()) {
            files.push(File::new(&path, &text));
        }
    }
}

fn read(path: &str) -> File {
    let text = fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_default();
    File::new(path, &text)
}
