//! A job: what one call of a pool's verb waits for. Tasks go out, results come in.
//!
//! The pool's threads only hand over bytes here; results are decoded on the caller's thread, so no code of the user
//! runs between the workers and their pool.

use super::frame::{Heading, length_of};
use crate::{Error, Result};
use procession_ipc::gate::{self, Origin};
use procession_ipc::start::TaskId;
use procession_ipc::travel::Kept;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Chunks of one job that follow each other and have the same number of items each, as they travel to a worker. Each is a
/// task of its own; what they share is said once.
#[derive(Debug)]
pub(super) struct Bundle {
    pub(super) job: Arc<Job>,
    pub(super) heading: Heading,
    /// How often a chunk may still be given to another worker after one that died with it.
    pub(super) retries: u32,
    /// Place of the first chunk.
    first: Place,
    chunks: usize,
    /// Their task frames, from `start` on.
    frames: Vec<u8>,
    start: usize,
    /// The handles of shared objects in the frames, kept until all chunks are settled: each may be given to several workers.
    kept: Option<Arc<Kept>>,
}

impl Bundle {
    /// Chunks whose task frames are `frames`, with what is kept for them.
    pub(super) fn new(
        (job, task): (Arc<Job>, TaskId),
        retries: u32,
        first: Place,
        chunks: usize,
        (frames, kept): (Vec<u8>, Kept),
    ) -> Self {
        let heading = Heading { task, may_hold: false };
        let kept = (!kept.is_empty()).then(|| Arc::new(kept));
        Self { job, heading, retries, first, chunks, frames, start: 0, kept }
    }

    /// How many chunks there are.
    pub(super) fn len(&self) -> usize {
        self.chunks
    }

    /// The task frames of all chunks.
    pub(super) fn frames(&self) -> &[u8] {
        &self.frames[self.start..]
    }

    /// Takes the first chunks out, at most `count` of them.
    pub(super) fn split_front(&mut self, count: usize) -> Self {
        let (count, length) = (count.min(self.chunks), length_of(self.frames(), count));
        let (job, frames, kept) =
            (Arc::clone(&self.job), self.frames()[..length].to_vec(), self.kept.clone());
        let front = Self { job, chunks: count, frames, start: 0, kept, ..*self };
        self.skip(count, length);
        front
    }

    /// Hands over the replies to the first chunks, which it then has no more.
    pub(super) fn deliver_front(&mut self, count: usize, pid: i32, replies: &[u8]) {
        self.job.deliver(self.first, count, pid, replies);
        self.skip(count, length_of(self.frames(), count));
    }

    fn skip(&mut self, count: usize, length: usize) {
        self.first = self.first.nth(count);
        self.chunks -= count;
        self.start += length;
    }

    /// Says that none of its chunks has results.
    pub(super) fn fail(&self, pid: i32, error: &Error) {
        self.job.fail(self.first, self.chunks, pid, error.clone());
    }

    /// Says of each chunk why it has no results, by the number of its first item.
    pub(super) fn fail_each(&self, pid: i32, error: impl Fn(u64) -> Error) {
        self.places().for_each(|place| self.job.fail(place, 1, pid, error(place.first)));
    }

    /// The places of its chunks.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        (0..self.chunks).map(|n| self.first.nth(n))
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

impl Place {
    /// The place `n` chunks of this size further on.
    pub(super) fn nth(self, n: usize) -> Self {
        let n = n as u64;
        Self { ordinal: self.ordinal + n, first: self.first + n * u64::from(self.items), items: self.items }
    }
}

/// What came for some chunks that follow each other and have the same number of items each.
#[derive(Debug)]
pub(super) struct Arrived {
    /// Place of the first.
    pub(super) place: Place,
    /// How many there are.
    pub(super) chunks: usize,
    /// The worker that ran them.
    pub(super) pid: i32,
    pub(super) what: Answer,
}

/// What came for a chunk.
#[derive(Debug)]
pub(super) enum Answer {
    /// A reply for each: frames in a range of [`Batch::bytes`].
    Replies(Range<usize>),
    /// None of them has results.
    Failed(Box<Error>),
}

impl Arrived {
    /// How many items its chunks have together.
    pub(super) fn items(&self) -> u64 {
        self.chunks as u64 * u64::from(self.place.items)
    }
}

/// What arrived since the last look.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) arrived: Vec<Arrived>,
    pub(super) bytes: Vec<u8>,
}

