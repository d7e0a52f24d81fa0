//! Start methods, the default among them, and contexts that carry one.

use crate::{Pool, PoolBuilder, Process, ProcessBuilder, Result, Target, Wire};
use procession_ipc::start::target::assert_target;
use procession_ipc::start::{method, preload};
use std::path::Path;

pub use procession_ipc::start::preload::OnPreloadError;
pub use procession_ipc::start::{StartMethod, UnknownStartMethod};

/// A start method for everything that is started with it. Libraries take one instead of choosing for the program.
///
/// Contexts with different methods may be used side by side, and what they start may share everything; in Python some
/// objects of one are no use in another.
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
///
/// let context = Context::new(StartMethod::Spawn);
/// let process = context.spawn(|| 7_u8, ())?;
/// assert_eq!(process.result()?, 7);
/// let pool = context.pool().processes(2).start()?;
/// assert_eq!(pool.map(|x: u8| x * x, [3, 4])?, [9, 16]);
///
/// let context = Context::new("forkserver".parse()?);
/// assert_eq!(context.builder(|| 7_u8).name("seven").start()?.result()?, 7);
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "get_context")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    method: StartMethod,
    allow_threads: bool,
}

impl Context {
    /// A context with this start method.
    #[must_use]
    pub fn new(method: StartMethod) -> Self {
        Self { method, allow_threads: false }
    }

    /// Has [`StartMethod::Fork`] copy the process though other threads run than those of this library.
    ///
    /// Of all threads, the copy has the one that forked. A lock that another thread held at that moment is held for ever
    /// there: an allocator's is taken care of by libc, all others are up to you (standard output, caches, loggers). So
    /// allow this only for threads that hold nothing which the copy needs. Other methods do not care.
    #[must_use]
    pub fn allow_threads(mut self) -> Self {
        self.allow_threads = true;
        self
    }

    pub(crate) fn allows_threads(&self) -> bool {
        self.allow_threads
    }

    /// The context of the default start method, which is decided from now on.
    ///
    /// As Python's `get_context()` without a name.
    #[must_use]
    pub fn current() -> Self {
        Self::new(start_method())
    }

    /// The start method.
    #[doc(alias = "get_start_method")]
    #[must_use]
    pub fn start_method(&self) -> StartMethod {
        self.method
    }

    /// Runs `f(args)` in a new process, as [`Process::spawn`] with this start method.
    ///
    /// # Errors
    ///
    /// As [`Process::spawn`]; [`ErrorKind::NotSupported`](crate::ErrorKind::NotSupported).
    pub fn spawn<F, A, M>(&self, f: F, args: A) -> Result<Process<F::Output>>
    where
        F: Target<A, M, Output: Wire>,
    {
        self.builder(f).args(args).start()
    }

    /// Begins to describe a process, as [`Process::builder`] with this start method.
    pub fn builder<F: Copy + 'static>(&self, f: F) -> ProcessBuilder<F, ()> {
        Process::builder(f).context(self)
    }

    /// Begins to describe a pool, as [`Pool::builder`] with this start method.
    pub fn pool(&self) -> PoolBuilder {
        Pool::builder().context(self)
    }
}

/// Decides on the default start method of this process, once; its children begin with the method that started them.
///
/// For the program itself, in `main`, before anything is started: a library takes a [`Context`].
///
/// # Errors
///
/// [`ErrorKind::MethodDecided`](crate::ErrorKind::MethodDecided) if it is decided already, by this function or because
/// the default was used; [`ErrorKind::NotSupported`](crate::ErrorKind::NotSupported).
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
///
/// set_start_method(StartMethod::Spawn)?;
/// assert_eq!(start_method(), StartMethod::Spawn);
/// let error = set_start_method(StartMethod::ForkServer).unwrap_err();
/// assert_eq!(error.kind(), &ErrorKind::MethodDecided { method: "spawn" });
/// # Ok::<(), Error>(())
/// ```
pub fn set_start_method(method: StartMethod) -> Result<()> {
    Ok(method::set_default(method)?)
}

/// Decides on the default start method of this process, whatever it was; `None` makes it open again.
///
/// Python's `set_start_method(method, force=True)`. What runs already is not touched.
///
/// # Errors
///
/// [`ErrorKind::NotSupported`](crate::ErrorKind::NotSupported).
pub fn force_start_method(method: impl Into<Option<StartMethod>>) -> Result<()> {
    Ok(method::force_default(method.into())?)
}

