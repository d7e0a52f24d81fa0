//! The frames between a pool and its workers.
//!
//! ```text
//! task    flags:8|length:56  task:u64 | payload        pool -> worker
//! reply   form:8|length:56            | payload        worker -> pool
//! ```
//!
//! Numbers are little endian. Replies come in the order of their tasks, so they carry no number. A reader takes memory as
//! bytes arrive, whatever the header announces (see [`stream`]).

use procession_ipc::start::{ReplyForm, TaskId};
use procession_ipc::stream::{self, Garbage, WORD, whole_frame, word};

/// Flag of a task: its reply may wait for the next one's.
pub(super) const MAY_HOLD: u8 = 1;

/// Most replies that a worker holds back; also what may be lost with it beyond the task in its hands.
pub(super) const MAX_HELD: usize = 64;

/// Size of a task's header in bytes.
pub(super) const TASK_HEADER: usize = WORD + 8;

/// Size of a reply's header in bytes.
pub(super) const REPLY_HEADER: usize = WORD;

/// First byte of a reply: what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyKind {
    /// The results of the next task.
    Results(ReplyForm),
    /// The worker can work now. Comes once, first.
    Ready,
    /// The worker could not prepare itself, and ends. The payload is a `Failure`.
    NotReady,
}

impl ReplyKind {
    fn number(self) -> u8 {
        match self {
            Self::Results(ReplyForm::Values) => 0,
            Self::Results(ReplyForm::Mixed) => 1,
            Self::Ready => 2,
            Self::NotReady => 3,
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        let all =
            [Self::Results(ReplyForm::Values), Self::Results(ReplyForm::Mixed), Self::Ready, Self::NotReady];
        all.into_iter().find(|kind| kind.number() == number)
    }
}

/// Appends a task frame.
pub(super) fn put_task(out: &mut Vec<u8>, flags: u8, task: TaskId, payload: &[u8]) {
    out.extend_from_slice(&word(flags, payload.len()));
    out.extend_from_slice(&task.0.to_le_bytes());
    out.extend_from_slice(payload);
}

/// Appends room for a reply's header; returns where it is, for [`finish_reply`].
pub(super) fn begin_reply(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; REPLY_HEADER]);
    at
}

/// Fills in the header of the reply whose payload ends here.
pub(super) fn finish_reply(out: &mut [u8], at: usize, kind: ReplyKind) {
    let length = out.len() - at - REPLY_HEADER;
    out[at..at + REPLY_HEADER].copy_from_slice(&word(kind.number(), length));
}

/// A task as the worker sees it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TaskFrame<'a> {
    pub(super) flags: u8,
    pub(super) task: TaskId,
    pub(super) payload: &'a [u8],
}

/// What has arrived and is not used yet, as tasks or replies.
#[derive(Debug, Default)]
pub(super) struct Inbox(stream::Inbox);

impl Inbox {
    /// Where to read more bytes into; never empty.
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.0.space()
    }

    /// Says that `count` bytes were read into the space.
    pub(super) fn filled(&mut self, count: usize) {
        self.0.filled(count);
    }

    /// Whether the next task is there, whole, and may hold its reply back too.
    pub(super) fn next_may_hold(&self) -> bool {
        matches!(whole_frame(self.0.bytes(), TASK_HEADER), Ok(Some((flags, _))) if flags & MAY_HOLD != 0)
    }

    /// The next whole task, if it is there.
    pub(super) fn next_task(&mut self) -> Result<Option<TaskFrame<'_>>, Garbage> {
        let Some((flags, length)) = whole_frame(self.0.bytes(), TASK_HEADER)? else { return Ok(None) };
        let frame = self.0.take(TASK_HEADER + length);
        let id: [u8; 8] = std::array::from_fn(|i| frame[8 + i]);
        Ok(Some(TaskFrame { flags, task: TaskId(u64::from_le_bytes(id)), payload: &frame[TASK_HEADER..] }))
    }

    /// The next whole reply, if it is there.
    pub(super) fn next_reply(&mut self) -> Result<Option<(ReplyKind, &[u8])>, Garbage> {
        let Some((number, length)) = whole_frame(self.0.bytes(), REPLY_HEADER)? else { return Ok(None) };
        let kind = ReplyKind::from_number(number).ok_or(Garbage)?;
        Ok(Some((kind, &self.0.take(REPLY_HEADER + length)[REPLY_HEADER..])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(inbox: &mut Inbox, mut bytes: &[u8], step: usize) {
        while !bytes.is_empty() {
            let space = inbox.space();
            let count = step.min(space.len()).min(bytes.len());
            space[..count].copy_from_slice(&bytes[..count]);
            inbox.filled(count);
            bytes = &bytes[count..];
        }
    }

    #[test]
    fn tasks_arrive_whole_whatever_the_pieces() {
        let big = vec![7; 200_000];
        let mut bytes = Vec::new();
        put_task(&mut bytes, MAY_HOLD, TaskId(9), b"abc");
        put_task(&mut bytes, 0, TaskId(10), &[]);
        put_task(&mut bytes, 0, TaskId(11), &big);
        for step in [1, 7, 65_536, usize::MAX] {
            let mut inbox = Inbox::default();
            assert!(!inbox.next_may_hold());
            feed(&mut inbox, &bytes, step);
            assert!(inbox.next_may_hold());
            let first = TaskFrame { flags: MAY_HOLD, task: TaskId(9), payload: b"abc" };
            assert_eq!(inbox.next_task(), Ok(Some(first)), "{step}");
            assert_eq!(inbox.next_task(), Ok(Some(TaskFrame { flags: 0, task: TaskId(10), payload: &[] })));
            assert_eq!(inbox.next_task(), Ok(Some(TaskFrame { flags: 0, task: TaskId(11), payload: &big })));
            assert_eq!(inbox.next_task(), Ok(None));
        }
    }

    #[test]
    fn replies_keep_their_kind_and_halves_wait() {
        let mut bytes = Vec::new();
        let at = begin_reply(&mut bytes);
        finish_reply(&mut bytes, at, ReplyKind::Ready);
        let at = begin_reply(&mut bytes);
        bytes.extend_from_slice(b"result");
        finish_reply(&mut bytes, at, ReplyKind::Results(ReplyForm::Mixed));
        let mut inbox = Inbox::default();
        let (head, tail) = bytes.split_at(bytes.len() - 1);
        feed(&mut inbox, head, usize::MAX);
        assert_eq!(inbox.next_reply(), Ok(Some((ReplyKind::Ready, &[][..]))));
        assert_eq!(inbox.next_reply(), Ok(None));
        feed(&mut inbox, tail, 1);
        assert_eq!(inbox.next_reply(), Ok(Some((ReplyKind::Results(ReplyForm::Mixed), &b"result"[..]))));
    }

    #[test]
    fn garbage_is_an_error() {
        let mut inbox = Inbox::default();
        feed(&mut inbox, &[9, 0, 0, 0, 0, 0, 0, 200], usize::MAX);
        assert!(inbox.next_reply().is_err() || inbox.next_reply() == Ok(None));
        let mut inbox = Inbox::default();
        feed(&mut inbox, &[0xff; 16], usize::MAX);
        assert_eq!(inbox.next_task(), Err(Garbage));
        assert_eq!(inbox.next_reply(), Err(Garbage));
    }
}
