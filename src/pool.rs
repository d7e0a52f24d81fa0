//! Pools: worker processes that call functions again and again.

use crate::progress::{Label, Progress};
use crate::{Context, Error, ErrorKind, Result};
use procession_actors::pool as actors;
use procession_ipc::codec::Wire;
use procession_ipc::start::target::{Arg, TaskArg, TaskTarget, assert_target};
use std::fmt;
use std::num::NonZero;
use std::sync::Arc;
use std::time::Duration;

/// A pool of worker processes.
///
/// All workers start with the pool. A worker that ends, whatever ended it, is replaced, and costs only the task in its hands
/// (and, of hundreds of tasks that take microseconds, some neighbours; with [`retries`](PoolCall::retries) nothing); a panic costs only its item and the worker goes on. Workers that
/// keep ending before they can work break the pool: every task then fails with [`ErrorKind::PoolBroken`].
///
/// Dropping the pool terminates it, as in Python.
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
///
/// let pool = Pool::new(2)?;
/// assert_eq!(pool.apply(i64::pow, (3, 4))?, 81);
///
/// let words = vec!["multi".to_owned(), "processing".to_owned()];
/// assert_eq!(pool.map(String::len, &words)?, [5, 10]);
///
/// let squares: Vec<u64> = pool.imap(|x: u64| x * x, 1..)?.take(3).collect::<Result<_, _>>()?;
/// assert_eq!(squares, [1, 4, 9]);
///
/// pool.close();
/// pool.join()?;
/// # Ok::<(), Error>(())
/// ```
pub struct Pool(Arc<actors::Pool>);

impl Pool {
    /// Starts a pool of `processes` workers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Zero`] for no workers; a process, thread or descriptor that is not to be had ([`ErrorKind::Os`]).
    pub fn new(processes: usize) -> Result<Self> {
        Self::builder().processes(processes).start()
    }

    /// Begins to describe a pool.
    pub fn builder() -> PoolBuilder {
        PoolBuilder { options: actors::PoolOptions::default(), failed: None }
    }

    /// Options for the next verb: `pool.options().retries(2).map(f, xs)`.
    pub fn options(&self) -> PoolCall<'_> {
        PoolCall { pool: self, chunksize: None, retries: 0, progress: None }
    }

    /// Calls `f(args)` in a worker and waits for the result.
    ///
    /// # Errors
    ///
    /// Arguments that cannot travel; [`ErrorKind::PoolClosed`]; why the task has no result.
    pub fn apply<F, A, M>(&self, f: F, args: A) -> Result<F::Output>
    where
        F: TaskTarget<A, M, Output: Wire>,
    {
        self.options().apply(f, args)
    }

    /// Calls `f(args)` in a worker; the result is waited for later.
    ///
    /// # Errors
    ///
    /// Arguments that cannot travel; [`ErrorKind::PoolClosed`].
    pub fn apply_async<F, A, M>(&self, f: F, args: A) -> Result<AsyncResult<F::Output>>
    where
        F: TaskTarget<A, M, Output: Wire>,
    {
        self.options().apply_async(f, args)
    }

    /// Calls `f` for each item and waits for all results, in the order of the items.
    ///
    /// # Errors
    ///
    /// The error of the first item without a result, once all items are done, as in Python; an item that cannot travel, at
    /// once; [`ErrorKind::PoolClosed`].
    pub fn map<F, I, M, R>(&self, f: F, items: I) -> Result<Vec<R>>
    where
        I: IntoIterator,
        I::Item: TaskArg<M>,
        R: Wire,
        F: for<'a> Fn(<I::Item as Arg<M>>::Param<'a>) -> R + Copy + 'static,
    {
        self.options().map(f, items)
    }

    /// Calls `f` for each item; the results are an iterator, in the order of the items.
    ///
    /// The input is read while results are taken, so it may be endless. In Python it is read at once, to its end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PoolClosed`]. Each item has its own error.
    pub fn imap<F, I, M, R>(&self, f: F, items: I) -> Result<Imap<I::IntoIter, R>>
    where
        I: IntoIterator,
        I::Item: TaskArg<M>,
        R: Wire,
        F: for<'a> Fn(<I::Item as Arg<M>>::Param<'a>) -> R + Copy + 'static,
    {
        self.options().imap(f, items)
    }

    /// As [`imap`](Self::imap), but the results come as they are done.
    ///
    /// # Errors
    ///
    /// As [`imap`](Self::imap); an item's error knows its [`index`](Error::index).
    pub fn imap_unordered<F, I, M, R>(&self, f: F, items: I) -> Result<Imap<I::IntoIter, R>>
    where
        I: IntoIterator,
        I::Item: TaskArg<M>,
        R: Wire,
        F: for<'a> Fn(<I::Item as Arg<M>>::Param<'a>) -> R + Copy + 'static,
    {
        self.options().imap_unordered(f, items)
    }

    /// Number of workers.
    #[must_use]
    pub fn processes(&self) -> usize {
        self.0.processes()
    }

    /// Process ids of the workers that are alive now, in no order.
    #[must_use]
    pub fn worker_pids(&self) -> Vec<u32> {
        self.0.worker_pids().into_iter().map(i32::unsigned_abs).collect()
    }

    /// Takes no more tasks. The workers end when all tasks that were taken are done.
    pub fn close(&self) {
        self.0.close();
    }

    /// Ends the workers at once (SIGTERM, and SIGKILL 5 s later).
    ///
    /// Every task without a result fails with [`ErrorKind::PoolTerminated`]; in Python it would wait for ever.
    pub fn terminate(&self) {
        self.0.terminate();
    }

    /// Waits until every worker has ended.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PoolRunning`] before [`close`](Self::close) or [`terminate`](Self::terminate).
    pub fn join(&self) -> Result<()> {
        Ok(self.0.join()?)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("processes", &self.processes()).finish_non_exhaustive()
    }
}

