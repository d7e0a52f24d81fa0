//! Programs that were built in unusual ways can start processes, or say why they cannot.
//!
//! The programs are those of `tests/programs`, built by cargo into a target folder of their own: the dependencies once,
//! with what link-time optimisation wants from them, and then only the program in each way.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::elf;
use crate::support::{Options, isolated_with};

/// The first build, with all dependencies, takes a minute where nothing else runs.
pub const PATIENT: Options = Options { watchdog: Duration::from_secs(590), grace: Duration::from_secs(10) };

/// A program of `tests/programs`, in the temporary folder. Removed when dropped.
#[derive(Debug)]
pub struct Program(PathBuf);

impl Program {
    /// Builds `name`; `options` are the compiler's, for the last step.
    pub fn build(name: &str, options: &[&str]) -> Self {
        let folder = target().join("programs");
        fs::create_dir_all(&folder).unwrap();
        // Held until it is copied: another test may build the same program in another way.
        let lock = File::create(folder.join("lock")).unwrap();
        lock.lock().unwrap();
        let status = Command::new(env!("CARGO"))
            .args(["rustc", "--quiet", "--locked", "--package", "procession-programs", "--bin", name])
            .args((name == "guest").then_some("--features=guest"))
            .arg("--manifest-path")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .arg("--target-dir")
            .arg(&folder)
            .arg("--")
            .args(options)
            .env("RUSTC", compiler())
            .env("RUSTFLAGS", "-Cembed-bitcode=yes")
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .stdin(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{name} {options:?}");
        let program = Self(env::temp_dir().join(name));
        fs::copy(folder.join("debug").join(name), &program.0).unwrap();
        program
    }

    /// Builds the program `name` of a folder of `tests/programs` that is outside of the workspace.
    pub fn build_apart(folder: &str, name: &str) -> Self {
        let target = target().join("programs").join(folder);
        let manifest = [env!("CARGO_MANIFEST_DIR"), "tests/programs", folder, "Cargo.toml"];
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--locked", "--manifest-path"])
            .arg(manifest.iter().collect::<PathBuf>())
            .arg("--target-dir")
            .arg(&target)
            .env("RUSTC", compiler())
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .stdin(Stdio::null())
            .status();
        assert!(status.unwrap().success(), "{name}");
        let program = Self(env::temp_dir().join(name));
        fs::copy(target.join("debug").join(name), &program.0).unwrap();
        program
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A run of it without the variables of this test, and with the shared libraries of its build.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.0);
        command
            .env_remove("PROCESSION_TEST_ROLE")
            .env("RUST_BACKTRACE", "0")
            .env("LD_LIBRARY_PATH", libraries())
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        command
    }

    /// The lines that a run of it prints.
    #[track_caller]
    pub fn lines(&self) -> Vec<String> {
        lines_of(&mut self.command())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The lines that a program prints, which succeeds.
#[track_caller]
pub fn lines_of(command: &mut Command) -> Vec<String> {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{:?}: {text}", output.status);
    text.lines().map(str::to_owned).collect()
}

/// The target folder in which this test was built.
fn target() -> PathBuf {
    let own = env::current_exe().unwrap();
    own.ancestors().nth(3).unwrap().to_owned()
}

/// The one beside cargo. Where this binary is run by hand, a plain `rustc` may be that of each package's own choice.
fn compiler() -> PathBuf {
    Path::new(env!("CARGO")).with_file_name("rustc")
}

/// Where shared libraries are: those of the compiler, and ours.
fn libraries() -> OsString {
    let output = Command::new(compiler()).args(["--print", "target-libdir"]).stdin(Stdio::null()).output();
    let of_rust = PathBuf::from(String::from_utf8(output.unwrap().stdout).unwrap().trim());
    env::join_paths([of_rust, target().join("programs/debug/deps")]).unwrap()
}

/// What the probe prints: a line each for `main`, the children, and those that fail as `failure` says.
#[track_caller]
fn assert_all_work(what: &str, probe: &Program, failure: &str) {
    let lines = probe.lines();
    let names = "early late";
    let expected = ["main", "spawn", "spawn fail", "forkserver", "forkserver fail", "default", "pool"];
    assert_eq!(lines.len(), expected.len(), "{what}: {lines:#?}");
    for (line, start) in lines.iter().zip(expected) {
        let (seen, text) = line.split_once(": ").unwrap();
        let wanted = if start.ends_with("fail") { failure } else { names };
        assert!(seen == start && text.starts_with(wanted), "{what}: {wanted:?} in {line:?}");
    }
}

/// Constructors of others stand before and after the entry, and each has run once before a target does. Optimised as a
/// whole, stripped, or with Rust's library beside it, the program works the same; without unwinding a panic is SIGABRT.
#[test]
fn programs_of_all_builds_start_processes() {
    isolated_with(PATIENT, || {
        let panicked = "Panicked { message: \"as it was told\"";
        let probe = Program::build("probe", &[]);
        assert_constructors_on_both_sides(&elf::constructors(probe.path()));
        assert_all_work("plain", &probe, panicked);
        let cases: [(&[&str], &str); 4] = [
            (&["-Cstrip=symbols"], panicked),
            (&["-Clto=fat", "-Copt-level=1", "-Cstrip=symbols"], panicked),
            (&["-Cprefer-dynamic"], panicked),
            (&["-Cpanic=abort"], "Signaled { signal: 6"),
        ];
        for (options, failure) in cases {
            assert_all_work(&options.join(" "), &Program::build("probe", options), failure);
        }
    });
}

#[track_caller]
fn assert_constructors_on_both_sides(order: &[String]) {
    let at = |parts: [&str; 2]| {
        let found = order.iter().position(|name| parts.iter().all(|part| name.contains(part)));
        found.unwrap_or_else(|| panic!("no constructor {parts:?}: {order:#?}"))
    };
    let (early, late) = (at(["5probe", "6__ctor"]), at(["15procession_late", "6__ctor"]));
    let entry = at(["5start5entry5enter", ""]);
    assert!(early < entry && entry < late, "{order:#?}");
}

/// With the library in a shared library of the program, the entry is not in the program: it says so, and starts nothing.
#[test]
fn program_with_the_library_in_a_shared_library_is_told_so() {
    isolated_with(PATIENT, || {
        let lines = Program::build("guest", &["-Cprefer-dynamic"]).lines();
        assert_eq!(lines.len(), 4, "{lines:#?}");
        assert_eq!(lines[0], "main");
        for (line, what) in lines[1..].iter().zip(["spawn", "forkserver", "pool"]) {
            let start = format!("{what}: Err(NotInMainImage");
            assert!(line.starts_with(&start) && line.contains("libprocession_shared"), "{line}");
        }
    });
}
