//! Memory apart from that of the family, for processes whose code nobody trusts not to write wildly.
//!
//! Such processes are given one file in place of the family's, which they share with each other and with what they start. The
//! file that the family shares reaches a process by its start alone (see [`memory`](super::memory)): so they have neither
//! a descriptor nor a mapping of it, and what they write ends in their own. It keeps apart faults, not malice: a process of the
//! same user may still trace another one.
//!
//! Invariants:
//! - a copy by fork has all that is mapped here, so it is never apart: such a start is refused;
//! - a handle of an object is a place in one memory, and means nothing in another one. So none crosses such a [`Border`], nor
//!   does a descriptor that would be left with a process on one side of it; it is refused by whoever sends, who loses nothing.

use super::{Plan, StartMethod};
use crate::gate::{self, PrivateFd};
use crate::{Error, Result, arena};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// Memory that is shared by all who are started with it, and by nobody else. It ends with this, its clones, and those processes.
#[derive(Debug, Clone)]
pub struct Apart(Arc<PrivateFd>);

impl Apart {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// No descriptor or no memory left.
    pub fn new() -> Result<Self> {
        let _passage = gate::enter("making memory that processes share");
        Ok(Self(Arc::new(arena::make()?.into())))
    }

    /// What a child is given.
    pub(super) fn offer(&self) -> Result<OwnedFd> {
        self.0.as_fd().try_clone_to_owned().map_err(|e| Error::os("duplicate a descriptor", e))
    }
}

impl Plan {
    /// Says whether the child may be a copy of this process.
    ///
    /// # Errors
    ///
    /// [`Error::NotSupported`]: it would have all that is mapped here.
    pub(super) fn check_copy(&self) -> Result<()> {
        if self.apart.is_none() {
            return Ok(());
        }
        let reason = "a copy has all the memory of its parent, that of locks and queues among it, so it cannot be isolated: \
                      use `spawn` or `forkserver`";
        Err(Error::NotSupported { method: StartMethod::Fork.name(), reason: reason.to_owned() })
    }
}

/// What lies between a process and those that work for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Border {
    /// Nothing: they share their memory.
    Open,
    /// Each side has a memory of its own.
    Closed,
}

impl Border {
    /// Between this process and those that are started with this memory, or with ours.
    #[must_use]
    pub fn of(apart: Option<&Apart>) -> Self {
        if apart.is_some() { Self::Closed } else { Self::Open }
    }

    /// Says whether a message may cross: `what`, with or without handles of objects and descriptors that were deposited.
    ///
    /// # Errors
    ///
    /// [`Error::Isolated`].
    #[inline]
    pub fn check(self, what: &'static str, has_handles: bool) -> Result<()> {
        if has_handles && self == Self::Closed { Err(Error::Isolated { what }) } else { Ok(()) }
    }
}
