//! The queue: two locks, a chain of segments, and one store that publishes.
//!
//! Producers write a record behind `tail` and then move `tail`; consumers copy the record at `head` and then move `head`. The
//! two never wait for each other, and never touch the same record, since records lie between head and tail. Both words carry
//! the number of messages, so length, full and empty are exact (`README.md`, 6).
//!
//! Whoever takes a lock over from the dead repairs first: its journal says which segment was about to change hands, and one
//! comparison says whether the store that publishes has happened. Everything else the dead left is beyond tail or head, and
//! so not there.
//!
//! Michael and Scott, "Simple, fast, and practical non-blocking and blocking concurrent queue algorithms" (PODC 1996), has the
//! two-lock queue; the journals are what shared memory adds.

use super::segment::{ALIGNMENT, Cursor, MOST_MESSAGES, Moving, NoSpace, Owner, Segment, Segments, State};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::liveness::ProcessId;
use crate::sync::Park;
use crate::sync::lock::{Acquired, Lock};
use std::time::Instant;

/// Bytes before each payload: its length and its kind, both `u32` in the machine's order.
pub(crate) const HEADER: u32 = 8;

/// A record with a message; the record that says that the next segment goes on.
const MESSAGE: u32 = 1;
const END: u32 = 2;

/// How many segments that looked free may turn out to be taken before a put gives up.
const ATTEMPTS: u32 = 1000;

/// A queue of byte strings. All zero is an empty one.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Ring {
    producers: Producers,
    consumers: Consumers,
}

/// Written under `lock` alone, on cache lines of their own.
#[repr(C, align(64))]
#[derive(Debug)]
struct Producers {
    lock: Lock,
    /// The first segment, as the link of the segment before it would say it.
    first: AtomicU32,
    /// [`Cursor`] behind the last message: the store that publishes a message. Release; pairs with the Acquire of consumers.
    tail: AtomicU64,
    /// [`Moving`]: the segment that is about to join the chain.
    taking: AtomicU64,
    /// `head` as a producer has seen it last: it has moved on at most, so the line of the consumers is looked at only when
    /// the queue seems to be full.
    known_head: AtomicU64,
}

/// Written under `lock` alone, on cache lines of their own.
#[repr(C, align(64))]
#[derive(Debug)]
struct Consumers {
    lock: Lock,
    /// A hint for producers: the segment that was given back last, warm in the cache.
    spare: AtomicU32,
    /// [`Cursor`] at the first message: the store that takes a message. Release, behind the journal; pairs with the Acquire of
    /// [`Ring::len`].
    head: AtomicU64,
    /// [`Moving`]: the segment that is about to leave the chain.
    giving: AtomicU64,
    /// `tail` as a consumer has seen it last, as for `known_head`.
    known_tail: AtomicU64,
}

/// Why nothing was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PutError {
    /// As many messages as allowed are there.
    Full,
    /// Another process has the lock, and the deadline came.
    Busy,
    /// No memory.
    NoSpace,
    /// Longer than a segment.
    TooLong,
    /// The words of the queue make no sense: somebody wrote into memory that is not his.
    Corrupt,
}

/// Why nothing was got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GetError {
    /// No message is there.
    Empty,
    /// Another process has the lock, and the deadline came.
    Busy,
    /// No memory for the copy; the message stays.
    NoMemory,
    /// As for [`PutError::Corrupt`].
    Corrupt,
}

/// Who acts on a ring: its number among all queues, and the process.
#[derive(Debug)]
pub(crate) struct Actor<'a, S, P> {
    pub(crate) queue: u32,
    pub(crate) own: ProcessId,
    pub(crate) segments: &'a S,
    pub(crate) park: &'a P,
    /// For the lock, which is held for the time of a copy.
    pub(crate) deadline: Option<Instant>,
}

impl Ring {
    /// An empty queue.
    #[cfg(test)]
    pub(crate) fn new() -> Self {
        let producers = Producers {
            lock: Lock::new(),
            first: AtomicU32::new(0),
            tail: AtomicU64::new(0),
            taking: AtomicU64::new(Moving::NOTHING),
            known_head: AtomicU64::new(0),
        };
        let consumers = Consumers {
            lock: Lock::new(),
            spare: AtomicU32::new(0),
            head: AtomicU64::new(0),
            giving: AtomicU64::new(Moving::NOTHING),
            known_tail: AtomicU64::new(0),
        };
        Self { producers, consumers }
    }