/// The default start method of this process; from now on it is decided.
#[doc(alias = "get_start_method")]
pub fn start_method() -> StartMethod {
    method::default()
}

/// The default start method of this process, if it is decided: by [`set_start_method`], or by the first use.
///
/// Python's `get_start_method(allow_none=True)`.
#[must_use]
pub fn decided_start_method() -> Option<StartMethod> {
    method::decided()
}

/// The start methods that can work on this system, the default first.
#[doc(alias = "get_all_start_methods")]
#[must_use]
pub fn all_start_methods() -> Vec<StartMethod> {
    method::supported()
}

/// Number of processors of this machine that are online, whether or not this process may use them.
///
/// [`std::thread::available_parallelism`] says how many it may use, which is what a [`Pool`] starts with.
#[must_use]
pub fn cpu_count() -> usize {
    procession_ipc::sys::process::online_processors()
}

/// Does nothing: started processes take over before `main`, so frozen programs need no help.
pub fn freeze_support() {}

/// Names the file that is executed for new processes: a copy of this program, or a link to it.
///
/// By default it is `/proc/self/exe`, the file that this program was started from, whatever became of its name. Another
/// one is of use where /proc is not mounted. In Python it may be another interpreter; here it must be the same build, whose
/// headers are compared now, and again when the file has changed since. Children made by a fork server that runs already
/// are not touched.
///
/// # Errors
///
/// [`ErrorKind::AnotherProgram`](crate::ErrorKind::AnotherProgram); a file that cannot be read
/// ([`ErrorKind::Os`](crate::ErrorKind::Os)).
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
///
/// procession::set_executable(std::env::current_exe().unwrap())?;
/// assert_eq!(Context::new(StartMethod::Spawn).spawn(|| 7_u8, ())?.result()?, 7);
/// assert!(matches!(procession::set_executable("/bin/sh").unwrap_err().kind(), ErrorKind::AnotherProgram { .. }));
/// # Ok::<(), Error>(())
/// ```
pub fn set_executable(path: impl AsRef<Path>) -> Result<()> {
    Ok(procession_ipc::start::set_executable(path.as_ref())?)
}

/// Has the fork server run `f` once, before it makes the first process: what `f` leaves in statics, each process of the
/// server has from its beginning, at no cost. An `f` that fails is told on standard error.
///
/// In Python, names of modules to import. A server that replaces one that was killed runs `f` again. `f` runs with one
/// thread and must leave none behind. It is not for children of this process, which have servers of their own.
///
/// # Errors
///
/// [`ErrorKind::ForkServerRuns`](crate::ErrorKind::ForkServerRuns) once a process was started;
/// [`ErrorKind::NotInMainImage`](crate::ErrorKind::NotInMainImage). The first start is
/// [`ErrorKind::PreloadFailed`](crate::ErrorKind::PreloadFailed) if `f` left threads running, used locks or queues, or
/// ended the server.
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
/// use std::sync::OnceLock;
///
/// static TABLE: OnceLock<Vec<u64>> = OnceLock::new();
///
/// fn load() {
///     TABLE.get_or_init(|| (0..1000).map(|x| x * x).collect());
/// }
///
/// procession::set_forkserver_preload(load)?;
/// let process = Process::spawn(|| TABLE.get().is_some(), ())?;
/// assert!(process.result()?);
/// assert!(TABLE.get().is_none(), "it did not run here");
/// # Ok::<(), Error>(())
/// ```
pub fn set_forkserver_preload<F>(f: F) -> Result<()>
where
    F: Target<(), (), Output: Wire>,
{
    set_forkserver_preload_with(f, OnPreloadError::Warn)
}

/// [`set_forkserver_preload`] that says what an `f` means that panics or returns an `Err`.
///
/// # Errors
///
/// As [`set_forkserver_preload`]; with [`OnPreloadError::Fail`], each start is
/// [`ErrorKind::PreloadFailed`](crate::ErrorKind::PreloadFailed) if `f` failed.
pub fn set_forkserver_preload_with<F>(f: F, on_error: OnPreloadError) -> Result<()>
where
    F: Target<(), (), Output: Wire>,
{
    const { assert_target::<F>() };
    Ok(preload::set(f, on_error)?)
}