/// Describes a pool before it starts.
#[derive(Debug)]
#[must_use = "a pool starts with `start`"]
pub struct PoolBuilder {
    options: actors::PoolOptions,
    /// Arguments of the initializer that cannot travel: told by `start`.
    failed: Option<Error>,
}

impl PoolBuilder {
    /// Number of workers. Default: the processors that this process may use.
    pub fn processes(mut self, processes: usize) -> Self {
        self.options.processes = Some(processes);
        self
    }

    /// The start method of the workers. Default: the default method.
    pub fn context(mut self, context: &Context) -> Self {
        self.options.method = Some(context.start_method());
        self.options.allow_threads = context.allows_threads();
        self
    }

    /// Has each worker, replacements included, call `f(args)` before its first task.
    ///
    /// One that panics ends its worker; if that goes on, the pool breaks. In Python it is restarted for ever.
    pub fn initializer<F, A, M>(mut self, f: F, args: A) -> Self
    where
        F: TaskTarget<A, M, Output = ()>,
    {
        const { assert_target::<F>() };
        if let Err(error) = self.options.set_initializer(f, &args) {
            self.failed = Some(error.into());
        }
        self
    }

    /// Gives the workers memory of their own, for code that nobody trusts not to write wildly: a C library, say.
    ///
    /// The workers, replacements included, and what they start share locks and queues with each other, and nothing that they write
    /// reaches those of this process and the rest of its family. What one of them spoils is spoiled for the others, replacements too,
    /// unless they use no locks and queues. Tasks, their results and arguments of the initializer are plain values:
    /// a lock or a queue in one is [`ErrorKind::Isolated`], for a result [`ErrorKind::BadResult`]. A [`Connection`](crate::Connection) can go
    /// to the initializer only; over that one, others can follow.
    ///
    /// The start method cannot be `fork`, which copies all memory. This keeps faults in, and not malice: a worker runs as the same
    /// user, so code that means harm can trace or kill other processes.
    ///
    /// # Examples
    ///
    /// ```
    /// use procession::prelude::*;
    ///
    /// let pool = Pool::builder().processes(2).isolated().start()?;
    /// assert_eq!(pool.map(|x: u64| x * x, [3, 4])?, [9, 16]);
    ///
    /// let error = pool.apply(|lock: Lock| drop(lock), (Lock::new()?,)).unwrap_err();
    /// assert!(matches!(error.kind(), ErrorKind::Isolated { .. }));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn isolated(mut self) -> Self {
        self.options.isolated = true;
        self
    }

    /// Starts the workers. If one cannot be started, those before it are ended.
    ///
    /// # Errors
    ///
    /// As [`Pool::new`]; arguments of the initializer that cannot travel; [`ErrorKind::NotSupported`] for an
    /// [isolated](Self::isolated) pool by `fork`.
    pub fn start(self) -> Result<Pool> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(Pool(Arc::new(actors::Pool::new(self.options)?))),
        }
    }
}

