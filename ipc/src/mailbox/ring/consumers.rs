//! The side of a ring that gets.

use super::producers::Producers;
use super::{Actor, GetError, Got};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::mailbox::chain::{self, Chain};
use crate::mailbox::record::{LARGE, Record};
use crate::mailbox::segment::{Cursor, Moving, Owner, Segment, Segments, State, change, note};
use crate::sync::lock::Lock;

/// Written under `lock` alone, on cache lines of their own.
#[repr(C, align(64))]
#[derive(Debug)]
pub(super) struct Consumers {
    pub(super) lock: Lock,
    /// A hint for producers: the segment that was given back last, warm in the cache.
    pub(super) spare: AtomicU32,
    /// [`Cursor`] at the first message: the store that takes a message. Release, behind the journal; pairs with the Acquire of
    /// [`Ring::len`](super::Ring::len).
    pub(super) head: AtomicU64,
    /// [`Moving`]: the segment that is about to leave the chain.
    pub(super) giving: AtomicU64,
    /// `tail` as a consumer has seen it last, as for [`known_head`](Producers::known_head).
    pub(super) known_tail: AtomicU64,
    /// [`Moving`]: the first segment of the large message that is about to be taken.
    pub(super) lending: AtomicU64,
    /// The count of `head` before that is done. Written before `lending`.
    lent_before: AtomicU32,
}

/// A message that was taken.
#[derive(Debug)]
pub(super) enum Taken {
    /// It was copied.
    Copied(Got),
    /// It lies in segments that are this process's now.
    Lent(Chain),
}

impl Consumers {
    #[cfg(test)]
    pub(super) fn new() -> Self {
        let [head, giving, known_tail, lending] = [(); 4].map(|()| AtomicU64::new(0));
        let [spare, lent_before] = [(); 2].map(|()| AtomicU32::new(0));
        Self { lock: Lock::new(), spare, head, giving, known_tail, lending, lent_before }
    }

    pub(super) fn clear(&self) {
        for word in [&self.head, &self.giving, &self.known_tail, &self.lending] {
            word.store(0, Ordering::Relaxed);
        }
        self.spare.store(0, Ordering::Relaxed);
        self.lock.clear();
    }

