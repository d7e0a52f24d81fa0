//! The queue: two locks, a chain of segments, and one store that publishes.
//!
//! Producers write a record behind `tail` and then move `tail`; consumers copy the record at `head` and then move `head`. The
//! two never wait for each other, and never touch the same record, since records lie between head and tail. Both words carry
//! the number of messages, so length, full and empty are exact (`README.md`, 6).
//!
//! Whoever takes a lock over from the dead repairs first: journals say which segments were about to change hands, and one
//! comparison says whether the store that publishes has happened. Everything else the dead left is beyond tail or head, and
//! so not there.
//!
//! Michael and Scott, "Simple, fast, and practical non-blocking and blocking concurrent queue algorithms" (PODC 1996), has the
//! two-lock queue; the journals are what shared memory adds.

mod consumers;
mod producers;

use super::chain::Chain;
use super::record::{self, Draft};
use super::segment::{Cursor, MOST_MESSAGES, Segments};
use crate::atomic::{AtomicU64, Ordering};
use crate::liveness::ProcessId;
use crate::sync::Park;
use crate::sync::lock::{Acquired, Lock};
use consumers::{Consumers, Taken};
use producers::Producers;
use std::time::Instant;

/// A queue of byte strings. All zero is an empty one.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Ring {
    producers: Producers,
    consumers: Consumers,
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
    /// Too long for a record: it has to be put as a [`Chain`].
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

/// A message that was got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Got {
    /// Bytes of it.
    pub length: usize,
    /// How many of them, the first ones, are its manifest: what it carries, for who does not know what it is.
    pub manifest: usize,
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
        Self { producers: Producers::new(), consumers: Consumers::new() }
    }

    /// Makes it a new one. For when nobody uses it any more.
    pub(crate) fn clear(&self) {
        self.producers.clear();
        self.consumers.clear();
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

    /// All positions, then all journals, for tests that spoil them.
    #[cfg(all(test, not(loom)))]
    pub(super) fn words_for_tests(&self) -> ([&AtomicU64; 4], [&AtomicU64; 4]) {
        let (producers, consumers) = (&self.producers, &self.consumers);
        let positions = [&consumers.head, &producers.known_head, &producers.tail, &consumers.known_tail];
        (positions, [&producers.taking, &consumers.giving, &producers.sending, &consumers.lending])
    }

    /// How many messages consumers know to be there, maybe too few. The line of the producers is not touched.
    pub(crate) fn known_to_consumers(&self) -> u32 {
        since(&self.consumers.known_tail, &self.consumers.head)
    }

    /// How many messages may be there as far as producers know, maybe too many. The line of the consumers is not touched.
    pub(crate) fn known_to_producers(&self) -> u32 {
        since(&self.producers.tail, &self.producers.known_head)
    }

    /// How many messages were taken out, modulo 2^24.
    pub(crate) fn taken(&self) -> u32 {
        Cursor::from_word(self.consumers.head.load(Ordering::Relaxed)).count
    }

    /// Both locks, for sweeps.
    pub(crate) fn locks(&self) -> [&Lock; 2] {
        [&self.producers.lock, &self.consumers.lock]
    }

    /// Appends a message, made of these parts, unless `most` are there. It begins with so many bytes of manifest.
    #[inline]
    pub(crate) fn put<S: Segments, P: Park>(
        &self,
        actor: &Actor<'_, S, P>,
        most: u32,
        manifest: usize,
        parts: &[&[u8]],
    ) -> Result<(), PutError> {
        self.put_draft(actor, most, &Draft { kind: record::MESSAGE, manifest, parts, large: None })
    }

    /// Appends a message that lies in segments of this process, unless `most` are there. They belong to the queue then.
    pub(crate) fn put_large<S: Segments, P: Park>(
        &self,
        actor: &Actor<'_, S, P>,
        most: u32,
        chain: &Chain,
    ) -> Result<(), PutError> {
        let (bytes, large, manifest) = (chain.bytes(), Some(chain.first), chain.manifest);
        self.put_draft(actor, most, &Draft { kind: record::LARGE, manifest, parts: &[&bytes], large })
    }

    fn put_draft<S: Segments, P: Park>(
        &self,
        actor: &Actor<'_, S, P>,
        most: u32,
        draft: &Draft<'_>,
    ) -> Result<(), PutError> {
        let producers = &self.producers;
        let acquired = producers.lock.acquire(actor.own, actor.park, actor.deadline).ok_or(PutError::Busy)?;
        actor.segments.may_die();
        if acquired != Acquired::Released {
            producers.repair(actor);
        }
        let result = producers.put(actor, &self.consumers, most.min(MOST_MESSAGES), draft);
        // A segment may have been taken for nothing.
        if !matches!(result, Ok(()) | Err(PutError::Full)) {
            producers.repair(actor);
        }
        actor.segments.may_die();
        let _ = producers.lock.release(actor.park);
        result
    }

    /// Takes the first message out: it fills `start`, and the rest is appended to `out`.
    pub(crate) fn get<S: Segments, P: Park>(
        &self,
        actor: &Actor<'_, S, P>,
        start: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Got, GetError> {
        let consumers = &self.consumers;
        let acquired = consumers.lock.acquire(actor.own, actor.park, actor.deadline).ok_or(GetError::Busy)?;
        actor.segments.may_die();
        if acquired != Acquired::Released {
            consumers.repair(actor);
        }
        let result = consumers.get(actor, &self.producers, start, out);
        actor.segments.may_die();
        let _ = consumers.lock.release(actor.park);
        match result? {
            Taken::Copied(got) => Ok(got),
            Taken::Lent(chain) => chain.take(actor.segments, actor.own, start, out),
        }
    }

    /// Of a queue that has ended, in the hands of one process that clears it: the manifest of the next message that has one. The
    /// head is past that message before anybody knows of it, so nobody ever gets it twice. `None`: there is no other.
    ///
    /// Journals are left as they are: only head and tail say what is in the queue.
    pub(crate) fn give_up<S: Segments, P>(&self, actor: &Actor<'_, S, P>) -> Option<Vec<u8>> {
        if !self.producers.may_carry() {
            return None;
        }
        let manifest = self.consumers.pass(actor, &self.producers);
        if manifest.is_none() {
            // Before the segments are others': whoever goes on in our stead looks at none of them.
            self.producers.carry_nothing();
        }
        actor.segments.may_die();
        manifest
    }
}

/// How many records lie between two positions, of which no publishing is awaited.
fn since(later: &AtomicU64, earlier: &AtomicU64) -> u32 {
    let [later, earlier] = [later, earlier].map(|word| Cursor::from_word(word.load(Ordering::Relaxed)));
    later.since(earlier)
}
