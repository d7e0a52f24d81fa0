//! What the tests of processes and pools share: the start methods, ways to die, and a memory that survives deaths.

#![allow(dead_code, reason = "each capability uses its part")]

use std::{env, fs, path::PathBuf, process::abort, thread};

use nix::sys::{
    resource::{Resource, setrlimit},
    signal::{Signal, raise},
};
use procession::{Context, Process, StartMethod, Target, Wire};
use serde::{Deserialize, Serialize};

/// Every test of starting goes over all of them.
pub const METHODS: [StartMethod; 3] = [StartMethod::Spawn, StartMethod::ForkServer, StartMethod::Fork];

/// A context for each start method. The thread that waits for the test's end holds nothing that a fork's copy needs.
pub fn contexts() -> [Context; 3] {
    METHODS.map(|method| Context::new(method).allow_threads())
}

/// Starts `f(args)` by the method of `context`.
#[track_caller]
pub fn start<F, A, M>(context: &Context, f: F, args: A) -> Process<F::Output>
where
    F: Target<A, M, Output: Wire>,
{
    Process::builder(f).args(args).context(context).start().unwrap()
}

/// Starts `f(args)` and waits for what it returns.
#[track_caller]
pub fn run<F, A, M>(context: &Context, f: F, args: A) -> F::Output
where
    F: Target<A, M, Output: Wire>,
{
    start(context, f, args).result().unwrap()
}

/// A way to end other than by returning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Death {
    /// Panics with the text "as it was told".
    Panic,
    /// `exit` with this code.
    Exit(i32),
    /// Raises this signal.
    Signal(i32),
    /// `abort`.
    Abort,
}

impl Death {
    /// SIGKILL, as the out-of-memory killer does it.
    pub const KILL: Self = Self::Signal(9);
    /// SIGSEGV, as a wild pointer does it.
    pub const SEGV: Self = Self::Signal(11);
}

/// Dies; the number is what callers pretend to return.
pub fn die(how: Death) -> u64 {
    // Core dumps of deaths that were asked for are of no use to anybody.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).unwrap();
    match how {
        Death::Panic => panic!("as it was told"),
        Death::Exit(code) => leave(code),
        // The first SIGSEGV that no access caused is taken by the standard library's handler, where there is one.
        Death::Signal(number) => while raise(Signal::try_from(number).unwrap()).is_ok() {},
        Death::Abort => abort(),
    }
    park_forever();
    0
}

/// `std::process::exit`.
#[expect(clippy::disallowed_methods, reason = "a function that leaves in the middle is what is tested")]
pub fn leave(code: i32) -> ! {
    std::process::exit(code)
}

/// Waits until somebody ends this process.
pub fn park_forever() {
    loop {
        thread::park();
    }
}

/// A folder of its own, in which functions leave marks that outlive their process. Removed when dropped.
#[derive(Debug)]
pub struct Memory(PathBuf);

impl Memory {
    /// An empty one.
    pub fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    /// The folder, as an argument.
    pub fn path(&self) -> String {
        self.0.to_str().unwrap().to_owned()
    }

    /// How many marks were left.
    pub fn marks(&self) -> usize {
        fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether `mark` was not in this memory before; now it is.
pub fn is_first(memory: &str, mark: u64) -> bool {
    fs::OpenOptions::new().write(true).create_new(true).open(format!("{memory}/{mark}")).is_ok()
}

/// Leaves a new mark, whatever is there already; the process id is part of it.
pub fn leave_mark(memory: &str) {
    let own = std::process::id();
    let mut number = 0;
    while fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(format!("{memory}/{own}-{number}"))
        .is_err()
    {
        number += 1;
    }
}
