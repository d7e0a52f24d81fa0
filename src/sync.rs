//! Locks that processes share.

use crate::Result;
use procession_ipc::sync::{Found, Holder, SharedLock};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::{Duration, Instant};

/// A lock between processes. What holds it is a process, and it is not recursive.
///
/// A handle may be cloned, be an argument or a result, or be sent to any process of the family, whatever the start method (in
/// Python it can only be inherited).
///
/// When a process ends with the lock in its hands, however it ends, the next one to acquire it gets it and is told so:
/// [`LockGuard::was_abandoned`]. In Python the lock stays held for ever. Waiting costs no processor time, and a signal does
/// not end it.
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
///
/// fn crash(lock: Lock) {
///     let _guard = lock.acquire().unwrap();
///     std::process::abort();
/// }
///
/// let lock = Lock::new()?;
/// {
///     let guard = lock.acquire()?;
///     assert!(!guard.was_abandoned());
/// }
/// Process::spawn(crash, (lock.clone(),))?.join()?;
/// assert!(lock.acquire()?.was_abandoned());
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lock(SharedLock);

impl Lock {
    /// Makes a lock that nobody holds.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooManyObjects`](crate::ErrorKind::TooManyObjects); on the first use of a lock or queue in a process,
    /// [`ErrorKind::NoSharedMemory`](crate::ErrorKind::NoSharedMemory),
    /// [`ErrorKind::TooManyProcesses`](crate::ErrorKind::TooManyProcesses) and [`ErrorKind::Os`](crate::ErrorKind::Os).
    pub fn new() -> Result<Self> {
        Ok(Self(SharedLock::new()?))
    }

    /// Acquires it; waits while it is held.
    ///
    /// # Errors
    ///
    /// On the first use of a lock or queue in a process, those of [`new`](Self::new).
    #[inline]
    pub fn acquire(&self) -> Result<LockGuard<'_>> {
        loop {
            if let Some(acquired) = self.0.acquire(None)? {
                return Ok(self.guard(acquired));
            }
        }
    }

    /// Acquires it if it is not held; `None` if it is.
    ///
    /// # Errors
    ///
    /// As for [`acquire`](Self::acquire).
    #[inline]
    pub fn try_acquire(&self) -> Result<Option<LockGuard<'_>>> {
        Ok(self.0.try_acquire()?.map(|acquired| self.guard(acquired)))
    }

    /// Acquires it; waits while it is held, at most for `timeout`. `None` if it still is.
    ///
    /// # Errors
    ///
    /// As for [`acquire`](Self::acquire).
    pub fn acquire_timeout(&self, timeout: Duration) -> Result<Option<LockGuard<'_>>> {
        // A timeout beyond the end of time is none.
        let deadline = Instant::now().checked_add(timeout);
        Ok(self.0.acquire(deadline)?.map(|acquired| self.guard(acquired)))
    }

    /// Acquires it; while it is held, the task waits and not its thread. Dropped before it is ready, it did not acquire it. Any
    /// executor will do.
    ///
    /// A task that was woken to acquire the lock must run soon, or be dropped: the lock is free meanwhile, and those who sleep for it
    /// sleep on.
    ///
    /// # Errors
    ///
    /// As for [`acquire`](Self::acquire).
    pub async fn acquire_async(&self) -> Result<LockGuard<'_>> {
        Ok(self.guard(self.0.acquire_async().await?))
    }

    /// Releases it, whoever holds it: any thread of any process may, as in Python. A guard does it by itself, for its own process
    /// alone. If the holder has ended, the next one to acquire it is not told.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotHeld`](crate::ErrorKind::NotHeld) (Python's `ValueError`).
    pub fn release(&self) -> Result<()> {
        Ok(self.0.release()?)
    }

    /// Whether it is held now, or whoever held it has ended and nobody has acquired it since.
    #[doc(alias = "locked")]
    #[must_use]
    pub fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    #[inline]
    fn guard(&self, (found, holder): (Found, Holder)) -> LockGuard<'_> {
        LockGuard { lock: self, holder, found, is_kept: false }
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lock").field("is_locked", &self.is_locked()).finish()
    }
}

/// The lock is held; dropping this releases it, also when a panic does, as Python's `with`. If others have released it and acquired it since, it stays theirs.
#[derive(Debug)]
#[must_use = "the lock is released when the guard is dropped"]
pub struct LockGuard<'a> {
    lock: &'a Lock,
    holder: Holder,
    found: Found,
    is_kept: bool,
}

impl LockGuard<'_> {
    /// Whether the last holder ended without releasing the lock. Then what the lock protects is as that process left it,
    /// perhaps half changed.
    #[must_use]
    pub fn was_abandoned(&self) -> bool {
        self.found == Found::Abandoned
    }

    /// Leaves the lock held, for somebody else to [`release`](Lock::release). It is abandoned if this process ends before.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for LockGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        if !self.is_kept {
            self.lock.0.release_by(self.holder);
        }
    }
}