    /// Makes it a new one. For when nobody uses it any more.
    pub(crate) fn clear(&self) {
        let (producers, consumers) = (&self.producers, &self.consumers);
        for word in [&producers.tail, &producers.taking, &producers.known_head] {
            word.store(0, Ordering::Relaxed);
        }
        for word in [&consumers.head, &consumers.giving, &consumers.known_tail] {
            word.store(0, Ordering::Relaxed);
        }
        [&producers.first, &consumers.spare].into_iter().for_each(|word| word.store(0, Ordering::Relaxed));
        self.locks().into_iter().for_each(Lock::clear);
    }

    /// Number of messages, exact at some moment during the call.
    pub(crate) fn len(&self) -> u32 {
        let mut head = self.consumers.head.load(Ordering::Acquire);
        loop {
            let tail = self.producers.tail.load(Ordering::Acquire);
            let again = self.consumers.head.load(Ordering::Acquire);
            if again == head {
                return Cursor::from_word(tail).since(Cursor::from_word(head));
            }
            head = again;
        }
    }

    /// All positions, then both journals, for tests that spoil them.
    #[cfg(all(test, not(loom)))]
    pub(super) fn words_for_tests(&self) -> ([&AtomicU64; 4], [&AtomicU64; 2]) {
        let (producers, consumers) = (&self.producers, &self.consumers);
        let positions = [&consumers.head, &producers.known_head, &producers.tail, &consumers.known_tail];
        (positions, [&producers.taking, &consumers.giving])
    }

    /// Both locks, for sweeps.
    pub(crate) fn locks(&self) -> [&Lock; 2] {
        [&self.producers.lock, &self.consumers.lock]
    }

    /// Appends a message, made of these parts, unless `most` are there.
    pub(crate) fn put<S: Segments, P: Park>(
        &self,
        actor: &Actor<'_, S, P>,
        most: u32,
        parts: &[&[u8]],
    ) -> Result<(), PutError> {
        let lock = &self.producers.lock;
        let acquired = lock.acquire(actor.own, actor.park, actor.deadline).ok_or(PutError::Busy)?;
        actor.segments.may_die();
        if acquired != Acquired::Released {
            self.producers.repair(actor);
        }
        let result = self.put_held(actor, most.min(MOST_MESSAGES), parts);
        // A segment may have been taken for nothing.
        if !matches!(result, Ok(()) | Err(PutError::Full)) {
            self.producers.repair(actor);
        }
        actor.segments.may_die();
        let _ = lock.release(actor.park);
        result
    }

    fn put_held<S: Segments, P>(
        &self,
        actor: &Actor<'_, S, P>,
        most: u32,
        parts: &[&[u8]],
    ) -> Result<(), PutError> {
        let (producers, segments) = (&self.producers, actor.segments);
        let tail = Cursor::from_word(producers.tail.load(Ordering::Relaxed));
        if self.is_full(tail, most) {
            return Err(PutError::Full);
        }
        let length = parts.iter().map(|part| part.len()).sum();
        let size = record_size(length).filter(|size| *size <= segments.room()).ok_or(PutError::TooLong)?;
        let fits = |tail: &Cursor| tail.offset.checked_add(size).is_some_and(|end| end <= segments.room());
        let (segment, cursor) = match tail.segment {
            Some(segment) if fits(&tail) => (segment, tail),
            _ => {
                let next = self.extend(actor, tail)?;
                (next, Cursor::at_start(next, tail.count))
            }
        };
        segments.back(segment, cursor.offset + size).map_err(|NoSpace| PutError::NoSpace)?;
        // It fits a segment, so it fits 32 bits.
        segments.write(segment, cursor.offset, &header(length as u32, MESSAGE));
        let mut at = cursor.offset + HEADER;
        for part in parts {
            segments.may_die();
            segments.write(segment, at, part);
            at += part.len() as u32;
        }
        segments.may_die();
        producers.tail.store(cursor.after(size).word(), Ordering::Release);
        segments.may_die();
        if cursor.offset == 0 {
            producers.taking.store(Moving::NOTHING, Ordering::Release);
        }
        Ok(())
    }

    /// Whether `most` messages are there, by a producer.
    #[inline]
    fn is_full(&self, tail: Cursor, most: u32) -> bool {
        let known = &self.producers.known_head;
        if tail.since(Cursor::from_word(known.load(Ordering::Relaxed))) < most {
            return false;
        }
        // Relaxed: nothing that a consumer has read is written again before its segment was given back.
        let head = self.consumers.head.load(Ordering::Relaxed);
        known.store(head, Ordering::Relaxed);
        tail.since(Cursor::from_word(head)) >= most
    }

