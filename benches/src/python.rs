//! The peer CPython: one process for the whole run, asked over its standard input and output.
//!
//! A line `run NAME N` measures the figure once with N operations and is answered by `ok VALUE`, in the figure's unit; `end`
//! gives back what the figure kept (a pool, a heap, children). A line `error TEXT` is the answer to what failed. The process
//! ends with its standard input, so it never outlives this one.
//!
//! The script is written to a folder of its own, since the start methods of Python import `__main__` from a real file, and
//! any other module beside it would be found first. The folder is removed by both sides: here when the handle is dropped,
//! there at the end of the process, which also comes when this process is killed.

use crate::harness::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::{self, DirBuilder};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The script: a part for each group, between what all need and what takes the requests.
///
/// It is one file for the interpreter, since with `spawn` and `forkserver` each child reads it again, and would look for each
/// module beside it.
pub(crate) const SCRIPT: &str = concat!(
    include_str!("python/head.py"),
    include_str!("python/start.py"),
    include_str!("python/queue.py"),
    include_str!("python/sync.py"),
    include_str!("python/pool.py"),
    include_str!("python/manager.py"),
    include_str!("python/peer.py"),
);

/// How long the process may take to end once its input is closed, in milliseconds.
const PATIENCE: u16 = 10_000;

/// A running interpreter.
#[derive(Debug)]
pub(crate) struct Python {
    child: Child,
    /// `None` once the process has been asked to end.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    version: String,
    _folder: Folder,
}

impl Python {
    /// Starts the interpreter; `Ok(None)` when there is no such program.
    pub(crate) fn start(program: &str) -> Result<Option<Self>> {
        let folder = Folder::create()?;
        let script = folder.0.join("peer.py");
        fs::write(&script, SCRIPT)?;
        let mut command = Command::new(program);
        command.arg(&script).arg(&folder.0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("cannot run `{program}`: {error}").into()),
        };
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the interpreter has no standard streams".into());
        };
        let (input, output) = (Some(input), BufReader::new(output));
        let mut python = Self { child, input, output, version: String::new(), _folder: folder };
        python.version = python.answer()?;
        Ok(Some(python))
    }

    /// The interpreter's version.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Measures the figure once, with `n` operations.
    pub(crate) fn run(&mut self, name: &str, n: u64) -> Result<f64> {
        let answer = self.ask(&format!("run {name} {n}"))?;
        answer.parse().map_err(|_| format!("python answered `{answer}`, which is no number").into())
    }

    /// Gives back what the figure kept.
    pub(crate) fn end(&mut self) -> Result<()> {
        self.ask("end").map(drop)
    }

    fn ask(&mut self, request: &str) -> Result<String> {
        let input = self.input.as_mut().ok_or("python has ended")?;
        writeln!(input, "{request}").map_err(|error| format!("python is gone: {error}"))?;
        self.answer()
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        let line = line.trim_end();
        match line.split_once(' ') {
            Some(("ok", value)) => Ok(value.to_owned()),
            Some(("error", text)) => Err(format!("python: {text}").into()),
            _ if line.is_empty() => Err("python ended before it answered".into()),
            _ => Err(format!("python answered `{line}`").into()),
        }
    }

    /// Whether the process has closed its output: it has ended, or is about to.
    fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.output.get_ref().as_fd(), PollFlags::POLLHUP)];
        poll(&mut fds, PollTimeout::from(PATIENCE)).is_ok_and(|ready| ready > 0)
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.input.take());
        // Both may fail only for a process that has ended already.
        if !self.has_ended() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// A folder in the temp folder that nobody else may use; removed when dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self> {
        let parent = std::env::temp_dir();
        let pid = std::process::id();
        for attempt in 0..100 {
            let path = parent.join(format!("procession-bench-{pid}-{attempt}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(cannot_create(&path, &error.to_string())),
            }
        }
        Err(cannot_create(&parent, "every name is taken"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It may be gone: the interpreter removes it too.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn cannot_create(path: &Path, why: &str) -> Box<dyn std::error::Error> {
    format!("cannot create a folder at {}: {why}", path.display()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_does_not_exist_is_none() {
        assert!(Python::start("no-such-interpreter").unwrap().is_none());
    }

    #[test]
    fn a_folder_is_removed_with_its_handle() {
        let folder = Folder::create().unwrap();
        let path = folder.0.clone();
        fs::write(path.join("file"), "text").unwrap();
        drop(folder);
        assert!(!path.exists());
    }
}