    pub(super) fn get<S: Segments, P>(
        &self,
        actor: &Actor<'_, S, P>,
        producers: &Producers,
        start: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Taken, GetError> {
        let segments = actor.segments;
        let head = Cursor::from_word(self.head.load(Ordering::Relaxed));
        let tail = self.tail_after(producers, head).ok_or(GetError::Empty)?;
        let record = first_record(actor, producers, head, tail).ok_or(GetError::Corrupt)?;
        let large = (record.kind == LARGE)
            .then(|| Chain::read(segments, &record).ok_or(GetError::Corrupt))
            .transpose()?;
        match &large {
            Some(chain) => self.announce(actor, chain, head, start, out)?,
            None => record.copy(segments, start, out)?,
        }
        segments.may_die();
        self.move_on(actor, head, &record);
        let Some(chain) = large else {
            let (length, manifest) = (record.length as usize, record.manifest as usize);
            return Ok(Taken::Copied(Got { length, manifest }));
        };
        let is_ours = change(
            segments,
            chain.first.owned_by(Owner::Queue(actor.queue)),
            chain.first.owned_by(Owner::Process(actor.own)),
        );
        segments.may_die();
        self.lending.store(Moving::NOTHING, Ordering::Release);
        if is_ours { Ok(Taken::Lent(chain)) } else { Err(GetError::Corrupt) }
    }

    /// The store that takes the message; a segment that is left behind is given back.
    #[inline]
    fn move_on<S: Segments, P>(&self, actor: &Actor<'_, S, P>, head: Cursor, record: &Record) {
        let segments = actor.segments;
        let left = head.segment.filter(|left| *left != record.segment);
        let giving = left.and_then(|segment| {
            let state = State::from_word(segments.state(segment)?.load(Ordering::Relaxed))?;
            Some(Moving { segment, version: state.version })
        });
        if let Some(giving) = giving {
            note::<S>(&self.giving, giving);
            segments.may_die();
        }
        self.head.store(record.cursor.after(record.size).word(), Ordering::Release);
        segments.may_die();
        if let Some(giving) = giving {
            chain::free(segments, giving.owned_by(Owner::Queue(actor.queue)));
            self.spare.store(giving.segment.number(), Ordering::Relaxed);
            segments.may_die();
            self.giving.store(Moving::NOTHING, Ordering::Release);
        }
    }

    /// Says that a large message is about to be taken, for which there has to be memory.
    fn announce<S: Segments, P>(
        &self,
        actor: &Actor<'_, S, P>,
        chain: &Chain,
        head: Cursor,
        start: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<(), GetError> {
        let rest = chain.length.saturating_sub(start.len());
        out.try_reserve(rest).map_err(|_| GetError::NoMemory)?;
        self.lent_before.store(head.count, Ordering::Relaxed);
        note::<S>(&self.lending, chain.first);
        actor.segments.may_die();
        Ok(())
    }

    /// Moves the head past the next message that has a manifest, which it gives. Each segment is looked at once at most, wherever
    /// links may lead.
    pub(super) fn pass<S: Segments, P>(
        &self,
        actor: &Actor<'_, S, P>,
        producers: &Producers,
    ) -> Option<Vec<u8>> {
        let segments = actor.segments;
        let mut head = Cursor::from_word(self.head.load(Ordering::Relaxed));
        let tail = Cursor::from_word(producers.tail.load(Ordering::Acquire));
        let mut left = segments.used();
        while head.count != tail.count {
            let record = first_record(actor, producers, head, tail)?;
            if head.segment != Some(record.segment) {
                left = left.checked_sub(1)?;
            }
            head = record.cursor.after(record.size);
            if record.manifest == 0 {
                continue;
            }
            let manifest = match record.kind {
                LARGE => Chain::read(segments, &record)
                    .and_then(|chain| chain.read_manifest(segments, Owner::Queue(actor.queue))),
                _ => record.read_manifest(segments),
            };
            self.head.store(head.word(), Ordering::Release);
            segments.may_die();
            if manifest.is_some() {
                return manifest;
            }
        }
        None
    }

    /// The tail, as far as this consumer has to know it; `None`: there is no message.
    #[inline]
    fn tail_after(&self, producers: &Producers, head: Cursor) -> Option<Cursor> {
        let tail = Cursor::from_word(self.known_tail.load(Ordering::Relaxed));
        if tail.count != head.count {
            return Some(tail);
        }
        // Acquire pairs with the Release of `Producers::put`: the record, the links and what they link are there.
        let tail = producers.tail.load(Ordering::Acquire);
        self.known_tail.store(tail, Ordering::Relaxed);
        Some(Cursor::from_word(tail)).filter(|tail| tail.count != head.count)
    }

    /// A segment that has left the chain goes back, and so do those of a large message that was taken.
    pub(super) fn repair<S: Segments, P>(&self, actor: &Actor<'_, S, P>) {
        let head = Cursor::from_word(self.head.load(Ordering::Relaxed));
        if let Some(giving) = Moving::from_word(self.giving.load(Ordering::Relaxed))
            && head.segment != Some(giving.segment)
        {
            chain::free(actor.segments, giving.owned_by(Owner::Queue(actor.queue)));
        }
        self.giving.store(Moving::NOTHING, Ordering::Release);
        if let Some(lending) = Moving::from_word(self.lending.load(Ordering::Relaxed))
            && head.count != self.lent_before.load(Ordering::Relaxed)
        {
            chain::take_back(actor.segments, lending, actor.queue, actor.own);
        }
        self.lending.store(Moving::NOTHING, Ordering::Release);
    }
}

/// Where the message at `head` is; `None` if what is written there makes no sense.
fn first_record<S: Segments, P>(
    actor: &Actor<'_, S, P>,
    producers: &Producers,
    head: Cursor,
    tail: Cursor,
) -> Option<Record> {
    let segments = actor.segments;
    let here = head.segment.and_then(|segment| Record::read(segments, segment, head));
    if let Some(record) = here.filter(Record::is_message) {
        let is_before_tail = tail.segment != head.segment || record.cursor.offset < tail.offset;
        return is_before_tail.then_some(record);
    }
    // Only behind the last record of a segment, and there are more.
    if head.segment == tail.segment {
        return None;
    }
    let link = match head.segment {
        Some(segment) => segments.link(segment)?,
        None => &producers.first,
    };
    let next = Segment::new(link.load(Ordering::Relaxed))?;
    let state = State::from_word(segments.state(next)?.load(Ordering::Relaxed))?;
    let record = Record::read(segments, next, Cursor::at_start(next, head.count))?;
    (state.owner == Owner::Queue(actor.queue) && record.is_message()).then_some(record)
}
