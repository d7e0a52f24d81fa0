//! Whether a process is gone: it has stopped storing, for good.
//!
//! The kernel's mark on a word of a process says only that one of its threads has ended. Another one may go on storing from
//! inside a system call for as long as that takes. Its pidfd becomes readable when the last thread has left the memory of the
//! process, so that is what is asked. A pid that was given to somebody else is told by the start time.

use crate::sys::fd::is_hung_up;
use crate::sys::process::{pidfd_open, start_time};
use crate::{Error, Result};
use nix::libc;
use std::os::fd::{AsFd, OwnedFd};

/// Bits of a start time that are kept: with clock ticks of 10 ms, it goes round after 46 hours. Two processes with the same
/// pid and the same such number would be taken for one; that would let others wait for the wrong one, and no more.
pub(super) const START_BITS: u32 = 24;

/// A process as the kernel knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(super) pid: u32,
    /// The low bits of its start time.
    pub(super) start: u32,
}

/// What is known of a process.
#[derive(Debug)]
pub(crate) enum Presence {
    /// It has stopped storing, for good.
    Gone,
    /// It is there, or it is dying. The pidfd becomes readable when it is gone.
    Here(OwnedFd),
    /// There is no way to tell now, for want of a descriptor or of rights. So it has to be taken for being there.
    Unknown,
}

impl Identity {
    /// This process.
    pub(crate) fn own() -> Result<Self> {
        Self::of(std::process::id().cast_signed()).ok_or_else(|| Error::NoSharedMemory {
            reason: "/proc does not say when this process was started: mount it".to_owned(),
        })
    }

    /// The process with this pid now, which may be a zombie; `None`: there is none.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        start_time(pid).map(|start| Self { pid: pid.unsigned_abs(), start: short(start) })
    }

    /// Whether it was started earlier, by a clock tick or more. Wrong for two between whose starts a day lies: their times go
    /// round.
    pub(super) fn is_older_than(self, other: Self) -> bool {
        let later = other.start.wrapping_sub(self.start) % (1 << START_BITS);
        (1..1 << (START_BITS - 1)).contains(&later)
    }

    /// Whether it is gone.
    pub(crate) fn presence(self) -> Presence {
        let pid = self.pid.cast_signed();
        let pidfd = match pidfd_open(pid) {
            Ok(pidfd) => pidfd,
            // No such process; or the number is a thread's now, and so no process has it.
            Err(error) => match error.raw_os_error() {
                Some(libc::ESRCH | libc::EINVAL | libc::ENOENT) => return Presence::Gone,
                _ => return Presence::Unknown,
            },
        };
        // Asked after the opening: if it is the right one now, it was so then.
        let is_other = start_time(pid).is_some_and(|start| short(start) != self.start);
        match is_hung_up(pidfd.as_fd()) {
            _ if is_other => Presence::Gone,
            Ok(true) => Presence::Gone,
            Ok(false) => Presence::Here(pidfd),
            Err(_) => Presence::Unknown,
        }
    }
}

fn short(start: u64) -> u32 {
    // Within 32 bits by the mask.
    (start & ((1 << START_BITS) - 1)) as u32
}
