//! The examples, as programs that tests run.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The file of an example beside the test binaries: `file("plugin", "libplugin.so")`.
///
/// `cargo test` builds it along; where only one test binary was asked for, it is built now.
pub fn file(example: &str, name: &str) -> PathBuf {
    let own = env::current_exe().unwrap();
    let profile = own.parent().and_then(Path::parent).unwrap();
    let file = profile.join("examples").join(name);
    if !file.exists() {
        let release = profile.ends_with("release").then_some("--release");
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--example", example, "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .arg("--target-dir")
            .arg(profile.parent().unwrap())
            .args(release)
            .stdin(Stdio::null())
            .status();
        assert!(status.unwrap().success());
    }
    file
}

/// Runs an example that must succeed, and gives what it printed.
#[track_caller]
pub fn printed(example: &str) -> String {
    outputs(example)[0].clone()
}

/// Runs an example that must succeed, and gives its standard output and standard error.
#[track_caller]
pub fn outputs(example: &str) -> [String; 2] {
    let output = Command::new(file(example, example)).stdin(Stdio::null()).output().unwrap();
    let [text, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{example}: {}\n{errors}", output.status);
    [text, errors]
}
