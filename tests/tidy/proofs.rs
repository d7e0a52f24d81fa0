//! Each check on small inputs that break its rule and on their neighbours that do not.

use crate::checks::{
    File, cdylib_examples, changelog, isolation, layers, length, machine_paths, module_docs, safety_comments,
    sleeps, unfinished, unsafe_rooms, workspace_version,
};

/// (path, text, lines that are reported)
type Case = (&'static str, &'static str, &'static [usize]);

/// Runs `check` over the cases and compares the lines.
#[track_caller]
fn check_all(check: impl Fn(&File) -> Vec<String>, cases: &[Case]) {
    for (path, text, expected) in cases {
        let findings = check(&File::new(path, text));
        let line = |finding: &String| finding.split(':').nth(1).and_then(|line| line.parse().ok());
        let lines: Vec<usize> = findings.iter().filter_map(line).collect();
        assert_eq!(&lines, expected, "{path}\n{text}\n{findings:#?}");
        assert!(findings.iter().all(|finding| finding.starts_with(path)), "{findings:#?}");
    }
}

#[test]
fn a_long_file_is_found() {
    let lines = |count: usize| "x\n".repeat(count);
    assert_eq!(length(&File::new("src/a.rs", &lines(500))), [] as [String; 0]);
    assert_eq!(length(&File::new("src/a.rs", &lines(501))).len(), 1);
}

#[test]
fn a_module_without_docs_is_found() {
    check_all(
        module_docs,
        &[
            ("src/a.rs", "//! Docs.\nuse x;", &[]),
            ("src/a.rs", "\n#![forbid(unsafe_code)]\n\n//! Docs.", &[]),
            ("src/a.rs", "#![allow(\n    a,\n    b[0],\n)]\n//! Docs.", &[]),
            ("src/a.rs", "use x;\n//! Docs.", &[1]),
            ("src/a.rs", "#![forbid(unsafe_code)]\nuse x;", &[2]),
            ("src/a.rs", "// Plain.\n//! Docs.", &[1]),
            ("src/a.rs", "", &[1]),
            ("tests/ui/capture.rs", "fn main() {}", &[]),
        ],
    );
}

#[test]
fn an_import_of_a_layer_above_is_found() {
    check_all(
        layers,
        &[
            (
                "ipc/src/a.rs",
                "use procession_actors::X;\nuse tokio::x;\nuse ractor;\nuse procession::Process;",
                &[1, 2, 3, 4],
            ),
            ("ipc/src/a.rs", "use procession_ipc::X; // tokio\nlet s = \"procession::Process\";", &[]),
            (
                "actors/src/a.rs",
                "use tokio::x;\nuse procession_ipc::x;\nuse indicatif::x;\nprocession::f();",
                &[3, 4],
            ),
            (
                "src/a.rs",
                "use procession_actors::x;\nasync fn f(x: tokio::X) {}\nuse ractor::Actor;",
                &[2, 3],
            ),
            ("benches/src/a.rs", "use tokio::x;", &[]),
        ],
    );
}

#[test]
fn unsafe_outside_its_rooms_is_found() {
    let cdylibs = ["examples/library.rs".to_owned()];
    let text = "#[unsafe(no_mangle)]\nfn f() { unsafe { g() } }\nunsafe impl Send for X {}";
    check_all(
        |file| unsafe_rooms(file, &cdylibs),
        &[
            ("src/a.rs", text, &[1, 2, 3]),
            ("tests/it/a.rs", text, &[1, 2, 3]),
            ("examples/other.rs", text, &[1, 2, 3]),
            ("ipc/src/codec.rs", text, &[1, 2, 3]),
            ("ipc/src/system.rs", text, &[1, 2, 3]),
            ("examples/library.rs", text, &[]),
            ("ipc/src/sys.rs", text, &[]),
            ("ipc/src/sys/fd.rs", text, &[]),
            ("ipc/src/shm/view.rs", text, &[]),
            ("ipc/src/start/entry.rs", text, &[]),
            (
                "src/a.rs",
                "#![forbid(unsafe_code)]\n#![deny(unsafe_op_in_unsafe_fn)]\n// unsafe\n\"unsafe\";",
                &[],
            ),
        ],
    );
}

#[test]
fn unsafe_without_a_reason_is_found() {
    check_all(
        safety_comments,
        &[
            ("ipc/src/sys.rs", "// SAFETY: fine.\nlet x = unsafe { f() };", &[]),
            ("ipc/src/sys.rs", "// SAFETY: fine,\n// for long.\nlet x =\n    g(\n    unsafe { f() });", &[]),
            ("ipc/src/sys.rs", "// SAFETY: fine.\n#[allow(x)]\nunsafe impl Send for X {}", &[]),
            ("ipc/src/sys.rs", "let x = unsafe { f() };", &[1]),
            ("ipc/src/sys.rs", "unsafe impl Send for X {}\nunsafe impl<T> Sync for X<T> {}", &[1, 2]),
            ("ipc/src/sys.rs", "// Just so.\nlet x = unsafe { f() };", &[2]),
            ("ipc/src/sys.rs", "// SAFETY: far.\na();\nb();\nc();\nlet x = unsafe { f() };", &[5]),
            ("ipc/src/sys.rs", "let s = \"SAFETY:\";\nlet x = unsafe { f() };", &[2]),
            ("ipc/src/sys.rs", "unsafe fn f() {}\nunsafe extern \"C\" {}\n#![allow(unsafe_code)]", &[]),
        ],
    );
}

#[test]
fn a_changelog_without_the_version_is_found() {
    let manifest = "[workspace]\nversion = \"9\"\n[workspace.package]\nversion = \"0.1.0\"\n";
    assert_eq!(workspace_version(manifest), Some("0.1.0"));
    assert_eq!(workspace_version("[package]\nversion = \"1.0.0\""), None);
    check_all(
        |file| changelog(file, "0.1.0"),
        &[
            ("CHANGELOG.md", "# C\n\n## [0.1.0] - 2030-01-01\n", &[]),
            ("CHANGELOG.md", "# C\n\n## [Unreleased]\n\nWill be 0.1.0, soon.\n", &[]),
            ("CHANGELOG.md", "# C\n\n## [Unreleased]\n\nMuch.\n\n## [0.0.9]\n\nbefore 0.1.0", &[1]),
            ("CHANGELOG.md", "# C\n\n## [Unreleased]\n\nWill be 10.1.0\n\n## [0.1.01]\n", &[1]),
            ("CHANGELOG.md", "", &[1]),
        ],
    );
}

#[test]
fn a_start_outside_isolated_is_found() {
    let bare = "#[test]\nfn f() {\n    let p = Process::spawn(x, ());\n}\n";
    check_all(
        isolation,
        &[
            ("tests/it/start.rs", bare, &[1]),
            ("tests/it/deep/start.rs", bare, &[1]),
            ("tests/kills/lock.rs", bare, &[1]),
            (
                "tests/it/start.rs",
                "#[test]\nfn f() { Pool::new(2); }\n#[test]\nfn g() { x.builder(y); }",
                &[1, 3],
            ),
            (
                "tests/it/start.rs",
                "#[test]\nfn f() { fork(); }\n#[test]\nfn g() { Command::new(y); }",
                &[1, 3],
            ),
            ("tests/it/start.rs", "macro_rules! m { () => {\n#[test]\nfn f() { Pool::new(2); } } }", &[2]),
            (
                "tests/it/start.rs",
                "#[test]\nfn f() { isolated(|| { Pool::new(2); }) }\nfn g() { Pool::new(2); }",
                &[],
            ),
            ("tests/it/start.rs", "#[test]\nfn f() { isolated_with(o, || { Pool::new(2); }) }", &[]),
            ("tests/it/start.rs", "#[test]\nfn f() { x('{'); }\nfn g() { Pool::new(2); }", &[]),
            ("tests/it/start.rs", "#[test]\nfn f() { Pool::new(2); } // isolated(", &[1]),
            ("tests/it/support.rs", bare, &[]),
            ("tests/it/support/warden.rs", bare, &[]),
        ],
    );
}

#[test]
fn unfinished_work_is_found() {
    check_all(
        unfinished,
        &[
            ("src/a.rs", "#[ignore]\nfn f() { todo!() }\nunimplemented!();\ndbg!(x);", &[1, 2, 3, 4]),
            ("src/a.rs", "#[ignore = \"slow\"]", &[1]),
            ("src/a.rs", "/// ```ignore\n//! ```no_run\n/// ```rust,no_run\n/** ```ignore", &[1, 2, 3, 4]),
            ("src/a.rs", "/// ```text\n/// ```\n// todo! later\n/// ```compile_fail\n\"dbg!\"", &[]),
        ],
    );
}

#[test]
fn a_sleep_is_found() {
    let text = "use x;\nstd::thread::sleep(d);";
    check_all(
        sleeps,
        &[
            ("src/a.rs", text, &[2]),
            ("tests/it/start.rs", text, &[2]),
            ("tests/it/support_test.rs", text, &[2]),
            ("tests/it/support.rs", text, &[]),
            ("src/a.rs", "// thread::sleep\ntokio::time::sleep(d)", &[]),
        ],
    );
}

#[test]
fn a_path_of_one_machine_is_found() {
    let path = |folder: &str, tail: &str| format!("/{folder}/{tail}");
    for folder in ["work", "root", "home"] {
        let bad =
            [format!("see {}", path(folder, "x")), format!("\"{}\"", path(folder, "x")), path(folder, "")];
        for text in bad {
            assert_eq!(machine_paths(&File::new("README.md", &text)).len(), 1, "{text}");
        }
        let good =
            [format!("target{}", path(folder, "x")), format!("https://a.example{}", path(folder, "x"))];
        for text in good {
            assert_eq!(machine_paths(&File::new("README.md", &text)), [] as [String; 0], "{text}");
        }
    }
}

#[test]
fn cdylib_examples_are_read_from_the_manifest() {
    let manifest = "[[example]]\nname = \"a\"\ncrate-type = [\"cdylib\"]\n\n[[example]]\nname = \"b\"\n\n\
                    [[example]]\nname = \"c\"\npath = \"examples/c/lib.rs\"\ncrate-type = [\"cdylib\"]\n[lints]\n";
    assert_eq!(cdylib_examples(manifest), ["examples/a.rs", "examples/c/lib.rs"]);
}