    /// Takes a segment from the arena and links it behind the last one.
    fn extend<S: Segments, P>(&self, actor: &Actor<'_, S, P>, tail: Cursor) -> Result<Segment, PutError> {
        let (producers, segments) = (&self.producers, actor.segments);
        let has_room_for_end = tail.segment.filter(|_| tail.offset + HEADER <= segments.room());
        if let Some(last) = has_room_for_end {
            segments.back(last, tail.offset + HEADER).map_err(|NoSpace| PutError::NoSpace)?;
            segments.write(last, tail.offset, &header(0, END));
        }
        let next = self.claim(actor)?;
        segments.link(next).ok_or(PutError::Corrupt)?.store(0, Ordering::Relaxed);
        let link = match tail.segment {
            Some(last) => segments.link(last).ok_or(PutError::Corrupt)?,
            None => &producers.first,
        };
        link.store(next.number(), Ordering::Relaxed);
        segments.may_die();
        Ok(next)
    }

    /// A segment that was free becomes this queue's; `taking` says so before and after.
    fn claim<S: Segments, P>(&self, actor: &Actor<'_, S, P>) -> Result<Segment, PutError> {
        let (producers, segments) = (&self.producers, actor.segments);
        let mut candidate = Segment::new(self.consumers.spare.load(Ordering::Relaxed));
        for _ in 0..ATTEMPTS {
            let segment = match candidate.take() {
                Some(spare) => spare,
                None => segments.find_free().ok_or(PutError::NoSpace)?,
            };
            let Some(word) = segments.state(segment) else { continue };
            let seen = word.load(Ordering::Relaxed);
            let Some(state) = State::from_word(seen).filter(|state| state.is_free()) else { continue };
            note::<S>(&producers.taking, Moving { segment, version: state.version });
            segments.may_die();
            let used = State::new(state.version, Owner::Queue(actor.queue)).word();
            // Acquire pairs with the Release of `give_back`: its bytes are read no more. Release: the journal comes first.
            if word.compare_exchange(seen, used, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                segments.may_die();
                return Ok(segment);
            }
            producers.taking.store(Moving::NOTHING, Ordering::Release);
        }
        Err(PutError::NoSpace)
    }

