//! The verbs of a pool: single calls.

use super::Pool;
use super::dispatch::Patience;
use super::frame::{begin_task, finish_task, payloads};
use super::job::{Answer, Bundle, Job, Place};
use super::lane::Condition;
use crate::{Error, Result};
use procession_ipc::codec::Wire;
use procession_ipc::start::target::TaskTarget;
use procession_ipc::start::{read_reply, tuple_task};
use procession_ipc::travel;
use std::marker::PhantomData;
use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a task is, in errors.
pub(super) const ARGUMENT: &str = "an argument of a task";

const ONLY: Place = Place { ordinal: 0, first: 0, items: 1 };

/// How tasks are handed out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallOptions {
    /// Items in one chunk; `None` chooses.
    pub chunksize: Option<NonZero<u32>>,
    /// How often a task is given to another worker after one that died with it. 0: at most once.
    pub retries: u32,
}

impl Pool {
    /// Calls `f(args)` in a worker and waits for the result.
    ///
    /// # Errors
    ///
    /// Arguments that cannot travel, a pool that takes no tasks, or a task without a result.
    pub fn apply<F, A, M>(&self, f: F, args: &A, options: CallOptions) -> Result<F::Output>
    where
        F: TaskTarget<A, M, Output: Wire>,
    {
        let (job, task) = self.single(f, args, options)?;
        let pending = Pending { job, result: PhantomData };
        match self.shared.lease()? {
            Some(mut lane) => match lane.call(task) {
                Ok(Condition::Open) => self.shared.give_back(lane),
                Ok(Condition::Ended) | Err(_) => {
                    let worker = lane.worker;
                    if self.shared.give_back_wreck(lane) {
                        let _ = self.actor.cast(super::Note::StreamEnded(worker));
                    }
                }
            },
            None => self.shared.submit(task, Patience::None)?,
        }
        pending.get()
    }

    /// Calls `f(args)` in a worker; the result is waited for later.
    ///
    /// # Errors
    ///
    /// Arguments that cannot travel, or a pool that takes no tasks.
    pub fn apply_async<F, A, M>(&self, f: F, args: &A, options: CallOptions) -> Result<Pending<F::Output>>
    where
        F: TaskTarget<A, M, Output: Wire>,
    {
        let (job, task) = self.single(f, args, options)?;
        self.shared.submit(task, Patience::None)?;
        Ok(Pending { job, result: PhantomData })
    }

    fn single<F, A, M>(&self, f: F, args: &A, options: CallOptions) -> Result<(Arc<Job>, Bundle)>
    where
        F: TaskTarget<A, M, Output: Wire>,
    {
        let id = tuple_task(f)?;
        let mut frames = Vec::with_capacity(64);
        let at = begin_task(&mut frames);
        let ((), kept) = travel::often(|| F::append(args, &mut frames))?;
        self.border.check(ARGUMENT, !kept.is_empty())?;
        finish_task(&mut frames, at, 1);
        let job = Job::new(std::any::type_name::<F>());
        let task = Bundle::new((Arc::clone(&job), id), options.retries, ONLY, 1, (frames, kept));
        Ok((job, task))
    }
}

/// The result of a single call, on its way.
#[derive(Debug)]
pub struct Pending<R> {
    job: Arc<Job>,
    result: PhantomData<fn() -> R>,
}

impl<R: Wire> Pending<R> {
    /// Waits for the result and takes it.
    ///
    /// # Errors
    ///
    /// Why there is no result; [`Error::ResultTaken`] the second time.
    pub fn get(&self) -> Result<R> {
        self.job.check_here()?;
        self.job.wait(1, None);
        self.take()
    }

    /// Waits for the result at most for `timeout`, and takes it.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], after which one may ask again; else as [`get`](Self::get).
    pub fn get_timeout(&self, timeout: Duration) -> Result<R> {
        self.job.check_here()?;
        if self.wait_timeout(timeout) {
            self.take()
        } else {
            Err(Error::TimedOut { what: "the result of a task", after: timeout })
        }
    }

    /// Waits until there is a result, or the reason why there is none. In a copy of this process there never is.
    pub fn wait(&self) {
        if self.job.check_here().is_ok() {
            self.job.wait(1, None);
        }
    }

    /// Waits like [`wait`](Self::wait), at most for `timeout`; `false` when that was not enough.
    #[must_use]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        // A timeout beyond the end of time is none.
        self.job.check_here().is_ok() && self.job.wait(1, Instant::now().checked_add(timeout))
    }

    /// Whether there is a result, or the reason why there is none.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.job.check_here().is_ok() && self.job.done() > 0
    }

    fn take(&self) -> Result<R> {
        let mut batch = self.job.take();
        let arrived = batch.arrived.pop().ok_or(Error::ResultTaken)?;
        let frames = match arrived.what {
            Answer::Failed(error) => return Err(*error),
            Answer::Replies(range) => &batch.bytes[range],
        };
        let reply = payloads(frames).next().ok_or(Error::ResultTaken)?;
        let mut values = Vec::new();
        let mut others = results_of(self.job.task, ONLY, arrived.pid, reply, &mut values)?;
        values.pop().map(Ok).or_else(|| others.next()).ok_or(Error::ResultTaken)?
    }
}

/// Decodes the reply to a chunk: appends the results before the first failure to `values`, and returns what comes from it on.
pub(super) fn results_of<R: Wire>(
    task: &'static str,
    place: Place,
    pid: i32,
    reply: &[u8],
    values: &mut Vec<R>,
) -> Result<impl Iterator<Item = Result<R>> + use<R>> {
    let others = read_reply(reply, place.items as usize, values).map_err(|source| Error::BadReply {
        task,
        index: place.first,
        pid,
        source: Arc::new(source),
    })?;
    let first = place.first + u64::from(place.items) - others.len() as u64;
    Ok((first..)
        .zip(others)
        .map(move |(index, result)| result.map_err(|failure| Error::Task { task, index, pid, failure })))
}
