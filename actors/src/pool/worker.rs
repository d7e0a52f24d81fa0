//! The life of a worker process: read tasks, call them, hand over replies.
//!
//! A reply is written before the next task is called, so that what is done is known to be done, with one exception: under a
//! heading that says so, a task may keep its reply back while more such tasks wait in the inbox (see `outbox`). The pool says
//! so only while tasks take a few microseconds.

use super::frame::{FromPool, Heading, Inbox, ReplyKind, begin_reply, finish_reply};
use super::outbox::Outbox;
use procession_ipc::codec;
use procession_ipc::spin::Spin;
use procession_ipc::start::outcome::Failure;
use procession_ipc::start::{TaskEntry, TaskId, read_reply, refuse, task_of};
use procession_ipc::stream::Stream;
use procession_ipc::travel::Kept;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a worker runs before its first task.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Initializer {
    pub(super) task: u64,
    #[serde(with = "serde_bytes")]
    pub(super) payload: Vec<u8>,
    /// The handles of shared objects in it.
    pub(super) kept: Kept,
}

/// The main function of a worker process.
pub(super) fn run(stream: Stream, initializer: Option<Initializer>) {
    let stream = Arc::new(stream);
    let mut worker = Worker {
        outbox: Outbox::new(Arc::clone(&stream)),
        stream,
        spin: Spin::default(),
        entry: Err(Failure::NotCalled("no function was named".to_owned())),
        may_hold: false,
    };
    let prepared = initializer.map_or(Ok(()), |initializer| initialize(&initializer));
    let out = worker.outbox.space();
    let at = begin_reply(out);
    let kind = match &prepared {
        Ok(()) => ReplyKind::Ready,
        Err(failure) => {
            // The failure is strings: it encodes. An empty one still says that the worker is not ready.
            let _ = codec::encode_into(failure, out);
            ReplyKind::NotReady
        }
    };
    finish_reply(out, at, kind);
    if worker.outbox.put(false) && prepared.is_ok() {
        worker.serve();
    }
}

fn initialize(initializer: &Initializer) -> Result<(), Failure> {
    let entry = task_of(TaskId(initializer.task)).map_err(|e| Failure::NotCalled(e.to_string()))?;
    let mut reply = Vec::new();
    entry(&initializer.payload, &mut reply);
    let failed = read_reply(&reply, 1, &mut Vec::new()).map_err(|e| Failure::BadResult(e.to_string()))?;
    failed.into_iter().collect()
}

struct Worker {
    stream: Arc<Stream>,
    outbox: Outbox,
    spin: Spin,
    /// The last heading: the function of the tasks that come, and whether they may hold their replies back.
    entry: Result<TaskEntry, Failure>,
    may_hold: bool,
}

impl Worker {
    fn serve(&mut self) {
        let mut inbox = Inbox::default();
        loop {
            match inbox.next_from_pool() {
                Ok(Some(FromPool::Heading(heading))) => self.turn_to(heading),
                Ok(Some(FromPool::Task(payload))) => {
                    self.call(payload);
                    if !self.outbox.put(self.may_hold && inbox.next_is_task()) {
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

    fn turn_to(&mut self, heading: Heading) {
        self.entry = task_of(heading.task).map_err(|error| Failure::NotCalled(error.to_string()));
        self.may_hold = heading.may_hold;
    }

    fn call(&mut self, payload: &[u8]) {
        let out = self.outbox.space();
        let at = begin_reply(out);
        match &self.entry {
            Ok(entry) => entry(payload, out),
            Err(failure) => refuse(failure, out),
        }
        finish_reply(out, at, ReplyKind::Results);
    }
}
