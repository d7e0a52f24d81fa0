//! Processes: one function each.

mod fork;

pub use fork::ForkBuilder;

use crate::repr::{Repr, State};
use crate::{Context, Error, ErrorKind, Result};
use procession_actors::process::{self, Options, Unwatched};
use procession_ipc::child::{Child, ExitStatus};
use procession_ipc::codec::Wire;
use procession_ipc::start::target::{Target, assert_target};
use procession_ipc::start::{Reply, Started};
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SIGINT: i32 = 2;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// A function that runs in a process of its own.
///
/// The handle may be dropped: the process goes on, and is reaped when it ends. When this program ends by returning from
/// `main` or by `exit`, daemons are terminated and all other processes are joined, as in Python.
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
///
/// fn greet(name: &str) -> String {
///     format!("hello {name}")
/// }
///
/// let process = Process::spawn(greet, ("bob",))?;
/// assert_eq!(process.result()?, "hello bob");
/// # Ok::<(), Error>(())
/// ```
///
/// A closure that captures is refused when the program is built; hand the values over as arguments:
///
/// ```compile_fail
/// use procession::prelude::*;
///
/// let factor = 3;
/// let process = Process::spawn(move |x: u64| x * factor, (2,));
/// ```
pub struct Process<R = ()> {
    child: Arc<Child>,
    /// Where its result arrives, and the name of its function, if this handle started it.
    reply: Option<(Reply, &'static str)>,
    taken: AtomicBool,
    closed: AtomicBool,
    /// As long as this handle is there, nobody else looks after the process.
    _unwatched: Option<Unwatched>,
    result: PhantomData<fn() -> R>,
}

/// In place of a result's type: this handle cannot take the result, since it did not start the process.
#[derive(Debug, Clone, Copy)]
pub enum NoResult {}

impl<R> Process<R> {
    /// Runs `f(args)` in a new process, with the default start method.
    ///
    /// `args` is a tuple that fits the parameters of `f`. A parameter `&str` or `&T` is lent from a value that the other
    /// process decodes; nothing is cloned here. A type without data that is `Copy` also counts as capturing nothing: do
    /// not use one to prove something about *this* process.
    ///
    /// # Errors
    ///
    /// Arguments that cannot travel ([`ErrorKind::Codec`], [`ErrorKind::NotRoundTrip`]); no process or descriptor left
    /// ([`ErrorKind::Os`]); called from inside a shared library ([`ErrorKind::NotInMainImage`]).
    pub fn spawn<F, A, M>(f: F, args: A) -> Result<Self>
    where
        F: Target<A, M, Output = R>,
        R: Wire,
    {
        const { assert_target::<F>() };
        start(f, &args, &Options::default())
    }

    /// Process id. It is not given to another process before this one has ended and was joined, by whoever.
    #[doc(alias = "ident")]
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.pid().unsigned_abs()
    }

