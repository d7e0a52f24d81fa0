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
    let output = Command::new(file(example, example)).stdin(Stdio::null()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{example}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
