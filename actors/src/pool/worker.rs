//! The life of a worker process: read tasks, call them, write replies.
//!
//! A reply is written before the next task is called, so that what is done is known to be done, with one exception: a
//! task flagged [`MAY_HOLD`] may keep its reply back while more tasks wait in the inbox. The pool sets the flag only while
//! tasks take a few microseconds, and the worker itself ends the holding after [`MAX_HELD`] replies or [`HOLD_TIME`].

use super::frame::{Inbox, MAX_HELD, MAY_HOLD, ReplyKind, begin_reply, finish_reply};
use procession_ipc::codec;
use procession_ipc::spin::Spin;
use procession_ipc::start::outcome::Failure;
use procession_ipc::start::{TaskEntry, TaskId, task_of};
use procession_ipc::stream::Stream;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Longest time that a finished reply is held back while further tasks are short.
const HOLD_TIME: Duration = Duration::from_micros(50);

/// The clock is read after so many held replies.
const LOOK_EVERY: usize = 8;

/// Replies are written at the latest when this many bytes are waiting.
const FLUSH_AT: usize = 32 * 1024;

/// What a worker runs before its first task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Initializer {
    pub(super) task: u64,
    #[serde(with = "serde_bytes")]
    pub(super) payload: Vec<u8>,
}

/// The main function of a worker process.
#[allow(clippy::needless_pass_by_value, reason = "the worker owns its stream: it ends with it")]
pub(super) fn run(stream: Stream, initializer: Option<Initializer>) {
    let mut worker =
        Worker { stream, replies: Vec::new(), held: 0, held_since: None, spin: Spin::default(), last: None };
    if let Err(failure) = initializer.map_or(Ok(()), |initializer| initialize(&initializer)) {
        let at = begin_reply(&mut worker.replies);
        // The failure is strings: it encodes. An empty one still says that the worker is not ready.
        let _ = codec::encode_into(&failure, &mut worker.replies);
        finish_reply(&mut worker.replies, at, ReplyKind::NotReady);
        worker.flush();
        return;
    }
    let at = begin_reply(&mut worker.replies);
    finish_reply(&mut worker.replies, at, ReplyKind::Ready);
    if worker.flush() {
        worker.serve();
    }
}

fn initialize(initializer: &Initializer) -> Result<(), Failure> {
    let entry = task_of(TaskId(initializer.task)).map_err(|e| Failure::NotCalled(e.to_string()))?;
    let mut reply = Vec::new();
    let form = entry(&initializer.payload, &mut reply);
    match procession_ipc::start::read_reply::<()>(form, &reply, 1) {
        Ok(procession_ipc::start::Results::Values(_)) => Ok(()),
        Ok(procession_ipc::start::Results::Mixed(results)) => results.into_iter().collect(),
        Err(error) => Err(Failure::BadResult(error.to_string())),
    }
}

struct Worker {
    stream: Stream,
    /// Replies that are not written yet.
    replies: Vec<u8>,
    held: usize,
    held_since: Option<Instant>,
    spin: Spin,
    /// The function of the last task: most tasks are of one function.
    last: Option<(TaskId, TaskEntry)>,
}

impl Worker {
    fn serve(&mut self) {
        let mut inbox = Inbox::new();
        loop {
            match inbox.next_task() {
                Ok(Some(frame)) => {
                    let may_hold = frame.flags & MAY_HOLD != 0;
                    self.call(frame.task, frame.payload);
                    let held = may_hold && inbox.next_may_hold() && self.may_go_on_holding();
                    if !held && !self.flush() {
                        return;
                    }
                }
                Ok(None) => match self.stream.read(inbox.space(), &mut self.spin) {
                    Ok(0) => return,
                    Ok(count) => inbox.filled(count),
                    Err(error) => {
                        return eprintln!("procession: a pool worker cannot read its tasks: {error}");
                    }
                },
                Err(_) => return eprintln!("procession: a pool worker was sent garbage instead of a task"),
            }
        }
    }

    fn call(&mut self, task: TaskId, payload: &[u8]) {
        let at = begin_reply(&mut self.replies);
        let form = match self.entry_of(task) {
            Ok(entry) => entry(payload, &mut self.replies),
            Err(failure) => {
                let results: [Result<(), Failure>; 1] = [Err(failure)];
                let _ = codec::encode_into(&results[..], &mut self.replies);
                procession_ipc::start::ReplyForm::Mixed
            }
        };
        finish_reply(&mut self.replies, at, ReplyKind::Results(form));
    }

    fn entry_of(&mut self, task: TaskId) -> Result<TaskEntry, Failure> {
        if let Some((last, entry)) = self.last
            && last == task
        {
            return Ok(entry);
        }
        let entry = task_of(task).map_err(|error| Failure::NotCalled(error.to_string()))?;
        self.last = Some((task, entry));
        Ok(entry)
    }

    fn may_go_on_holding(&mut self) -> bool {
        self.held += 1;
        let since = *self.held_since.get_or_insert_with(Instant::now);
        // Reading the clock costs as much as a short task: every few tasks is enough.
        let in_time = !self.held.is_multiple_of(LOOK_EVERY) || since.elapsed() < HOLD_TIME;
        in_time && self.held < MAX_HELD && self.replies.len() < FLUSH_AT
    }

    /// Writes all replies; `false` when the pool is gone.
    fn flush(&mut self) -> bool {
        let alive = self.stream.write_all(&self.replies).unwrap_or(false);
        self.replies.clear();
        self.replies.shrink_to(FLUSH_AT * 4);
        (self.held, self.held_since) = (0, None);
        alive
    }
}