/// A pool's verbs with options.
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
///
/// let pool = Pool::new(2)?;
/// let sum: u64 = pool.options().chunksize(10).retries(1).map(|x: u64| x + 1, 0..100)?.iter().sum();
/// assert_eq!(sum, 5050);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "options are for a verb: `pool.options().retries(1).map(f, xs)`"]
pub struct PoolCall<'p> {
    pool: &'p Pool,
    chunksize: Option<usize>,
    retries: u32,
    progress: Option<Label>,
}

impl PoolCall<'_> {
    /// Items that are sent to a worker together. Default: 1 for `imap`; for `map` as Python chooses, a quarter of a
    /// worker's share, but not more than 128 KiB.
    pub fn chunksize(mut self, items: usize) -> Self {
        self.chunksize = Some(items);
        self
    }

    /// How often a task is given to another worker after one that died with it. Default: 0, a task runs at most once.
    ///
    /// With retries, a task runs at least once: it may have run in part before.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Shows a progress bar with this label, on standard error if that is a terminal.
    pub fn progress(mut self, label: impl Into<String>) -> Self {
        self.progress = Some(Label::new(label.into()));
        self
    }

    /// See [`Pool::apply`].
    ///
    /// # Errors
    ///
    /// As [`Pool::apply`].
    pub fn apply<F, A, M>(self, f: F, args: A) -> Result<F::Output>
    where
        F: TaskTarget<A, M, Output: Wire>,
    {
        const { assert_target::<F>() };
        let options = self.call_options()?;
        Ok(self.pool.0.apply(f, &args, options)?)
    }

    /// See [`Pool::apply_async`].
    ///
    /// # Errors
    ///
    /// As [`Pool::apply_async`].
    pub fn apply_async<F, A, M>(self, f: F, args: A) -> Result<AsyncResult<F::Output>>
    where
        F: TaskTarget<A, M, Output: Wire>,
    {
        const { assert_target::<F>() };
        let options = self.call_options()?;
        Ok(AsyncResult(self.pool.0.apply_async(f, &args, options)?))
    }

    /// See [`Pool::map`].
    ///
    /// # Errors
    ///
    /// As [`Pool::map`]; [`ErrorKind::Zero`] for a chunk size of 0.
    pub fn map<F, I, M, R>(self, f: F, items: I) -> Result<Vec<R>>
    where
        I: IntoIterator,
        I::Item: TaskArg<M>,
        R: Wire,
        F: for<'a> Fn(<I::Item as Arg<M>>::Param<'a>) -> R + Copy + 'static,
    {
        const { assert_target::<F>() };
        let options = self.call_options()?;
        let items = items.into_iter();
        let Some(bar) = self.bar(items.size_hint()) else {
            return Ok(self.pool.0.map(f, items, options, None)?);
        };
        Ok(self.pool.0.map(f, items, options, Some(&mut |done| bar.set(done)))?)
    }

    /// See [`Pool::imap`].
    ///
    /// # Errors
    ///
    /// As [`Pool::imap`]; [`ErrorKind::Zero`] for a chunk size of 0.
    pub fn imap<F, I, M, R>(self, f: F, items: I) -> Result<Imap<I::IntoIter, R>>
    where
        I: IntoIterator,
        I::Item: TaskArg<M>,
        R: Wire,
        F: for<'a> Fn(<I::Item as Arg<M>>::Param<'a>) -> R + Copy + 'static,
    {
        const { assert_target::<F>() };
        self.lazily(f, items, true)
    }

    /// See [`Pool::imap_unordered`].
    ///
    /// # Errors
    ///
    /// As [`Pool::imap_unordered`]; [`ErrorKind::Zero`] for a chunk size of 0.
    pub fn imap_unordered<F, I, M, R>(self, f: F, items: I) -> Result<Imap<I::IntoIter, R>>
    where
        I: IntoIterator,
        I::Item: TaskArg<M>,
        R: Wire,
        F: for<'a> Fn(<I::Item as Arg<M>>::Param<'a>) -> R + Copy + 'static,
    {
        const { assert_target::<F>() };
        self.lazily(f, items, false)
    }

    fn lazily<F, I, M, R>(self, f: F, items: I, ordered: bool) -> Result<Imap<I::IntoIter, R>>
    where
        I: IntoIterator,
        I::Item: TaskArg<M>,
        R: Wire,
        F: for<'a> Fn(<I::Item as Arg<M>>::Param<'a>) -> R + Copy + 'static,
    {
        let options = self.call_options()?;
        let items = items.into_iter();
        let bar = self.bar(items.size_hint());
        Ok(Imap { results: self.pool.0.imap(f, items, options, ordered)?, bar })
    }

    fn call_options(&self) -> Result<actors::CallOptions> {
        let chunksize = match self.chunksize {
            Some(0) => return Err(Error::new(ErrorKind::Zero { what: "chunksize" })),
            Some(items) => NonZero::new(u32::try_from(items).unwrap_or(u32::MAX)),
            None => None,
        };
        Ok(actors::CallOptions { chunksize, retries: self.retries })
    }

    fn bar(&self, hint: (usize, Option<usize>)) -> Option<Progress> {
        let total = hint.1.filter(|&high| high == hint.0).map(|total| total as u64);
        self.progress.as_ref().map(|label| label.draw(total))
    }
}

