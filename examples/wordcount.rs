//! Counts the words of all files under a folder, one file at a time, in a pool of worker processes.
//!
//! ```text
//! cargo run --release --example wordcount -- DIR [--processes N] [--top N] [--retries N]
//! ```
//!
//! A word is a run of characters that are no white space. Every regular file counts, hidden ones too; links are not
//! followed. A file with a NUL byte or with invalid UTF-8 is skipped and named. A worker that dies costs the file in its
//! hands, which is named too, or nothing with `--retries`.

use procession::prelude::*;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use walkdir::WalkDir;

const USAGE: &str = "usage: wordcount DIR [--processes N] [--top N] [--retries N]";

/// What a worker says about one file.
#[derive(Serialize, Deserialize)]
struct Report {
    index: u64,
    pid: u32,
    /// The counts, or why the file was skipped.
    counts: Result<Counts, String>,
}

/// The words of one file.
#[derive(Serialize, Deserialize)]
struct Counts {
    bytes: u64,
    /// The distinct words with a space after each, which no word contains: one string is cheaper to send than many.
    words: String,
    /// How often each of them occurs.
    times: Vec<u64>,
}

/// Runs in a worker.
fn count_file((index, path): (u64, OsString)) -> Report {
    Report { index, pid: std::process::id(), counts: count_words(Path::new(&path)) }
}

fn count_words(path: &Path) -> Result<Counts, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    if bytes.contains(&0) {
        return Err("it holds a NUL byte, so it is no text".to_owned());
    }
    let text = str::from_utf8(&bytes).map_err(|error| error.to_string())?;
    let mut seen: HashMap<&str, u64> = HashMap::new();
    for word in text.split_whitespace() {
        *seen.entry(word).or_default() += 1;
    }
    let mut counts =
        Counts { bytes: bytes.len() as u64, words: String::new(), times: Vec::with_capacity(seen.len()) };
    for (word, times) in seen {
        counts.words.push_str(word);
        counts.words.push(' ');
        counts.times.push(times);
    }
    Ok(counts)
}

/// What all reports come to.
#[derive(Default)]
struct Totals {
    words: HashMap<String, u64>,
    /// Files and bytes of each worker.
    workers: BTreeMap<u32, (u64, u64)>,
    /// Files that are not counted, and why.
    missing: Vec<(PathBuf, String)>,
}

impl Totals {
    fn add(&mut self, pid: u32, counts: &Counts) {
        let (files, bytes) = self.workers.entry(pid).or_default();
        *files += 1;
        *bytes += counts.bytes;
        for (word, times) in counts.words.split_terminator(' ').zip(&counts.times) {
            match self.words.get_mut(word) {
                Some(total) => *total += times,
                None => drop(self.words.insert(word.to_owned(), *times)),
            }
        }
    }

    fn files(&self) -> u64 {
        self.workers.values().map(|(files, _)| files).sum()
    }

    /// The most frequent words; of equally frequent ones, the first by code points.
    fn top(&self, count: usize) -> Vec<(&str, u64)> {
        let mut words: Vec<(&str, u64)> = self.words.iter().map(|(word, &n)| (word.as_str(), n)).collect();
        words.sort_unstable_by(|(a, n), (b, m)| m.cmp(n).then(a.cmp(b)));
        words.truncate(count);
        words
    }

    fn print(&self, options: &Options, began: Instant) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for (word, times) in self.top(options.top) {
            writeln!(out, "{times:>10}  {word}")?;
        }
        writeln!(out)?;
        for (pid, (files, bytes)) in &self.workers {
            writeln!(out, "worker {pid}: {files} files, {bytes} bytes")?;
        }
        let bytes: u64 = self.workers.values().map(|(_, bytes)| bytes).sum();
        let words: u64 = self.words.values().sum();
        let seconds = began.elapsed().as_secs_f64();
        let (files, missing, workers) = (self.files(), self.missing.len(), self.workers.len());
        write!(out, "\n{files} files ({missing} not counted), {bytes} bytes, {words} words, ")?;
        writeln!(out, "{workers} workers, {seconds:.3} s, {:.1} MB/s", bytes as f64 / 1e6 / seconds)
    }
}

