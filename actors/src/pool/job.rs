//! A job: what one call of a pool's verb waits for. Tasks go out, chunks of results come in.
//!
//! The pool's threads only hand over bytes here; results are decoded on the caller's thread, so no code of the user
//! runs between the workers and their pool.

use crate::{Error, Result};
use procession_ipc::gate::Origin;
use procession_ipc::start::{ReplyForm, TaskId};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Chunks of one job that travel together, so that what they share is counted once.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) job: Arc<Job>,
    pub(super) task: TaskId,
    pub(super) chunks: VecDeque<Chunk>,
}

/// One chunk of work on its way.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) place: Place,
    pub(super) payload: Payload,
    /// How often it may still be given to another worker after one that died with it.
    pub(super) retries: u32,
    /// Whether the worker may hold its reply back; set when it is given to one.
    pub(super) may_hold: bool,
}

impl Bundle {
    /// Another bundle of the same job.
    pub(super) fn with(&self, chunks: VecDeque<Chunk>) -> Self {
        Self { job: Arc::clone(&self.job), task: self.task, chunks }
    }

    /// Takes the first chunks out, at most `count` of them.
    pub(super) fn split_front(&mut self, count: usize) -> Self {
        let rest = self.chunks.split_off(count.min(self.chunks.len()));
        let first = std::mem::replace(&mut self.chunks, rest);
        self.with(first)
    }

    /// Says that none of its chunks has results.
    pub(super) fn fail(&self, pid: i32, error: &Error) {
        self.chunks.iter().for_each(|chunk| self.job.fail(chunk.place, pid, error.clone()));
    }
}

/// Which part of its job a chunk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Number of the chunk, from 0.
    pub(super) ordinal: u64,
    /// Number of its first item in the input.
    pub(super) first: u64,
    /// How many items it has.
    pub(super) items: u32,
}

/// The bytes of a chunk: most single calls fit in place.
#[derive(Debug)]
pub(super) enum Payload {
    /// Up to 30 bytes, so that a chunk fills one cache line.
    Short(u8, [u8; 30]),
    /// More.
    Long(Box<[u8]>),
}

impl Payload {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut short = [0; 30];
        match short.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                Self::Short(bytes.len() as u8, short)
            }
            None => Self::Long(bytes.into()),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(length, bytes) => &bytes[..usize::from(*length)],
            Self::Long(bytes) => bytes,
        }
    }
}

/// A chunk's results, as they came.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) place: Place,
    /// The worker that ran it.
    pub(super) pid: i32,
    pub(super) what: Answer,
}

/// What came for a chunk.
#[derive(Debug)]
pub(super) enum Answer {
    /// A reply: a range of [`Batch::bytes`].
    Reply(ReplyForm, Range<usize>),
    /// It has no results.
    Failed(Box<Error>),
}

/// Chunks that arrived since the last look, and the bytes of their replies.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) chunks: Vec<Arrived>,
    pub(super) bytes: Vec<u8>,
}

impl Batch {
    /// Adds the reply to a chunk.
    pub(super) fn push(&mut self, place: Place, pid: i32, form: ReplyForm, bytes: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.chunks.push(Arrived { place, pid, what: Answer::Reply(form, start..start + bytes.len()) });
    }

    fn append(&mut self, later: Self) {
        if self.chunks.is_empty() {
            *self = later;
            return;
        }
        let shift = self.bytes.len();
        self.bytes.extend_from_slice(&later.bytes);
        self.chunks.extend(later.chunks.into_iter().map(|mut chunk| {
            if let Answer::Reply(_, range) = &mut chunk.what {
                *range = range.start + shift..range.end + shift;
            }
            chunk
        }));
    }
}

/// Where results arrive.
#[derive(Debug)]
pub(super) struct Job {
    /// Name of the function, for errors.
    pub(super) task: &'static str,
    /// Whether workers may hold its replies back, which makes short tasks several times faster: not where each result is
    /// taken as it comes.
    pub(super) may_hold: bool,
    origin: Origin,
    state: Mutex<State>,
    arrived: Condvar,
    /// Nobody waits for the rest: tasks that are still queued need not run.
    cancelled: AtomicBool,
}

