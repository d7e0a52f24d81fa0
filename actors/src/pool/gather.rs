//! Items out: results of many chunks, decoded on the caller's thread, in order or as they come.

use super::Pool;
use super::chunk::Chunker;
use super::frame::payloads;
use super::job::{Answer, Arrived, Batch, Job, Place};
use super::verbs::{CallOptions, results_of};
use crate::{Error, Result};
use procession_ipc::codec::Wire;
use procession_ipc::start::item_task;
use procession_ipc::start::target::TaskArg;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a caller that shows progress looks at it.
const TICK: Duration = Duration::from_millis(100);

/// Chunks that an `imap` hands out ahead of what its caller has taken, for each worker.
const AHEAD_PER_WORKER: u64 = 128;

/// Says that nobody waits for a job, when its caller leaves.
#[derive(Debug)]
struct Claim(Arc<Job>);

impl Drop for Claim {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Some chunks that have arrived and follow each other.
#[derive(Debug)]
struct Run {
    batch: Arc<Batch>,
    at: usize,
}

impl Run {
    fn arrived(&self) -> &Arrived {
        &self.batch.arrived[self.at]
    }

    /// The replies to its chunks, each with the place of the chunk, or the reason why there are none.
    fn replies(&self) -> Result<impl Iterator<Item = (Place, &[u8])>, &Error> {
        let arrived = self.arrived();
        match &arrived.what {
            Answer::Failed(error) => Err(error),
            Answer::Replies(range) => {
                let places = (0..).map(|n| arrived.place.nth(n));
                Ok(places.zip(payloads(&self.batch.bytes[range.clone()])))
            }
        }
    }
}

/// Brings chunks into the order of their input.
///
/// What one worker sends together mostly follows each other, so runs are sorted, not chunks.
#[derive(Debug, Default)]
struct Order {
    /// Ordinal of the chunk that is next.
    next: u64,
    /// Runs by the ordinal of their first chunk.
    held: BTreeMap<u64, Run>,
    /// How many chunks are in them.
    waiting: u64,
}

impl Order {
    fn enter(&mut self, batch: Batch) {
        for run in runs(batch) {
            self.waiting += run.arrived().chunks as u64;
            self.held.insert(run.arrived().place.ordinal, run);
        }
    }

    /// The run that starts with the chunk that is next.
    fn next(&mut self) -> Option<Run> {
        let run = self.held.remove(&self.next)?;
        let chunks = run.arrived().chunks as u64;
        self.next += chunks;
        self.waiting -= chunks;
        Some(run)
    }
}

fn runs(batch: Batch) -> impl Iterator<Item = Run> {
    let batch = Arc::new(batch);
    (0..batch.arrived.len()).map(move |at| Run { batch: Arc::clone(&batch), at })
}

impl Pool {
    /// Calls `f` for each item in the workers and waits for all results, in order.
    ///
    /// `progress` is told now and then how many items are done.
    ///
    /// # Errors
    ///
    /// The error of the first item that has no result, once all are done; an item that cannot travel, at once.
    pub fn map<F, I, M, R>(
        &self,
        f: F,
        items: I,
        options: CallOptions,
        progress: Option<&mut dyn FnMut(u64)>,
    ) -> Result<Vec<R>>
    where
        I: IntoIterator,
        I::Item: TaskArg<M>,
        R: Wire,
        F: for<'a> Fn(<I::Item as procession_ipc::start::target::Arg<M>>::Param<'a>) -> R + Copy + 'static,
    {
        let id = item_task::<F, I::Item, M, R>(f)?;
        let job = Job::new(std::any::type_name::<F>());
        let claim = Claim(Arc::clone(&job));
        let items = items.into_iter();
        let hint = items.size_hint();
        let mut chunker = Chunker::new(job, id, options, hint, self.crew());
        let mut mapping = Mapping::new(Arc::clone(&claim.0), progress);
        // A hint is only a hint: memory for what is real comes with the results.
        mapping.values.reserve(hint.0.min(1 << 24));
        for item in items {
            if chunker.push::<I::Item, M>(&item)? {
                chunker.flush(&self.shared)?;
                mapping.collect();
            }
        }
        chunker.cut();
        chunker.flush(&self.shared)?;
        mapping.finish(chunker.chunks())
    }

