//! The frames between a pool and its workers.
//!
//! ```text
//! task    flags:8|length:56  task:u64 | payload        pool -> worker
//! reply   form:8|length:56            | payload        worker -> pool
//! ```
//!
//! Numbers are little endian. Replies come in the order of their tasks, so they carry no number. A reader takes memory as
//! bytes arrive, whatever the header announces; the announced length itself is bounded by [`MAX_LENGTH`].

use procession_ipc::start::{ReplyForm, TaskId};

/// Longest payload, in bytes: 1 TiB. More is taken for garbage.
pub(super) const MAX_LENGTH: u64 = 1 << 40;

/// Flag of a task: its reply may wait for the next one's.
pub(super) const MAY_HOLD: u8 = 1;

/// Most replies that a worker holds back; also what may be lost with it beyond the task in its hands.
pub(super) const MAX_HELD: usize = 64;

/// Size of a task's header in bytes.
pub(super) const TASK_HEADER: usize = 16;

/// Size of a reply's header in bytes.
pub(super) const REPLY_HEADER: usize = 8;

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

fn word(first: u8, length: usize) -> [u8; 8] {
    let mut bytes = (length as u64).to_le_bytes();
    bytes[7] = first;
    bytes
}

fn split_word(bytes: [u8; 8]) -> (u8, u64) {
    let number = u64::from_le_bytes(bytes);
    ((number >> 56) as u8, number & ((1 << 56) - 1))
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

/// A header that makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Garbage;

/// A task as the worker sees it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TaskFrame<'a> {
    pub(super) flags: u8,
    pub(super) task: TaskId,
    pub(super) payload: &'a [u8],
}

/// Bytes that have arrived and are not used yet.
#[derive(Debug)]
pub(super) struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

/// First size of an inbox: a few hundred small frames.
const FIRST: usize = 64 * 1024;

/// An inbox that grew for one large message is given back when it is empty and larger than this.
const KEEP: usize = 4 * 1024 * 1024;

impl Inbox {
    pub(super) fn new() -> Self {
        Self { buffer: Vec::new(), start: 0, end: 0 }
    }

    /// Where to read more bytes into; never empty.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > KEEP {
                self.buffer = Vec::new();
            }
        }
        if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else {
                self.buffer.resize((self.buffer.len() * 2).max(FIRST), 0);
            }
        }
        &mut self.buffer[self.end..]
    }

    /// Says that `count` bytes were read into the space.
    pub(super) fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// Whether the next task is there, whole, and may hold its reply back too.
    pub(super) fn next_may_hold(&self) -> bool {
        matches!(self.peek(TASK_HEADER), Ok(Some((flags, _))) if flags & MAY_HOLD != 0)
    }

    /// The next whole task, if it is there.
    pub(super) fn next_task(&mut self) -> Result<Option<TaskFrame<'_>>, Garbage> {
        let Some((flags, length)) = self.peek(TASK_HEADER)? else { return Ok(None) };
        let at = self.start;
        self.start += TASK_HEADER + length;
        let id: [u8; 8] = std::array::from_fn(|i| self.buffer[at + 8 + i]);
        let payload = &self.buffer[at + TASK_HEADER..at + TASK_HEADER + length];
        Ok(Some(TaskFrame { flags, task: TaskId(u64::from_le_bytes(id)), payload }))
    }

    /// The next whole reply, if it is there.
    pub(super) fn next_reply(&mut self) -> Result<Option<(ReplyKind, &[u8])>, Garbage> {
        let Some((number, length)) = self.peek(REPLY_HEADER)? else { return Ok(None) };
        let kind = ReplyKind::from_number(number).ok_or(Garbage)?;
        let at = self.start + REPLY_HEADER;
        self.start = at + length;
        Ok(Some((kind, &self.buffer[at..at + length])))
    }

    /// First byte and length of the next frame, if all of it is there.
    fn peek(&self, header: usize) -> Result<Option<(u8, usize)>, Garbage> {
        let have = &self.buffer[self.start..self.end];
        let Some(word) = have.first_chunk() else { return Ok(None) };
        let (first, length) = split_word(*word);
        if length > MAX_LENGTH {
            return Err(Garbage);
        }
        let length = usize::try_from(length).map_err(|_| Garbage)?;
        Ok((have.len() >= header && have.len() - header >= length).then_some((first, length)))
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
            let mut inbox = Inbox::new();
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
        let mut inbox = Inbox::new();
        let (head, tail) = bytes.split_at(bytes.len() - 1);
        feed(&mut inbox, head, usize::MAX);
        assert_eq!(inbox.next_reply(), Ok(Some((ReplyKind::Ready, &[][..]))));
        assert_eq!(inbox.next_reply(), Ok(None));
        feed(&mut inbox, tail, 1);
        assert_eq!(inbox.next_reply(), Ok(Some((ReplyKind::Results(ReplyForm::Mixed), &b"result"[..]))));
    }

    #[test]
    fn garbage_is_found_before_memory_is_taken() {
        for bytes in [[9_u8, 0, 0, 0, 0, 0, 0, 200], [0xff; 8]] {
            let mut inbox = Inbox::new();
            feed(&mut inbox, &bytes, usize::MAX);
            assert!(inbox.next_reply().is_err() || inbox.next_reply() == Ok(None), "{bytes:?}");
            assert!(inbox.buffer.len() <= FIRST);
        }
        let mut inbox = Inbox::new();
        feed(&mut inbox, &[0xff; 16], usize::MAX);
        assert_eq!(inbox.next_task(), Err(Garbage));
        assert_eq!(inbox.next_reply(), Err(Garbage));
    }
}