impl Batch {
    /// Adds the replies to some chunks, the first of them at that place.
    fn push(&mut self, place: Place, chunks: usize, pid: i32, replies: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(replies);
        let end = self.bytes.len();
        if let Some(last) = self.arrived.last_mut()
            && (last.pid, last.place.nth(last.chunks)) == (pid, place)
            && let Answer::Replies(range) = &mut last.what
        {
            (last.chunks, range.end) = (last.chunks + chunks, end);
            return;
        }
        self.arrived.push(Arrived { place, chunks, pid, what: Answer::Replies(start..end) });
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
    /// Waiting callers are woken when `done` reaches this; `u64::MAX` while nobody waits.
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

    /// Says that some chunks, the first of them at that place, have no results.
    pub(super) fn fail(&self, place: Place, chunks: usize, pid: i32, error: Error) {
        let what = Answer::Failed(Box::new(error));
        let mut state = self.lock();
        state.batch.arrived.push(Arrived { place, chunks, pid, what });
        self.count(state, chunks);
    }

    /// Hands over the replies to some chunks, the first of them at that place.
    pub(super) fn deliver(&self, place: Place, chunks: usize, pid: i32, replies: &[u8]) {
        let mut state = self.lock();
        state.batch.push(place, chunks, pid, replies);
        self.count(state, chunks);
    }

    fn count(&self, mut state: MutexGuard<'_, State>, chunks: usize) {
        state.done += chunks as u64;
        if state.done >= state.wake_at {
            state.wake_at = u64::MAX;
            self.arrived.notify_all();
        }
    }

    /// Waits until `count` chunks have arrived since the start; `false` when the deadline came first. Several threads may wait.
    pub(super) fn wait(&self, count: u64, deadline: Option<Instant>) -> bool {
        if self.done() >= count {
            return true;
        }
        let _rest = gate::rest();
        let mut state = self.lock();
        while state.done < count {
            // Left behind by who leaves: at worst it wakes somebody once too often.
            state.wake_at = state.wake_at.min(count);
            state = match deadline {
                None => self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
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
    use super::super::frame::{begin_task, finish_task};
    use super::*;
    use std::time::Duration;

    fn place(ordinal: u64) -> Place {
        Place { ordinal, first: ordinal * 2, items: 2 }
    }

    fn frames(payloads: &[&[u8]]) -> Vec<u8> {
        let mut frames = Vec::new();
        for payload in payloads {
            let at = begin_task(&mut frames);
            frames.extend_from_slice(payload);
            finish_task(&mut frames, at, 2);
        }
        frames
    }

    #[test]
    fn a_bundle_can_be_split_anywhere() {
        let all = frames(&[b"a", b"", b"ccc", b"dd"]);
        for at in 0..=5 {
            let mut rest =
                Bundle::new((Job::new("f"), TaskId(3)), 0, place(7), 4, (all.clone(), Kept::default()));
            let front = rest.split_front(at);
            let taken = at.min(4);
            assert_eq!((front.len(), rest.len()), (taken, 4 - taken));
            assert_eq!((front.first, rest.first), (place(7), place(7 + taken as u64)));
            assert_eq!([front.frames(), rest.frames()].concat(), all);
            assert_eq!(front.frames(), &all[..length_of(&all, at)]);
        }
    }

    #[test]
    fn a_batch_holds_what_arrived_since_the_last_look() {
        let job = Job::new("f");
        job.deliver(place(0), 2, 7, b"ab");
        job.deliver(place(2), 1, 7, b"c");
        job.fail(place(3), 1, 7, Error::PoolClosed);
        job.deliver(place(4), 1, 7, b"de");
        job.deliver(place(5), 1, 8, b"f");
        assert_eq!(job.done(), 6);
        let batch = job.take();
        assert_eq!(batch.bytes, b"abcdef");
        let shown = batch.arrived.iter().map(|arrived| match &arrived.what {
            Answer::Replies(range) => (arrived.place, arrived.chunks, Some(range.clone())),
            Answer::Failed(_) => (arrived.place, arrived.chunks, None),
        });
        let expected = [
            (place(0), 3, Some(0..3)),
            (place(3), 1, None),
            (place(4), 1, Some(3..5)),
            (place(5), 1, Some(5..6)),
        ];
        assert!(shown.eq(expected), "what follows from one worker is one");
        assert!(job.take().arrived.is_empty());
    }

    #[test]
    fn the_loss_of_each_chunk_is_told_with_its_first_item() {
        let bundle =
            Bundle::new((Job::new("f"), TaskId(3)), 0, place(1), 2, (frames(&[b"", b""]), Kept::default()));
        let told = std::cell::RefCell::new(Vec::new());
        bundle.fail_each(7, |index| {
            told.borrow_mut().push(index);
            Error::PoolClosed
        });
        assert_eq!((told.into_inner(), bundle.job.done()), (vec![2, 4], 2));
    }

    /// Also beside one who has waited in vain.
    #[test]
    fn all_who_wait_are_woken() {
        let job = Job::new("f");
        std::thread::scope(|scope| {
            let waiters = [(); 3].map(|()| scope.spawn(|| job.wait(1, None)));
            assert!(!job.wait(1, Some(Instant::now() + Duration::from_millis(10))));
            job.deliver(place(0), 1, 7, b"");
            assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
        });
    }

    #[test]
    fn waiting_ends_with_the_count_or_the_deadline() {
        let job = Job::new("f");
        assert!(!job.wait(1, Some(Instant::now() + Duration::from_millis(10))));
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| job.wait(2, None));
            job.deliver(place(0), 1, 7, b"");
            job.deliver(place(1), 1, 7, b"");
            assert!(waiter.join().unwrap());
        });
    }
}
