//! The side of a ring that puts.

use super::consumers::Consumers;
use super::{Actor, PutError};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::mailbox::chain;
use crate::mailbox::record::{self, Draft, HEADER};
use crate::mailbox::segment::{Cursor, Moving, NoSpace, Owner, Segment, Segments, change, note, take_free};
use crate::sync::lock::Lock;

/// Written under `lock` alone, on cache lines of their own.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Producers {
    pub(super) lock: Lock,
    /// The first segment, as the link of the segment before it would say it.
    pub(super) first: AtomicU32,
    /// [`Cursor`] behind the last message: the store that publishes a message. Release; pairs with the Acquire of consumers.
    pub(super) tail: AtomicU64,
    /// [`Moving`]: the segment that is about to join the chain.
    pub(super) taking: AtomicU64,
    /// `head` as a producer has seen it last: it has moved on at most, so the line of the consumers is looked at only when
    /// the queue seems to be full.
    pub(super) known_head: AtomicU64,
    /// [`Moving`]: the first segment of the large message that is about to be put.
    pub(super) sending: AtomicU64,
    /// The count of `tail` before that is done. Written before `sending`.
    sent_before: AtomicU32,
    /// 1: messages may have a manifest. Written before the first such message is published; 0 again when the queue has ended and
    /// all of them were seen.
    carries: AtomicU32,
}

impl Producers {
    #[cfg(test)]
    pub(super) fn new() -> Self {
        let [tail, taking, known_head, sending] = [(); 4].map(|()| AtomicU64::new(0));
        let [first, sent_before, carries] = [(); 3].map(|()| AtomicU32::new(0));
        Self { lock: Lock::new(), first, tail, taking, known_head, sending, sent_before, carries }
    }

    pub(super) fn clear(&self) {
        for word in [&self.tail, &self.taking, &self.known_head, &self.sending] {
            word.store(0, Ordering::Relaxed);
        }
        self.first.store(0, Ordering::Relaxed);
        self.carry_nothing();
        self.lock.clear();
    }

    /// Whether messages may have a manifest.
    pub(super) fn may_carry(&self) -> bool {
        self.carries.load(Ordering::Relaxed) != 0
    }

    /// No message has one.
    pub(super) fn carry_nothing(&self) {
        self.carries.store(0, Ordering::Release);
    }

    pub(super) fn put<S: Segments, P>(
        &self,
        actor: &Actor<'_, S, P>,
        consumers: &Consumers,
        most: u32,
        draft: &Draft<'_>,
    ) -> Result<(), PutError> {
        let segments = actor.segments;
        let tail = Cursor::from_word(self.tail.load(Ordering::Relaxed));
        if self.is_full(consumers, tail, most) {
            return Err(PutError::Full);
        }
        let size = draft.size().filter(|size| *size <= segments.room()).ok_or(PutError::TooLong)?;
        let fits = |tail: &Cursor| tail.offset.checked_add(size).is_some_and(|end| end <= segments.room());
        let (segment, cursor) = match tail.segment {
            Some(segment) if fits(&tail) => (segment, tail),
            _ => {
                let next = self.extend(actor, consumers, tail)?;
                (next, Cursor::at_start(next, tail.count))
            }
        };
        segments.back(segment, cursor.offset + size).map_err(|NoSpace| PutError::NoSpace)?;
        draft.write(segments, segment, cursor.offset);
        if let Some(first) = draft.large {
            self.hand_over(actor, first, tail)?;
        }
        if draft.manifest > 0 {
            self.carries.store(1, Ordering::Relaxed);
        }
        segments.may_die();
        self.tail.store(cursor.after(size).word(), Ordering::Release);
        segments.may_die();
        if cursor.offset == 0 {
            self.taking.store(Moving::NOTHING, Ordering::Release);
        }
        if draft.large.is_some() {
            self.sending.store(Moving::NOTHING, Ordering::Release);
        }
        Ok(())
    }

    /// Whether `most` messages are there.
    #[inline]
    fn is_full(&self, consumers: &Consumers, tail: Cursor, most: u32) -> bool {
        if tail.since(Cursor::from_word(self.known_head.load(Ordering::Relaxed))) < most {
            return false;
        }
        // Relaxed: nothing that a consumer has read is written again before its segment was given back.
        let head = consumers.head.load(Ordering::Relaxed);
        self.known_head.store(head, Ordering::Relaxed);
        tail.since(Cursor::from_word(head)) >= most
    }

    /// Takes a segment from the arena and links it behind the last one.
    #[cold]
    fn extend<S: Segments, P>(
        &self,
        actor: &Actor<'_, S, P>,
        consumers: &Consumers,
        tail: Cursor,
    ) -> Result<Segment, PutError> {
        let segments = actor.segments;
        let has_room_for_end = tail.segment.filter(|_| tail.offset + HEADER <= segments.room());
        if let Some(last) = has_room_for_end {
            segments.back(last, tail.offset + HEADER).map_err(|NoSpace| PutError::NoSpace)?;
            Draft { kind: record::END, manifest: 0, parts: &[], large: None }.write(
                segments,
                last,
                tail.offset,
            );
        }
        let spare = Segment::new(consumers.spare.load(Ordering::Relaxed));
        let next = take_free(segments, spare, Owner::Queue(actor.queue), |moving| {
            note::<S>(&self.taking, moving);
            segments.may_die();
        });
        let next = next.ok_or(PutError::NoSpace)?.segment;
        segments.may_die();
        segments.link(next).ok_or(PutError::Corrupt)?.store(0, Ordering::Relaxed);
        let link = match tail.segment {
            Some(last) => segments.link(last).ok_or(PutError::Corrupt)?,
            None => &self.first,
        };
        link.store(next.number(), Ordering::Relaxed);
        segments.may_die();
        Ok(next)
    }

    /// The segments of a large message become the queue's, just before it is published.
    fn hand_over<S: Segments, P>(
        &self,
        actor: &Actor<'_, S, P>,
        first: Moving,
        tail: Cursor,
    ) -> Result<(), PutError> {
        self.sent_before.store(tail.count, Ordering::Relaxed);
        note::<S>(&self.sending, first);
        actor.segments.may_die();
        let has_changed = change(
            actor.segments,
            first.owned_by(Owner::Process(actor.own)),
            first.owned_by(Owner::Queue(actor.queue)),
        );
        if has_changed { Ok(()) } else { Err(PutError::Corrupt) }
    }

    /// A segment that was taken and is not in the chain goes back, and so do those of a large message that is not in the queue.
    pub(super) fn repair<S: Segments, P>(&self, actor: &Actor<'_, S, P>) {
        let tail = Cursor::from_word(self.tail.load(Ordering::Relaxed));
        if let Some(taking) = Moving::from_word(self.taking.load(Ordering::Relaxed))
            && tail.segment != Some(taking.segment)
        {
            chain::free(actor.segments, taking.owned_by(Owner::Queue(actor.queue)));
        }
        self.taking.store(Moving::NOTHING, Ordering::Release);
        if let Some(sending) = Moving::from_word(self.sending.load(Ordering::Relaxed))
            && tail.count == self.sent_before.load(Ordering::Relaxed)
        {
            chain::take_back(actor.segments, sending, actor.queue, actor.own);
        }
        self.sending.store(Moving::NOTHING, Ordering::Release);
    }
}