    /// Calls `f` for each item in the workers; the results are an iterator, in order, or as they come.
    ///
    /// The input is read as results are taken, with bounded look-ahead, so it may be endless.
    ///
    /// # Errors
    ///
    /// A function outside the main image, or a pool that takes no tasks.
    pub fn imap<F, I, M, R>(
        self: &Arc<Self>,
        f: F,
        items: I,
        options: CallOptions,
        ordered: bool,
    ) -> Result<Imap<I::IntoIter, R>>
    where
        I: IntoIterator,
        I::Item: TaskArg<M>,
        R: Wire,
        F: for<'a> Fn(<I::Item as procession_ipc::start::target::Arg<M>>::Param<'a>) -> R + Copy + 'static,
    {
        let id = item_task::<F, I::Item, M, R>(f)?;
        let job = Job::prompt(std::any::type_name::<F>());
        let chunksize = options.chunksize.or(std::num::NonZero::new(1));
        let options = CallOptions { chunksize, ..options };
        let input = items.into_iter();
        let chunker = Chunker::new(Arc::clone(&job), id, options, input.size_hint(), self.crew());
        let mut imap = Imap {
            pool: Arc::clone(self),
            claim: Claim(job),
            input: Some(input),
            push: Chunker::push::<I::Item, M>,
            chunker,
            ordered: ordered.then(Order::default),
            taken: 0,
            ready: VecDeque::new(),
        };
        // Work starts with the call, as in Python, not with the first `next`.
        imap.feed()?;
        Ok(imap)
    }
}

/// A `map` on its way.
struct Mapping<'a, R> {
    job: Arc<Job>,
    order: Order,
    values: Vec<R>,
    /// Items that are done, those without a value included.
    items: u64,
    error: Option<Error>,
    progress: Option<&'a mut dyn FnMut(u64)>,
}

impl<'a, R: Wire> Mapping<'a, R> {
    fn new(job: Arc<Job>, progress: Option<&'a mut dyn FnMut(u64)>) -> Self {
        Self { job, order: Order::default(), values: Vec::new(), items: 0, error: None, progress }
    }

    /// Decodes what has arrived.
    fn collect(&mut self) {
        self.order.enter(self.job.take());
        while let Some(run) = self.order.next() {
            self.open(&run);
        }
        if let Some(progress) = &mut self.progress {
            progress(self.items);
        }
    }

    fn open(&mut self, run: &Run) {
        let (task, pid) = (self.job.task, run.arrived().pid);
        self.items += run.arrived().items();
        let replies = match run.replies() {
            Ok(replies) => replies,
            Err(error) => return self.note(error.clone()),
        };
        for (place, reply) in replies {
            match results_of(task, place, pid, reply, &mut self.values) {
                Ok(others) => others.for_each(|result| match result {
                    Ok(value) => self.values.push(value),
                    Err(error) => self.note(error),
                }),
                Err(error) => self.note(error),
            }
        }
    }