/// The result of [`Pool::apply_async`], on its way.
///
/// Dropping it does not stop the task.
#[derive(Debug)]
pub struct AsyncResult<R>(actors::Pending<R>);

impl<R: Wire> AsyncResult<R> {
    /// Waits for the result and takes it.
    ///
    /// # Errors
    ///
    /// Why there is no result; [`ErrorKind::ResultTaken`] the second time.
    pub fn get(&self) -> Result<R> {
        Ok(self.0.get()?)
    }

    /// Waits for the result, at most for `timeout`, and takes it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`], after which one may ask again; else as [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<R> {
        Ok(self.0.get_timeout(timeout)?)
    }

    /// Waits until the task is done.
    pub fn wait(&self) {
        self.0.wait();
    }

    /// Waits until the task is done, at most for `timeout`; says whether it is.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.0.wait_timeout(timeout)
    }

    /// Whether the task is done, with or without a result.
    #[doc(alias = "ready")]
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.is_ready()
    }
}

/// Results of [`Pool::imap`] and [`Pool::imap_unordered`]: an iterator of each item's result.
///
/// It keeps the pool alive. Dropping it gives up the items that have not started.
#[must_use = "results come as they are taken"]
pub struct Imap<I: Iterator, R> {
    results: actors::Imap<I, R>,
    bar: Option<Progress>,
}

impl<I: Iterator, R> fmt::Debug for Imap<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.results.fmt(f)
    }
}

impl<I: Iterator, R: Wire> Imap<I, R> {
    /// The next result; waits for it at most for `timeout`. `None` at the end.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TimedOut`], after which one may ask again; else why the item has no result.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<R>> {
        let result = self.results.next_timeout(timeout).map_err(Error::from);
        if !matches!(&result, Ok(None))
            && !matches!(&result, Err(e) if matches!(e.kind(), ErrorKind::TimedOut { .. }))
        {
            self.step();
        }
        result
    }

    fn step(&self) {
        if let Some(bar) = &self.bar {
            bar.step();
        }
    }
}

impl<I: Iterator, R: Wire> Iterator for Imap<I, R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        let result = self.results.next()?;
        self.step();
        Some(result.map_err(Error::from))
    }
}
