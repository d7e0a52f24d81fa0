//! A lock of the family: a cell of the arena, and handles of it that travel.

use super::Futex;
use super::lock::{Acquired, Lock, NotHeld};
use super::tasks;
use crate::arena::Handle;
use crate::arena::cell::Kind;
use crate::liveness::ProcessId;
use crate::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::time::Instant;

/// How a lock was found by whoever acquired it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nobody held it.
    Free,
    /// Its holder ended without releasing it.
    Abandoned,
}

/// A handle of a lock that processes share. Handles may be encoded and decoded anywhere in the family.
#[derive(Clone)]
pub struct SharedLock {
    handle: Handle,
    lock: &'static Lock,
}

/// Who holds a lock: in a copy of the process by fork, it is worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder(ProcessId);

impl SharedLock {
    /// Makes a lock that nobody holds.
    ///
    /// # Errors
    ///
    /// [`Error::NoSharedMemory`], [`Error::TooManyProcesses`], [`Error::TooManyObjects`].
    pub fn new() -> Result<Self> {
        Self::of(Handle::make(Kind::Lock)?)
    }

    fn of(handle: Handle) -> Result<Self> {
        let lock = handle.words().ok_or_else(|| handle.gone())?;
        Ok(Self { handle, lock })
    }

    /// Acquires it, and waits while it is held; `None` as deadline waits without bound. `None`: the deadline came first.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`]; those of a process that uses shared memory for the first time, as for [`new`](Self::new).
    #[inline]
    pub fn acquire(&self, deadline: Option<Instant>) -> Result<Option<(Found, Holder)>> {
        let own = self.handle.own()?;
        Ok(self.lock.acquire(own, &Futex, deadline).map(|acquired| (found(acquired), Holder(own))))
    }

    /// Acquires it if that needs no waiting.
    ///
    /// # Errors
    ///
    /// As for [`acquire`](Self::acquire).
    #[inline]
    pub fn try_acquire(&self) -> Result<Option<(Found, Holder)>> {
        let own = self.handle.own()?;
        Ok(self.lock.try_acquire(own).map(|acquired| (found(acquired), Holder(own))))
    }

    /// As [`acquire`](Self::acquire), and waits without blocking the thread. Given up, it was not acquired.
    ///
    /// # Errors
    ///
    /// As for [`acquire`](Self::acquire); the thread that waits for tasks cannot be started.
    pub async fn acquire_async(&self) -> Result<(Found, Holder)> {
        if let Some(acquired) = self.try_acquire()? {
            return Ok(acquired);
        }
        let take = || match self.handle.own() {
            Ok(own) => self.lock.try_acquire_woken(own).map(|acquired| Ok((found(acquired), Holder(own)))),
            Err(error) => Some(Err(error)),
        };
        tasks::wait_for(self.lock, take).await?
    }

    /// Releases it, whoever holds it, or held it when it ended.
    ///
    /// # Errors
    ///
    /// [`Error::NotHeld`], [`Error::Gone`].
    pub fn release(&self) -> Result<()> {
        self.handle.assert_there()?;
        self.lock.release(&Futex).map_err(|NotHeld| Error::NotHeld)
    }

    /// Releases it for a holder that is done, if it still is that one's; in a copy of the holder by fork, which holds nothing, it
    /// does nothing.
    #[inline]
    pub fn release_by(&self, holder: Holder) {
        if self.handle.arena().inside() == Some(holder.0) {
            self.lock.release_own(holder.0, &Futex);
        }
    }

    /// Whether somebody holds it now, or ended with it.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.lock.holder().is_some()
    }
}

fn found(acquired: Acquired) -> Found {
    match acquired {
        Acquired::Released => Found::Free,
        Acquired::TakenOver(_) => Found::Abandoned,
    }
}

impl fmt::Debug for SharedLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedLock")
            .field("place", &self.handle)
            .field("lock", self.lock)
            .finish_non_exhaustive()
    }
}

impl Serialize for SharedLock {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.handle.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedLock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::of(Handle::deserialize_as(Kind::Lock, deserializer)?).map_err(de::Error::custom)
    }
}
