//! The life of a worker process: read tasks, call them, hand over replies.
//!
//! A reply is written before the next task is called, so that what is done is known to be done, with one exception: a task
//! flagged [`MAY_HOLD`] may keep its reply back while more such tasks wait in the inbox (see `outbox`). The pool sets the
//! flag only while tasks take a few microseconds.

use super::frame::{Inbox, MAY_HOLD, ReplyKind, begin_reply, finish_reply};
use super::outbox::Outbox;
use procession_ipc::codec;
use procession_ipc::spin::Spin;
use procession_ipc::start::outcome::Failure;
use procession_ipc::start::{ReplyForm, Results, TaskEntry, TaskId, read_reply, task_of};
use procession_ipc::stream::Stream;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A reply's buffer that grew larger than this is given back.
const KEEP: usize = 128 * 1024;

/// What a worker runs before its first task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Initializer {
    pub(super) task: u64,
    #[serde(with = "serde_bytes")]
    pub(super) payload: Vec<u8>,
}

/// The main function of a worker process.
pub(super) fn run(stream: Stream, initializer: Option<Initializer>) {
    let stream = Arc::new(stream);
    let mut worker = Worker {
        outbox: Outbox::new(Arc::clone(&stream)),
        stream,
        reply: Vec::new(),
        spin: Spin::default(),
        last: None,
    };
    let prepared = initializer.map_or(Ok(()), |initializer| initialize(&initializer));
    let at = begin_reply(&mut worker.reply);
    let kind = match &prepared {
        Ok(()) => ReplyKind::Ready,
        Err(failure) => {
            // The failure is strings: it encodes. An empty one still says that the worker is not ready.
            let _ = codec::encode_into(failure, &mut worker.reply);
            ReplyKind::NotReady
        }
    };
    finish_reply(&mut worker.reply, at, kind);
    if worker.send(false) && prepared.is_ok() {
        worker.serve();
    }
}

fn initialize(initializer: &Initializer) -> Result<(), Failure> {
    let entry = task_of(TaskId(initializer.task)).map_err(|e| Failure::NotCalled(e.to_string()))?;
    let mut reply = Vec::new();
    let form = entry(&initializer.payload, &mut reply);
    match read_reply::<()>(form, &reply, 1) {
        Ok(Results::Values(_)) => Ok(()),
        Ok(Results::Mixed(results)) => results.into_iter().collect(),
        Err(error) => Err(Failure::BadResult(error.to_string())),
    }
}

struct Worker {
    stream: Arc<Stream>,
    outbox: Outbox,
    /// The reply that is being made.
    reply: Vec<u8>,
    spin: Spin,
    /// The function of the last task: most tasks are of one function.
    last: Option<(TaskId, TaskEntry)>,
}

impl Worker {
    fn serve(&mut self) {
        let mut inbox = Inbox::default();
        loop {
            match inbox.next_task() {
                Ok(Some(frame)) => {
                    let may_hold = frame.flags & MAY_HOLD != 0;
                    self.call(frame.task, frame.payload);
                    if !self.send(may_hold && inbox.next_may_hold()) {
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
        let at = begin_reply(&mut self.reply);
        let form = match self.entry_of(task) {
            Ok(entry) => entry(payload, &mut self.reply),
            Err(failure) => {
                let results: [Result<(), Failure>; 1] = [Err(failure)];
                let _ = codec::encode_into(&results[..], &mut self.reply);
                ReplyForm::Mixed
            }
        };
        finish_reply(&mut self.reply, at, ReplyKind::Results(form));
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

    /// Hands the reply over; `false` when the pool is gone.
    fn send(&mut self, may_hold: bool) -> bool {
        let alive = self.outbox.put(&self.reply, may_hold);
        self.reply.clear();
        self.reply.shrink_to(KEEP);
        alive
    }
}
