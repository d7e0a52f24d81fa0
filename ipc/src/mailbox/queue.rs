//! A queue of the family: words in a cell, a ring in its annex, and handles that travel.
//!
//! States of a handle, together with its clones: open -> closed, by this process and for this process only. The queue goes on
//! for everybody else.
//!
//! Nothing here is held while a process sleeps or runs code of the user, and no lock of this process is taken, so a fork
//! may happen at any time.

use super::chain::Chain;
use super::record::longest_inline;
use super::ring::{Actor, GetError, Got, PutError, Ring};
use crate::arena::cell::Kind;
use crate::arena::segments::SegmentTable;
use crate::arena::{self, Handle};
use crate::atomic::{AtomicU32, Ordering};
use crate::spin::{self, Spin};
use crate::sync::eventcount::EventCount;
use crate::sync::{ALL, Futex};
use crate::{Error, Result};
use nix::errno::Errno;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::{Duration, Instant};

/// Most messages of a queue that has no bound of its own.
pub const MOST_MESSAGES: u32 = super::segment::MOST_MESSAGES;

/// How long the lock of a queue is waited for by somebody who does not wait for messages. It is held for a copy; only a process
/// that was stopped holds it for longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many bytes of messages may lie there before whoever puts lets those catch up who get: what fits into caches, and takes
/// no memory that was not used before.
const AHEAD: usize = 2 << 20;

/// With less there, it is looked again after so many bytes: the line of the consumers is theirs.
const UNSEEN: u32 = 256 << 10;

/// Sets how many bytes all queues of the family may take together, in whole segments: at least one.
///
/// # Errors
///
/// [`Error::NoSharedMemory`].
pub fn set_limit(bytes: u64) -> Result<()> {
    arena::arena()?.annexes().segments().set_limit(bytes);
    Ok(())
}

/// What a queue has in its cell.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Words {
    /// Where getters sleep.
    items: EventCount,
    /// Where putters of a bounded queue sleep.
    space: EventCount,
    /// How many messages it takes; 0: it has no bound. Written by its maker, before anybody else has a handle.
    most: AtomicU32,
}

impl Words {
    /// What a sweep does: nobody sleeps any more, whoever did looks again.
    pub(crate) fn wake_all(&self) {
        self.items.reset(&Futex);
        self.space.reset(&Futex);
    }
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Never,
    /// Until then.
    Until(Instant),
    /// Without bound.
    Forever,
}

impl Wait {
    /// For this long. A timeout beyond the end of time is none.
    #[must_use]
    pub fn within(timeout: Duration) -> Self {
        Instant::now().checked_add(timeout).map_or(Self::Forever, Self::Until)
    }

    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Never => Some(Instant::now() + PATIENCE),
            Self::Until(deadline) => Some(deadline),
            Self::Forever => None,
        }
    }
}

/// A handle of a queue that processes share. Handles may be encoded and decoded anywhere in the family.
#[derive(Clone)]
pub struct SharedQueue {
    handle: Handle,
    words: &'static Words,
    ring: &'static Ring,
    segments: &'static SegmentTable,
    /// How many messages it takes.
    most: u32,
    local: Arc<Local>,
}

/// What clones of a handle have in common.
#[derive(Debug, Default)]
struct Local {
    /// Not 0: closed.
    closed: AtomicU32,
    /// What getters and putters have learned about their waits.
    getting: Mutex<Spin>,
    putting: Mutex<Spin>,
    /// How many bytes may be put before it is looked how many lie there; and how many messages had been taken out when this
    /// process last let others catch up.
    unseen: AtomicU32,
    taken: AtomicU32,
}

impl SharedQueue {
    /// Makes an empty queue that takes up to `most` messages, or [`MOST_MESSAGES`].
    ///
    /// # Errors
    ///
    /// [`Error::NoSharedMemory`], [`Error::TooManyProcesses`], [`Error::TooManyObjects`].
    pub fn new(most: Option<NonZeroU32>) -> Result<Self> {
        Self::make(Handle::make(Kind::Queue)?, most)
    }

    /// As [`new`](Self::new), in memory of its own: who is given this queue and nothing else of the family has none of its memory. It
    /// takes values alone, and has a budget of its own, which is that of a family.
    ///
    /// # Errors
    ///
    /// No descriptor, memory or addresses left.
    pub fn isolated(most: Option<NonZeroU32>) -> Result<Self> {
        Self::make(Handle::make_foreign(Kind::Queue)?, most)
    }

    /// Whether it has memory of its own.
    #[inline]
    pub(super) fn is_isolated(&self) -> bool {
        self.handle.is_foreign()
    }

    fn make(handle: Handle, most: Option<NonZeroU32>) -> Result<Self> {
        if let (Some(most), Some(words)) = (most, handle.words::<Words>()) {
            words.most.store(most.get().min(MOST_MESSAGES), Ordering::Relaxed);
        }
        Self::of(handle)
    }