    /// Its name: the one given, or one formed from its place in the family, such as `Process-1:2`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.child.name()
    }

    /// Whether it is terminated when this process ends.
    #[doc(alias = "daemon")]
    #[must_use]
    pub fn is_daemon(&self) -> bool {
        self.child.is_daemon()
    }

    /// Waits until the process has ended.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`]; [`ErrorKind::ForeignChild`] in a process that did not start it; the operating system's
    /// ([`ErrorKind::Os`]). How the process ended is no error here.
    pub fn join(&self) -> Result<()> {
        self.opened()?.wait(None)?;
        Ok(())
    }

    /// Waits until the process has ended, at most for `timeout`; says whether it has.
    ///
    /// Python returns nothing and has one look at `exitcode`.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<bool> {
        // A timeout beyond the end of time is none.
        Ok(self.opened()?.wait(Instant::now().checked_add(timeout))?.is_some())
    }

    /// How it ended: its code, or the negative number of the signal that ended it. `None` while it runs, when somebody
    /// else took its status, and in a process that did not start it.
    #[must_use]
    pub fn exitcode(&self) -> Option<i32> {
        self.status().and_then(ExitStatus::code)
    }

    /// How it ended, in full. `None` while it runs, and in a process that did not start it.
    #[must_use]
    pub fn status(&self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.child.is_alive()
    }

    /// A descriptor that becomes readable when the process has ended: for `poll`, `epoll` and the like.
    #[must_use]
    pub fn sentinel(&self) -> BorrowedFd<'_> {
        self.child.sentinel()
    }

    /// Asks it to end (SIGTERM). Its destructors do not run; its own children live on. One that has ended is left alone.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`]; [`ErrorKind::ForeignChild`] in a process that did not start it; no right to signal it
    /// ([`ErrorKind::Os`]).
    pub fn terminate(&self) -> Result<()> {
        Ok(self.opened()?.signal(SIGTERM)?)
    }

    /// Ends it (SIGKILL). One that has ended is left alone.
    ///
    /// # Errors
    ///
    /// As [`terminate`](Self::terminate).
    pub fn kill(&self) -> Result<()> {
        Ok(self.opened()?.signal(SIGKILL)?)
    }

    /// Interrupts it (SIGINT), as Ctrl-C does. It ends unless it handles the signal. One that has ended is left alone.
    ///
    /// In Python the function sees a `KeyboardInterrupt`, and the exit code is 1; here it is -2.
    ///
    /// # Errors
    ///
    /// As [`terminate`](Self::terminate).
    pub fn interrupt(&self) -> Result<()> {
        Ok(self.opened()?.signal(SIGINT)?)
    }

    /// Gives its result up, if that was not taken, and closes this handle for all but questions. Again is fine.
    ///
    /// Name, pid and status can still be asked for. The sentinel stays until the handle is dropped, since somebody may
    /// be waiting for it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::StillRunning`]; [`ErrorKind::ForeignChild`] in a process that did not start it.
    pub fn close(&self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            return Err(self.error(ErrorKind::StillRunning));
        }
        self.closed.store(true, Ordering::Relaxed);
        if let Some((reply, _)) = &self.reply {
            reply.close();
        }
        Ok(())
    }

    /// Waits until the process has ended, and takes what the function returned. Python has no such thing.
    ///
    /// # Errors
    ///
    /// Why there is no result: [`ErrorKind::Panicked`], [`ErrorKind::Exited`], [`ErrorKind::Signaled`],
    /// [`ErrorKind::BadArguments`], [`ErrorKind::BadResult`], each with name, pid and task;
    /// [`ErrorKind::ResultTaken`] the second time; as [`join`](Self::join).
    pub fn result(&self) -> Result<R>
    where
        R: Wire,
    {
        let status = self.opened()?.wait(None)?;
        if self.taken.swap(true, Ordering::Relaxed) {
            return Err(self.error(ErrorKind::ResultTaken));
        }
        match self.reply.as_ref().map(|(reply, _)| reply.take::<R>()).transpose() {
            Ok(Some(Some(Ok(value)))) => Ok(value),
            Ok(Some(Some(Err(failure)))) => Err(self.error(failure.into())),
            Ok(_) => Err(self.error(status.map_or(ErrorKind::ResultTaken, Into::into))),
            Err(error) => Err(self.error(ErrorKind::BadResult { reason: error.to_string() })),
        }
    }

    fn new<F>((started, unwatched): (Started, Option<Unwatched>)) -> Self {
        Self::of(started.child, Some((started.reply, std::any::type_name::<F>())), unwatched)
    }

    fn of(child: Arc<Child>, reply: Option<(Reply, &'static str)>, _unwatched: Option<Unwatched>) -> Self {
        let (taken, closed) = (AtomicBool::new(reply.is_none()), AtomicBool::new(false));
        Self { child, reply, taken, closed, _unwatched, result: PhantomData }
    }

    /// The child, unless the handle is closed.
    fn opened(&self) -> Result<&Child> {
        if self.closed.load(Ordering::Relaxed) { Err(self.error(ErrorKind::Closed)) } else { Ok(&self.child) }
    }

    fn error(&self, kind: ErrorKind) -> Error {
        let task = self.reply.as_ref().map(|(_, task)| *task);
        Error::of_process(kind, self.name(), self.child.pid(), task)
    }

    fn state(&self) -> State {
        match self.child.try_wait() {
            _ if self.closed.load(Ordering::Relaxed) => State::Closed,
            Ok(Some(status)) => State::Stopped(status),
            Ok(None) => State::Started,
            Err(_) => State::Unknown,
        }
    }
}