#[derive(Debug)]
struct State {
    batch: Batch,
    /// Chunks that have arrived since the start.
    done: u64,
    /// The waiting caller is woken when `done` reaches this; `u64::MAX` while nobody waits.
    wake_at: u64,
}

impl Job {
    /// A job whose replies may be held back.
    pub(super) fn new(task: &'static str) -> Arc<Self> {
        Self::build(task, true)
    }

    /// A job whose results are taken as they come.
    pub(super) fn prompt(task: &'static str) -> Arc<Self> {
        Self::build(task, false)
    }

    fn build(task: &'static str, may_hold: bool) -> Arc<Self> {
        let state = State { batch: Batch::default(), done: 0, wake_at: u64::MAX };
        let cancelled = AtomicBool::new(false);
        let (origin, state, arrived) = (Origin::here(), Mutex::new(state), Condvar::new());
        Arc::new(Self { task, may_hold, origin, state, arrived, cancelled })
    }

    /// Refuses to wait in a copy of the process that made the call: nothing will arrive there.
    pub(super) fn check_here(&self) -> Result<()> {
        Ok(self.origin.check("the result of a pool's task")?)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that a chunk has no results.
    pub(super) fn fail(&self, place: Place, pid: i32, error: Error) {
        let what = Answer::Failed(Box::new(error));
        self.deliver(Batch { chunks: vec![Arrived { place, pid, what }], bytes: Vec::new() });
    }

    /// Hands over what came for some chunks.
    pub(super) fn deliver(&self, batch: Batch) {
        let mut state = self.lock();
        state.done += batch.chunks.len() as u64;
        state.batch.append(batch);
        if state.done >= state.wake_at {
            state.wake_at = u64::MAX;
            self.arrived.notify_one();
        }
    }

    /// Waits until `count` chunks have arrived since the start; `false` when the deadline came first.
    pub(super) fn wait(&self, count: u64, deadline: Option<Instant>) -> bool {
        let mut state = self.lock();
        while state.done < count {
            state.wake_at = count;
            state = match deadline {
                None => self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        state.wake_at = u64::MAX;
                        return false;
                    }
                    self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        state.wake_at = u64::MAX;
        true
    }

    /// How many chunks have arrived since the start.
    pub(super) fn done(&self) -> u64 {
        self.lock().done
    }

    /// Takes what has arrived.
    pub(super) fn take(&self) -> Batch {
        std::mem::take(&mut self.lock().batch)
    }

    /// Says that nobody waits for the rest.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PLACE: Place = Place { ordinal: 0, first: 0, items: 1 };

    fn reply(ordinal: u64, bytes: &[u8]) -> Batch {
        let mut batch = Batch::default();
        batch.push(Place { ordinal, ..PLACE }, 7, ReplyForm::Mixed, bytes);
        batch
    }

    #[test]
    fn payloads_keep_their_bytes_on_both_sides_of_the_short_limit() {
        for length in [0, 1, 29, 30, 31, 1000] {
            let bytes = vec![3; length];
            assert_eq!(Payload::new(&bytes).bytes(), bytes, "{length}");
        }
    }

    #[test]
    fn a_batch_holds_what_arrived_since_the_last_look() {
        let job = Job::new("f");
        job.deliver(reply(0, b"ab"));
        job.fail(Place { ordinal: 1, ..PLACE }, 7, Error::PoolClosed);
        job.deliver(reply(2, b"cde"));
        assert_eq!(job.done(), 3);
        let batch = job.take();
        assert_eq!(batch.bytes, b"abcde");
        assert!(matches!(&batch.chunks[2].what, Answer::Reply(ReplyForm::Mixed, range) if *range == (2..5)));
        assert!(job.take().chunks.is_empty());
    }

    #[test]
    fn waiting_ends_with_the_count_or_the_deadline() {
        let job = Job::new("f");
        assert!(!job.wait(1, Some(Instant::now() + Duration::from_millis(10))));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| job.wait(2, None));
            job.deliver(reply(0, b""));
            job.deliver(reply(1, b""));
            assert!(waiter.join().unwrap());
        });
    }
}