    fn of(handle: Handle) -> Result<Self> {
        let annexes = handle.arena().annexes();
        let (words, ring) = (handle.words::<Words>(), annexes.ring(handle.index()));
        let (Some(words), Some(ring)) = (words, ring) else { return Err(handle.gone()) };
        let most = NonZeroU32::new(words.most.load(Ordering::Relaxed));
        let most = most.map_or(MOST_MESSAGES, |most| most.get().min(MOST_MESSAGES));
        Ok(Self { handle, words, ring, segments: annexes.segments(), most, local: Arc::default() })
    }

    /// Appends a message that is made of these parts.
    ///
    /// # Errors
    ///
    /// [`Error::Full`] when the time is over, and at once with [`MOST_MESSAGES`]; [`Error::OutOfSpace`], [`Error::QueueClosed`]; those of a process that uses
    /// shared memory for the first time, as for [`new`](Self::new). Nothing was put then.
    pub fn put(&self, parts: &[&[u8]], wait: Wait) -> Result<()> {
        self.put_carrying(0, parts, wait)
    }

    /// As [`put`](Self::put); the message begins with so many bytes of manifest.
    pub(super) fn put_carrying(&self, manifest: usize, parts: &[&[u8]], wait: Wait) -> Result<()> {
        self.assert_open()?;
        let actor = self.actor(wait)?;
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length <= longest_inline(self.segments) {
            return self.put_by(|| self.ring.put(&actor, self.most, manifest, parts), length, wait);
        }
        if wait == Wait::Never && self.is_full() {
            return Err(Error::Full);
        }
        // While this is written, nothing is locked.
        let chain = Chain::write(self.segments, actor.own, manifest, parts);
        let chain = chain.map_err(|error| self.put_error(error, length, wait))?;
        let put = self.put_by(|| self.ring.put_large(&actor, self.most, &chain), length, wait);
        put.inspect_err(|_| chain.free(self.segments, actor.own))
    }

    #[cfg(test)]
    pub(crate) fn put_with_manifest_for_tests(&self, manifest: usize, parts: &[&[u8]]) {
        self.put_carrying(manifest, parts, Wait::Never).unwrap();
    }

    fn put_by(&self, mut put: impl FnMut() -> Result<(), PutError>, length: usize, wait: Wait) -> Result<()> {
        let act = || match put() {
            // A queue without a bound of its own waits for nobody.
            Err(PutError::Full) if self.most < MOST_MESSAGES => self.assert_open().err().map(Err),
            done => Some(done.map_err(|error| self.put_error(error, length, wait))),
        };
        let is_possible = || self.ring.len() < self.most || self.is_closed();
        let has_more = || self.ring.known_to_producers() < self.most;
        let done = self.attempt(act, is_possible, has_more, &self.words.space, &self.local.putting, wait);
        match done {
            Some(Ok(())) => {
                self.words.items.notify(&Futex, 1);
                self.let_catch_up(length);
                Ok(())
            }
            Some(Err(error)) => {
                // A wake-up may have been for us.
                self.words.space.notify(&Futex, 1);
                Err(error)
            }
            None => Err(Error::Full),
        }
    }

    /// Far ahead of others who are getting right now, this gives them at most 10 us for each 256 KiB that are put: so the messages stay
    /// in the caches. It is no waiting: if nobody has got anything since the last time, there is nobody to let catch up.
    #[inline]
    fn let_catch_up(&self, length: usize) {
        let size = length.saturating_add(8);
        let unseen = self.local.unseen.load(Ordering::Relaxed) as usize;
        if let Some(left) = unseen.checked_sub(size) {
            self.local.unseen.store(left as u32, Ordering::Relaxed);
        } else {
            self.local.unseen.store(UNSEEN, Ordering::Relaxed);
            if self.len() > AHEAD / size {
                self.pause(AHEAD / size);
            }
        }
    }

    #[cold]
    fn pause(&self, enough: usize) {
        let taken = self.ring.taken();
        if self.local.taken.swap(taken, Ordering::Relaxed) == taken {
            return;
        }
        let until = Instant::now() + spin::LIMIT;
        while self.len() > enough && Instant::now() < until {
            std::thread::yield_now();
        }
    }