    /// Takes the first message out: it fills `start`, and the rest is appended to `out`. Its length.
    pub(crate) fn get<S: Segments, P: Park>(
        &self,
        actor: &Actor<'_, S, P>,
        start: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, GetError> {
        let lock = &self.consumers.lock;
        let acquired = lock.acquire(actor.own, actor.park, actor.deadline).ok_or(GetError::Busy)?;
        actor.segments.may_die();
        if acquired != Acquired::Released {
            self.consumers.repair(actor);
        }
        let result = self.get_held(actor, start, out);
        actor.segments.may_die();
        let _ = lock.release(actor.park);
        result
    }

    fn get_held<S: Segments, P>(
        &self,
        actor: &Actor<'_, S, P>,
        start: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, GetError> {
        let (consumers, segments) = (&self.consumers, actor.segments);
        let head = Cursor::from_word(consumers.head.load(Ordering::Relaxed));
        let tail = self.tail_after(head).ok_or(GetError::Empty)?;
        let record = self.first_record(actor, head, tail).ok_or(GetError::Corrupt)?;
        record.copy(segments, start, out)?;
        segments.may_die();
        let left = head.segment.filter(|left| *left != record.segment);
        let giving = left.and_then(|segment| {
            let state = State::from_word(segments.state(segment)?.load(Ordering::Relaxed))?;
            Some(Moving { segment, version: state.version })
        });
        if let Some(giving) = giving {
            note::<S>(&consumers.giving, giving);
            segments.may_die();
        }
        consumers.head.store(record.cursor.after(record.size).word(), Ordering::Release);
        segments.may_die();
        if let Some(giving) = giving {
            give_back(actor, giving);
            consumers.spare.store(giving.segment.number(), Ordering::Relaxed);
            segments.may_die();
            consumers.giving.store(Moving::NOTHING, Ordering::Release);
        }
        Ok(record.length as usize)
    }

    /// The tail, as far as this consumer has to know it; `None`: there is no message.
    #[inline]
    fn tail_after(&self, head: Cursor) -> Option<Cursor> {
        let known = &self.consumers.known_tail;
        let tail = Cursor::from_word(known.load(Ordering::Relaxed));
        if tail.count != head.count {
            return Some(tail);
        }
        // Acquire pairs with the Release of `put_held`: the record, the links and what they link are there.
        let tail = self.producers.tail.load(Ordering::Acquire);
        known.store(tail, Ordering::Relaxed);
        Some(Cursor::from_word(tail)).filter(|tail| tail.count != head.count)
    }

    /// Where the message at `head` is; `None` if what is written there makes no sense.
    fn first_record<S: Segments, P>(
        &self,
        actor: &Actor<'_, S, P>,
        head: Cursor,
        tail: Cursor,
    ) -> Option<Record> {
        let segments = actor.segments;
        let here = head.segment.and_then(|segment| Record::read(segments, segment, head));
        if let Some(record) = here.filter(|record| record.kind == MESSAGE) {
            let is_before_tail = tail.segment != head.segment || record.cursor.offset < tail.offset;
            return is_before_tail.then_some(record);
        }
        // Only behind the last record of a segment, and there are more.
        if head.segment == tail.segment {
            return None;
        }
        let link = match head.segment {
            Some(segment) => segments.link(segment)?,
            None => &self.producers.first,
        };
        let next = Segment::new(link.load(Ordering::Relaxed))?;
        let state = State::from_word(segments.state(next)?.load(Ordering::Relaxed))?;
        let record = Record::read(segments, next, Cursor::at_start(next, head.count))?;
        (state.owner == Owner::Queue(actor.queue) && record.kind == MESSAGE).then_some(record)
    }
}

impl Producers {
    /// A segment that was taken and is not in the chain goes back.
    fn repair<S: Segments, P>(&self, actor: &Actor<'_, S, P>) {
        let tail = Cursor::from_word(self.tail.load(Ordering::Relaxed));
        if let Some(taking) = Moving::from_word(self.taking.load(Ordering::Relaxed))
            && tail.segment != Some(taking.segment)
        {
            give_back(actor, taking);
        }
        self.taking.store(Moving::NOTHING, Ordering::Release);
    }
}

impl Consumers {
    /// A segment that has left the chain and is not given back goes back.
    fn repair<S: Segments, P>(&self, actor: &Actor<'_, S, P>) {
        let head = Cursor::from_word(self.head.load(Ordering::Relaxed));
        if let Some(giving) = Moving::from_word(self.giving.load(Ordering::Relaxed))
            && head.segment != Some(giving.segment)
        {
            give_back(actor, giving);
        }
        self.giving.store(Moving::NOTHING, Ordering::Release);
    }
}

/// Writes a journal, before the act that it is about.
fn note<S: Segments>(journal: &AtomicU64, moving: Moving) {
    if S::KEEPS_JOURNALS {
        journal.store(moving.word(), Ordering::Release);
    }
}

/// Frees a segment of this queue, if it still is this queue's at that version.
fn give_back<S: Segments, P>(actor: &Actor<'_, S, P>, moving: Moving) {
    let Some(word) = actor.segments.state(moving.segment) else { return };
    let used = State::new(moving.version, Owner::Queue(actor.queue));
    // Release: whoever takes it writes after we have read. Failing means that it was done before.
    if word.compare_exchange(used.word(), used.freed().word(), Ordering::Release, Ordering::Relaxed).is_ok() {
        actor.segments.note_free(moving.segment);
    }
}

/// A record as its header says, checked against the segment.
struct Record {
    segment: Segment,
    /// Where it begins.
    cursor: Cursor,
    kind: u32,
    /// Of the payload.
    length: u32,
    /// With header and padding.
    size: u32,
}

impl Record {
    fn read(segments: &impl Segments, segment: Segment, cursor: Cursor) -> Option<Self> {
        let mut header = [0; HEADER as usize];
        segments.read(segment, cursor.offset, &mut header)?;
        let [a, b, c, d, e, f, g, h] = header;
        let (length, kind) = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]));
        let size = record_size(length as usize)?;
        let fits = cursor.offset.checked_add(size)? <= segments.room();
        fits.then_some(Self { segment, cursor, kind, length, size })
    }

    /// Fills `start`, and appends the rest to `out`.
    fn copy(&self, segments: &impl Segments, start: &mut [u8], out: &mut Vec<u8>) -> Result<(), GetError> {
        let at = self.cursor.offset + HEADER;
        // Not more than the length, which has 32 bits.
        let first = start.len().min(self.length as usize) as u32;
        out.try_reserve((self.length - first) as usize).map_err(|_| GetError::NoMemory)?;
        let copied = start
            .get_mut(..first as usize)
            .and_then(|start| segments.read(self.segment, at, start))
            .and_then(|()| segments.append(self.segment, at + first, self.length - first, out));
        copied.ok_or(GetError::Corrupt)
    }
}

/// Bytes that a payload takes; `None`: no segment is as large.
fn record_size(length: usize) -> Option<u32> {
    u32::try_from(length).ok()?.checked_add(HEADER)?.checked_next_multiple_of(ALIGNMENT)
}

fn header(length: u32, kind: u32) -> [u8; HEADER as usize] {
    let ([a, b, c, d], [e, f, g, h]) = (length.to_ne_bytes(), kind.to_ne_bytes());
    [a, b, c, d, e, f, g, h]
}