    /// The first error in the order of the input counts.
    fn note(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    fn finish(mut self, chunks: u64) -> Result<Vec<R>> {
        let mut done = self.job.done();
        while done < chunks {
            // Wakes a few times only, to decode while the workers go on.
            let next = done + (chunks - done).div_ceil(4);
            let deadline = self.progress.is_some().then(|| Instant::now() + TICK);
            self.job.wait(next, deadline);
            self.collect();
            done = self.job.done();
        }
        self.collect();
        match self.error {
            None => Ok(self.values),
            Some(error) => Err(error),
        }
    }
}

/// Results of [`Pool::imap`]: an iterator that reads its input as its results are taken.
///
/// Each item gives a value or its own error. Dropping it gives up what has not started.
pub struct Imap<I: Iterator, R> {
    pool: Arc<Pool>,
    claim: Claim,
    /// `None` once the input has ended.
    input: Option<I>,
    push: fn(&mut Chunker, &I::Item) -> Result<bool>,
    chunker: Chunker,
    /// `None`: results as they come.
    ordered: Option<Order>,
    /// How many chunks were opened: their results are in `ready`, or were given out.
    taken: u64,
    /// Results that are ready to be given out.
    ready: VecDeque<Result<R>>,
}

impl<I: Iterator, R> fmt::Debug for Imap<I, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap")
            .field("task", &self.claim.0.task)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

impl<I: Iterator, R: Wire> Imap<I, R> {
    /// The next result; waits for it at most for `timeout`. `None` at the end.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], after which one may ask again; else why the item has no result.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<R>> {
        match self.next_until(Instant::now().checked_add(timeout)) {
            Some(Some(result)) => result.map(Some),
            Some(None) => Ok(None),
            None => Err(Error::TimedOut { what: "the next result of a task", after: timeout }),
        }
    }

    /// `None` when the deadline came first; else what the iterator gives.
    fn next_until(&mut self, deadline: Option<Instant>) -> Option<Option<Result<R>>> {
        loop {
            if let Some(result) = self.ready.pop_front() {
                return Some(Some(result));
            }
            if self.feed().is_err() {
                // The pool takes no more tasks: the input ends here. What was handed out still comes, and the items that
                // the pool refused have the reason as their outcome.
                self.input = None;
            }
            if self.taken == self.chunker.chunks() {
                return Some(None);
            }
            if let Err(error) = self.claim.0.check_here() {
                // Nothing more comes: the end follows this error.
                (self.taken, self.input) = (self.chunker.chunks(), None);
                return Some(Some(Err(error)));
            }
            let waiting = self.ordered.as_ref().map_or(0, |order| order.waiting);
            let came = self.taken + waiting + 1;
            if !self.claim.0.wait(came, deadline) {
                return None;
            }
            self.look();
        }
    }

    fn look(&mut self) {
        let batch = self.claim.0.take();
        match &mut self.ordered {
            Some(order) => {
                order.enter(batch);
                let runs: Vec<Run> = std::iter::from_fn(|| order.next()).collect();
                runs.iter().for_each(|run| self.open(run));
            }
            None => runs(batch).for_each(|run| self.open(&run)),
        }
    }

    /// Hands out items until enough are ahead of what was taken.
    fn feed(&mut self) -> Result<()> {
        let ahead = AHEAD_PER_WORKER * self.pool.processes as u64;
        while self.chunker.chunks() < self.taken + ahead {
            let Some(item) = self.input.as_mut().and_then(Iterator::next) else {
                self.input = None;
                break;
            };
            match (self.push)(&mut self.chunker, &item) {
                Ok(false) => {}
                Ok(true) => self.chunker.flush(&self.pool.shared)?,
                Err(error) => {
                    let place = self.chunker.skip();
                    self.claim.0.fail(place, 1, 0, error);
                }
            }
        }
        if self.input.is_none() {
            self.chunker.cut();
        }
        self.chunker.flush(&self.pool.shared)
    }

    fn open(&mut self, run: &Run) {
        let (task, pid) = (self.claim.0.task, run.arrived().pid);
        self.taken += run.arrived().chunks as u64;
        let each =
            |error: &Error, items: u64| (0..items).map(|item| Err(error.shifted(item))).collect::<Vec<_>>();
        let replies = match run.replies() {
            Ok(replies) => replies,
            Err(error) => return self.ready.extend(each(error, run.arrived().items())),
        };
        for (place, reply) in replies {
            let mut values = Vec::new();
            match results_of(task, place, pid, reply, &mut values) {
                Ok(others) => self.ready.extend(values.into_iter().map(Ok).chain(others)),
                Err(error) => self.ready.extend(each(&error, u64::from(place.items))),
            }
        }
    }
}

impl<I: Iterator, R: Wire> Iterator for Imap<I, R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        self.next_until(None).flatten()
    }
}