    /// Takes the first message out: it fills `start`, and the rest is appended to `out`. A closed handle is no obstacle, but
    /// waits for nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Empty`] when the time is over, [`Error::QueueClosed`] if it is closed and nothing is left; those of a process
    /// that uses shared memory for the first time, as for [`new`](Self::new).
    pub fn take(&self, start: &mut [u8], out: &mut Vec<u8>, wait: Wait) -> Result<Got> {
        let actor = self.actor(wait)?;
        let get = || match self.ring.get(&actor, start, out) {
            Err(GetError::Empty) => {
                self.segments.trim_while(actor.own, || self.is_empty());
                self.assert_open().err().map(Err)
            }
            done => Some(done.map_err(|error| self.get_error(error, wait))),
        };
        let is_possible = || self.ring.len() > 0 || self.is_closed();
        let has_more = || self.ring.known_to_consumers() > 0;
        let done = self.attempt(get, is_possible, has_more, &self.words.items, &self.local.getting, wait);
        match done {
            Some(Ok(got)) => {
                if self.most < MOST_MESSAGES {
                    self.words.space.notify(&Futex, 1);
                }
                self.segments.trim(actor.own);
                Ok(got)
            }
            Some(Err(error)) => {
                // A wake-up may have been for us.
                self.words.items.notify(&Futex, 1);
                Err(error)
            }
            None => Err(Error::Empty),
        }
    }

    /// Acts, or waits until that is possible; `None`: the time is over. `has_more`: whether it would be possible once more.
    fn attempt<T>(
        &self,
        mut act: impl FnMut() -> Option<T>,
        is_possible: impl Fn() -> bool,
        has_more: impl Fn() -> bool,
        event: &EventCount,
        spin: &Mutex<Spin>,
        wait: Wait,
    ) -> Option<T> {
        let done = act();
        if done.is_some() || wait == Wait::Never {
            return done;
        }
        // Looked at without the lock, which others may need.
        let mut look = || if is_possible() { act() } else { None };
        let spin = match spin.try_lock() {
            Ok(spin) => Some(spin),
            Err(TryLockError::Poisoned(spin)) => Some(spin.into_inner()),
            // Somebody else looks already.
            Err(TryLockError::WouldBlock) => None,
        };
        let found = spin.and_then(|mut spin| {
            let found = spin.look(&mut look)?;
            spin.has_left(has_more());
            Some(found)
        });
        found.or_else(|| event.wait_for(&Futex, wait.deadline(), look))
    }

    #[inline]
    fn actor(&self, wait: Wait) -> Result<Actor<'_, SegmentTable, Futex>> {
        let (own, deadline) = (self.handle.own()?, wait.deadline());
        Ok(Actor { queue: self.handle.index(), own, segments: self.segments, park: &Futex, deadline })
    }

    #[cold]
    fn put_error(&self, error: PutError, length: usize, wait: Wait) -> Error {
        match error {
            PutError::Full => Error::Full,
            PutError::Busy => busy(wait).unwrap_or(Error::Full),
            PutError::NoSpace | PutError::TooLong => Error::OutOfSpace {
                want: length as u64,
                have: self.segments.in_use(),
                limit: self.segments.limit(),
            },
            PutError::Corrupt => Error::Malformed { what: "queue" },
        }
    }

    #[cold]
    fn get_error(&self, error: GetError, wait: Wait) -> Error {
        match error {
            GetError::Empty => Error::Empty,
            GetError::Busy => busy(wait).unwrap_or(Error::Empty),
            GetError::NoMemory => Error::os("take a message out of a queue", Errno::ENOMEM),
            GetError::Corrupt => Error::Malformed { what: "queue" },
        }
    }

    /// Where getters sleep.
    pub(super) fn items(&self) -> &'static EventCount {
        &self.words.items
    }

    /// Where putters sleep.
    pub(super) fn space(&self) -> &'static EventCount {
        &self.words.space
    }

    /// Number of messages, exact at some moment during the call.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ring.len() as usize
    }

    /// Whether there is no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it takes no more messages.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.ring.len() >= self.most
    }

    /// Closes this handle and its clones: whoever waits with one of them stops waiting. Other handles are not concerned.
    pub fn close(&self) {
        // Release pairs with the Acquire in `is_closed`.
        self.local.closed.store(1, Ordering::Release);
        [&self.words.items, &self.words.space].into_iter().for_each(|event| event.notify(&Futex, ALL));
    }

    /// Whether this handle was closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.local.closed.load(Ordering::Acquire) != 0
    }

    pub(super) fn assert_open(&self) -> Result<()> {
        if self.is_closed() { Err(Error::QueueClosed) } else { Ok(()) }
    }
}

/// The lock of a queue was held for all the time; `None`: the caller gave that time.
fn busy(wait: Wait) -> Option<Error> {
    let what = "getting at the queue, which a process that is stopped holds,";
    (wait == Wait::Never).then_some(Error::TimedOut { what, after: PATIENCE })
}

impl fmt::Debug for SharedQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedQueue")
            .field("place", &self.handle)
            .field("len", &self.len())
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}

impl Serialize for SharedQueue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedQueue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(Handle::deserialize_as(Kind::Queue, deserializer)?).map_err(de::Error::custom)
    }
}
