//! The life of a worker process: read tasks, call them, hand over replies.
//!
//! A reply is written before the next task is called, so that what is done is known to be done, with one exception: under a
//! heading that says so, a task may keep its reply back while more such tasks wait in the inbox (see `outbox`). The pool says
//! so only while tasks take a few microseconds.

use super::frame::{FromPool, Heading, Inbox, ReplyKind, begin_reply, finish_reply};
use super::outbox::Outbox;
use crate::Result;
use procession_ipc::codec::{self, HandleFd};
use procession_ipc::gate::PrivateFd;
use procession_ipc::spin::Spin;
use procession_ipc::start::outcome::Failure;
use procession_ipc::start::target::TaskTarget;
use procession_ipc::start::{Border, TaskEntry, TaskId, read_reply, refuse, task_of, tuple_task};
use procession_ipc::stream::Stream;
use procession_ipc::travel::{self, Kept};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// What a worker runs before its first task: as the pool keeps it, or with `H = HandleFd` as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Initializer<H = PrivateFd> {
    task: u64,
    #[serde(with = "serde_bytes")]
    payload: Vec<u8>,
    /// The descriptors in it, which go beside the bytes.
    handles: Vec<H>,
    /// The handles of shared objects in it.
    kept: Kept,
}

impl Initializer {
    pub(super) fn new<F, A, M>(f: F, args: &A) -> Result<Self>
    where
        F: TaskTarget<A, M, Output = ()>,
    {
        // A chunk of one item.
        let mut payload = 1_u64.to_le_bytes().to_vec();
        let encode = || codec::collecting_handles(|| F::append(args, &mut payload));
        let (((), handles), kept) = travel::often(encode)?;
        let handles = handles.into_iter().map(PrivateFd::from).collect();
        Ok(Self { task: tuple_task(f)?.0, payload, handles, kept })
    }

    /// What one worker is given.
    pub(super) fn duplicate(&self) -> Result<Initializer<HandleFd>> {
        let duplicates = self.handles.iter().map(|handle| handle.as_fd().try_clone_to_owned());
        let handles = duplicates.map(|handle| handle.map(HandleFd::from)).collect::<Result<_, _>>();
        let handles = handles.map_err(|source| procession_ipc::Error::Os {
            doing: "duplicate a descriptor among the arguments of a pool's initializer".to_owned(),
            source,
        })?;
        Ok(Initializer { task: self.task, payload: self.payload.clone(), handles, kept: self.kept.clone() })
    }
}

impl Initializer<HandleFd> {
    fn call(self) -> Result<(), Failure> {
        let entry = task_of(TaskId(self.task)).map_err(|e| Failure::NotCalled(e.to_string()))?;
        let handles = self.handles.into_iter().map(OwnedFd::from).collect();
        let mut reply = Vec::new();
        let call = || {
            entry(&self.payload, &mut reply, Border::Open);
            Ok(())
        };
        codec::giving_handles(handles, call).map_err(|e| Failure::BadArguments(e.to_string()))?;
        let failed = read_reply(&reply, 1, &mut Vec::new()).map_err(|e| Failure::BadResult(e.to_string()))?;
        failed.into_iter().collect()
    }
}

/// The main function of a worker process.
pub(super) fn run(stream: Stream, initializer: Option<Initializer<HandleFd>>, border: Border) {
    let stream = Arc::new(stream);
    let mut worker = Worker {
        outbox: Outbox::new(Arc::clone(&stream)),
        stream,
        spin: Spin::default(),
        entry: Err(Failure::NotCalled("no function was named".to_owned())),
        may_hold: false,
        border,
    };
    let prepared = initializer.map_or(Ok(()), Initializer::call);
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

struct Worker {
    stream: Arc<Stream>,
    outbox: Outbox,
    spin: Spin,
    /// The last heading: the function of the tasks that come, and whether they may hold their replies back.
    entry: Result<TaskEntry, Failure>,
    may_hold: bool,
    /// What lies between this process and its pool.
    border: Border,
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
            Ok(entry) => entry(payload, out, self.border),
            Err(failure) => refuse(failure, out),
        }
        finish_reply(out, at, ReplyKind::Results);
    }
}
