//! The frames between a pool and its workers.
//!
//! ```text
//! heading  1 or 2:8|length:56  task:u64   pool -> worker   the function of the tasks that follow; 2: replies may wait
//! task     0:8|length:56       payload    pool -> worker   a chunk: the number of its items, then the items
//! reply    kind:8|length:56    payload    worker -> pool
//! ```
//!
//! Numbers are little endian. Replies come in the order of their tasks, so they carry no number. A reader takes memory as
//! bytes arrive, whatever a header announces (see [`stream`]).

use procession_ipc::start::TaskId;
use procession_ipc::stream::{self, Garbage, WORD, whole_frame, word};

/// Most replies that a worker holds back; also what may be lost with it beyond the task in its hands.
pub(super) const MAX_HELD: usize = 64;

/// Size of a header in bytes.
const HEADER: usize = WORD;

/// First byte of a task.
const TASK: u8 = 0;

/// First byte of a heading, and of one whose tasks may hold their replies back.
const HEADING: u8 = 1;
const HEADING_MAY_HOLD: u8 = 2;

/// What the tasks that follow have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Heading {
    /// Their function.
    pub(super) task: TaskId,
    /// Whether a reply may wait for the next one's.
    pub(super) may_hold: bool,
}

/// First byte of a reply: what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReplyKind {
    /// The results of the next task.
    Results = 0,
    /// The worker can work now. Comes once, first.
    Ready = 1,
    /// The worker could not prepare itself, and ends. The payload is a `Failure`.
    NotReady = 2,
}

impl ReplyKind {
    fn of(first: u8) -> Option<Self> {
        [Self::Results, Self::Ready, Self::NotReady].into_iter().find(|&kind| kind as u8 == first)
    }
}

/// Appends a heading.
pub(super) fn put_heading(out: &mut Vec<u8>, heading: Heading) {
    let first = if heading.may_hold { HEADING_MAY_HOLD } else { HEADING };
    out.extend_from_slice(&word(first, 8));
    out.extend_from_slice(&heading.task.0.to_le_bytes());
}

/// Appends room for the header of a task and its number of items; returns where it is, for [`finish_task`].
#[inline]
pub(super) fn begin_task(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; HEADER + 8]);
    at
}

/// Fills in the header of the task whose `items` end here.
#[inline]
pub(super) fn finish_task(out: &mut [u8], at: usize, items: u32) {
    finish(out, at, TASK);
    out[at + HEADER..at + HEADER + 8].copy_from_slice(&u64::from(items).to_le_bytes());
}

/// Appends room for a reply's header; returns where it is, for [`finish_reply`].
pub(super) fn begin_reply(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; HEADER]);
    at
}

/// Fills in the header of the reply whose payload ends here.
pub(super) fn finish_reply(out: &mut [u8], at: usize, kind: ReplyKind) {
    finish(out, at, kind as u8);
}

fn finish(out: &mut [u8], at: usize, first: u8) {
    let length = out.len() - at - HEADER;
    out[at..at + HEADER].copy_from_slice(&word(first, length));
}

/// How many bytes the first `count` of these frames take.
pub(super) fn length_of(frames: &[u8], count: usize) -> usize {
    payloads(frames).take(count).map(|payload| HEADER + payload.len()).sum()
}

/// The payloads of whole frames.
pub(super) fn payloads(mut frames: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let Ok(Some((_, length))) = whole_frame(frames, HEADER) else { return None };
        let (frame, rest) = frames.split_at(HEADER + length);
        frames = rest;
        Some(&frame[HEADER..])
    })
}

/// What comes from a pool.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromPool<'a> {
    Heading(Heading),
    /// The payload of a task.
    Task(&'a [u8]),
}