/// Counts in the pool what is under `options.dir`.
fn count(options: &Options) -> Result<Totals, Error> {
    let pool = match options.processes {
        Some(processes) => Pool::new(processes)?,
        None => Pool::builder().start()?,
    };
    let mut totals = Totals::default();
    totals.workers.extend(pool.worker_pids().into_iter().map(|pid| (pid, (0, 0))));

    // The pool asks for files as it goes, so of a large folder only those on their way are in memory.
    let on_their_way = RefCell::new(HashMap::new());
    let unreadable = RefCell::new(Vec::new());
    let files = WalkDir::new(&options.dir).into_iter().filter_map(|entry| match entry {
        Ok(entry) => entry.file_type().is_file().then(|| entry.into_path()),
        Err(error) => {
            let path = error.path().unwrap_or(&options.dir).to_owned();
            unreadable.borrow_mut().push((path, error.to_string()));
            None
        }
    });
    let tasks = (0..).zip(files).map(|(index, path)| {
        let name = path.clone().into_os_string();
        on_their_way.borrow_mut().insert(index, path);
        (index, name)
    });

    let call = pool.options().progress("files").retries(options.retries);
    for report in call.imap_unordered(count_file, tasks)? {
        let (index, counts) = match report {
            Ok(Report { index, pid, counts }) => (index, counts.map(|counts| totals.add(pid, &counts))),
            Err(error) => match error.index() {
                Some(index) => (index, Err(reason(&error))),
                // Not the fault of one file: the pool itself cannot go on.
                None => return Err(error),
            },
        };
        let path = on_their_way.borrow_mut().remove(&index).unwrap_or_default();
        totals.missing.extend(counts.err().map(|reason| (path, reason)));
    }
    totals.missing.append(&mut unreadable.borrow_mut());
    totals.missing.sort_unstable();
    pool.close();
    pool.join()?;
    Ok(totals)
}

fn reason(error: &Error) -> String {
    match (error.kind(), error.pid()) {
        (ErrorKind::WorkerLost { status }, Some(pid)) => format!("lost with worker {pid}, which {status}"),
        (kind, _) => kind.to_string(),
    }
}

struct Options {
    dir: PathBuf,
    /// As many as there are processors, unless given.
    processes: Option<usize>,
    top: usize,
    retries: u32,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let mut options = Self { dir: PathBuf::new(), processes: None, top: 10, retries: 0 };
        let mut dirs = Vec::new();
        while let Some(argument) = arguments.next() {
            let mut number = || arguments.next()?.to_str()?.parse::<u32>().ok();
            match argument.to_str() {
                Some("--processes") => options.processes = Some(number().filter(|&n| n > 0)? as usize),
                Some("--top") => options.top = number()? as usize,
                Some("--retries") => options.retries = number()?,
                Some(unknown) if unknown.starts_with('-') => return None,
                _ => dirs.push(argument),
            }
        }
        options.dir = dirs.pop().filter(|_| dirs.is_empty())?.into();
        Some(options)
    }
}

/// Counts and prints; says whether anything could be read.
fn run(options: &Options) -> Result<bool, Box<dyn std::error::Error>> {
    let began = Instant::now();
    let totals = count(options)?;
    for (path, reason) in &totals.missing {
        eprintln!("not counted: {}: {reason}", path.display());
    }
    totals.print(options, began)?;
    Ok(totals.files() > 0)
}

fn main() -> ExitCode {
    let Some(options) = Options::parse(std::env::args_os().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if !options.dir.is_dir() {
        eprintln!("wordcount: {} is no folder", options.dir.display());
        return ExitCode::from(2);
    }
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("wordcount: {error}");
            ExitCode::FAILURE
        }
    }
}