impl Process<()> {
    /// Begins to describe a process that shall run `f`.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::prelude::*;
    ///
    /// let process = Process::builder(|x: i32, y: i32| x + y).args((1, 2)).name("adder").daemon(true).start()?;
    /// assert_eq!(process.name(), "adder");
    /// assert_eq!(process.result()?, 3);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn builder<F: Copy + 'static>(f: F) -> ProcessBuilder<F, ()> {
        ProcessBuilder { f, args: (), options: Options::default() }
    }

    /// The process that `started` describes, which somebody watches.
    pub(crate) fn of_start(started: &Started, task: &'static str) -> Self {
        Self::of(Arc::clone(&started.child), Some((started.reply.clone(), task)), None)
    }
}

impl Process<NoResult> {
    /// A child that another handle has started.
    pub(crate) fn of_child(child: Arc<Child>) -> Self {
        Self::of(child, None, None)
    }
}

/// The [`sentinel`](Process::sentinel).
impl<R> AsFd for Process<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.sentinel()
    }
}

/// As in Python: `<Process name='Process-2' pid=12 parent=10 stopped exitcode=-SIGTERM>`.
impl<R> fmt::Debug for Process<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, pid) = (Some(self.name()), Some(self.pid()));
        let parent = Some(self.child.creator());
        write!(f, "{}", Repr { name, pid, parent, state: self.state(), is_daemon: self.is_daemon() })
    }
}

/// What the kernel does with a process when the one that started it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Orphan {
    /// It is killed too.
    Kill,
    /// It lives on.
    Keep,
}

/// Describes a process before it starts.
#[derive(Clone)]
#[must_use = "a process starts with `start`"]
pub struct ProcessBuilder<F, A> {
    f: F,
    args: A,
    options: Options,
}

impl<F: Copy + 'static, A> ProcessBuilder<F, A> {
    /// The arguments, a tuple that fits the function. Default: none.
    pub fn args<B, M>(self, args: B) -> ProcessBuilder<F, B>
    where
        F: Target<B, M>,
    {
        ProcessBuilder { f: self.f, args, options: self.options }
    }

    /// The name: any text, for people; need not be unique. Default: formed from the place in the family.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// Whether it is terminated when this process ends. Default: as this process.
    ///
    /// Unlike in Python, a daemon may have children.
    #[allow(clippy::fn_params_excessive_bools, reason = "the name and the type are Python's")]
    pub fn daemon(mut self, daemon: bool) -> Self {
        self.options.daemon = Some(daemon);
        self
    }

    /// What the kernel does with it when this process is killed. Default: a daemon is killed too, any other lives on, as
    /// in Python.
    pub fn orphan(mut self, orphan: Orphan) -> Self {
        self.options.armed = Some(orphan == Orphan::Kill);
        self
    }

    /// The start method. Default: the default method.
    pub fn context(mut self, context: &Context) -> Self {
        self.options.method = Some(context.start_method());
        self.options.allow_threads = context.allows_threads();
        self
    }

    /// Starts the process.
    ///
    /// # Errors
    ///
    /// As [`Process::spawn`]; [`ErrorKind::NotSupported`] for a start method that cannot work here.
    pub fn start<M>(self) -> Result<Process<F::Output>>
    where
        F: Target<A, M, Output: Wire>,
    {
        const { assert_target::<F>() };
        start(self.f, &self.args, &self.options)
    }
}

/// As in Python: `<Process name='greeter' parent=10 initial daemon>`.
impl<F, A> fmt::Debug for ProcessBuilder<F, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Repr::initial(&self.options))
    }
}

fn start<F, A, M>(f: F, args: &A, options: &Options) -> Result<Process<F::Output>>
where
    F: Target<A, M, Output: Wire>,
{
    Ok(Process::new::<F>(process::start(f, args, options)?))
}