/// What comes from a worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromWorker<'a> {
    /// So many replies with results, as frames.
    Results(usize, &'a [u8]),
    Ready,
    /// The payload.
    NotReady(&'a [u8]),
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

    /// Whether the next frame is there, whole, and a task, so that the last heading is its heading too.
    pub(super) fn next_is_task(&self) -> bool {
        matches!(whole_frame(self.0.bytes(), HEADER), Ok(Some((TASK, _))))
    }

    /// The next whole frame from the pool, if it is there.
    pub(super) fn next_from_pool(&mut self) -> Result<Option<FromPool<'_>>, Garbage> {
        let Some((first, length)) = whole_frame(self.0.bytes(), HEADER)? else { return Ok(None) };
        let payload = &self.0.take(HEADER + length)[HEADER..];
        if first == TASK {
            return Ok(Some(FromPool::Task(payload)));
        }
        let may_hold = match first {
            HEADING => false,
            HEADING_MAY_HOLD => true,
            _ => return Err(Garbage),
        };
        let task = TaskId(u64::from_le_bytes(payload.try_into().map_err(|_| Garbage)?));
        Ok(Some(FromPool::Heading(Heading { task, may_hold })))
    }

    /// What comes next from the worker, if it is there whole: replies as many as are there, and at most `most`, which is
    /// how many have been asked for.
    pub(super) fn next_from_worker(&mut self, most: usize) -> Result<Option<FromWorker<'_>>, Garbage> {
        let have = self.0.bytes();
        let Some((first, length)) = whole_frame(have, HEADER)? else { return Ok(None) };
        let kind = ReplyKind::of(first).ok_or(Garbage)?;
        if kind != ReplyKind::Results {
            let payload = &self.0.take(HEADER + length)[HEADER..];
            let is_ready = kind == ReplyKind::Ready;
            return Ok(Some(if is_ready { FromWorker::Ready } else { FromWorker::NotReady(payload) }));
        }
        let (mut count, mut end) = (0, 0);
        while count < most
            && let Ok(Some((first, length))) = whole_frame(&have[end..], HEADER)
            && ReplyKind::of(first) == Some(ReplyKind::Results)
        {
            (count, end) = (count + 1, end + HEADER + length);
        }
        if count == 0 { Err(Garbage) } else { Ok(Some(FromWorker::Results(count, self.0.take(end)))) }
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

    fn put_task(out: &mut Vec<u8>, items: &[u8]) {
        let at = begin_task(out);
        out.extend_from_slice(items);
        finish_task(out, at, 1);
    }

    fn put_reply(out: &mut Vec<u8>, payload: &[u8], kind: ReplyKind) {
        let at = begin_reply(out);
        out.extend_from_slice(payload);
        finish_reply(out, at, kind);
    }

    #[test]
    fn tasks_arrive_whole_whatever_the_pieces() {
        let big = vec![7; 200_000];
        let heading = Heading { task: TaskId(9), may_hold: true };
        let mut bytes = Vec::new();
        put_heading(&mut bytes, heading);
        put_task(&mut bytes, b"abc");
        put_task(&mut bytes, &big);
        put_heading(&mut bytes, Heading { may_hold: false, ..heading });
        for step in [1, 7, 65_536, usize::MAX] {
            let mut inbox = Inbox::default();
            feed(&mut inbox, &bytes, step);
            assert!(!inbox.next_is_task());
            assert_eq!(inbox.next_from_pool(), Ok(Some(FromPool::Heading(heading))), "{step}");
            assert!(inbox.next_is_task());
            assert_eq!(
                inbox.next_from_pool(),
                Ok(Some(FromPool::Task(&[1, 0, 0, 0, 0, 0, 0, 0, 97, 98, 99])))
            );
            let Ok(Some(FromPool::Task(payload))) = inbox.next_from_pool() else { panic!("no task") };
            assert!(payload[8..] == big);
            assert!(!inbox.next_is_task(), "the next one has a heading of its own");
            let plain = Heading { may_hold: false, ..heading };
            assert_eq!(inbox.next_from_pool(), Ok(Some(FromPool::Heading(plain))));
            assert_eq!(inbox.next_from_pool(), Ok(None));
        }
    }

    #[test]
    fn replies_come_together_and_halves_wait() {
        let mut bytes = Vec::new();
        put_reply(&mut bytes, &[], ReplyKind::Ready);
        for payload in [&b"a"[..], b"", b"ccc", b"dd"] {
            put_reply(&mut bytes, payload, ReplyKind::Results);
        }
        let mut inbox = Inbox::default();
        let (head, tail) = bytes.split_at(bytes.len() - 1);
        feed(&mut inbox, head, usize::MAX);
        assert_eq!(inbox.next_from_worker(0), Ok(Some(FromWorker::Ready)));
        assert_eq!(inbox.next_from_worker(0), Err(Garbage), "more than were asked for");
        let Ok(Some(FromWorker::Results(2, frames))) = inbox.next_from_worker(2) else { panic!("not two") };
        assert!(payloads(frames).eq([&b"a"[..], b""]));
        assert_eq!(length_of(frames, 1), HEADER + 1);
        let Ok(Some(FromWorker::Results(1, _))) = inbox.next_from_worker(9) else { panic!("not one") };
        assert_eq!(inbox.next_from_worker(9), Ok(None));
        feed(&mut inbox, tail, 1);
        let Ok(Some(FromWorker::Results(1, frames))) = inbox.next_from_worker(9) else { panic!("not one") };
        assert!(payloads(frames).eq([&b"dd"[..]]));
    }

    #[test]
    fn garbage_is_an_error() {
        let mut kinds = word(9, 0).to_vec();
        kinds.extend_from_slice(&[0; 8]);
        for bytes in [&[0xff; 16][..], &kinds, &word(HEADING, 0)] {
            let mut inbox = Inbox::default();
            feed(&mut inbox, bytes, usize::MAX);
            assert_eq!(inbox.next_from_pool(), Err(Garbage), "{bytes:?}");
        }
        for bytes in [&[0xff; 16][..], &kinds] {
            let mut inbox = Inbox::default();
            feed(&mut inbox, bytes, usize::MAX);
            assert_eq!(inbox.next_from_worker(9), Err(Garbage), "{bytes:?}");
        }
    }
}
