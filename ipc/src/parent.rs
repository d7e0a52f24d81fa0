//! The process that started this one, seen from here.
//!
//! Whether it is alive is asked of getppid(2): it changes the moment that the parent ends, before its process id can be
//! given to anybody else. To wait, a pidfd is opened and getppid(2) is asked once more; if it still answers the same, the
//! pidfd can be nobody else's.

use crate::start::{Origin, origin};
use crate::sys::fd::wait_readable;
use crate::sys::process::pidfd_open;
use crate::{Error, Result};
use nix::unistd::getppid;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// The process that started this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent(&'static Origin);

/// The process that started this one; `None` in the root.
#[must_use]
pub fn parent() -> Option<Parent> {
    origin().map(Parent)
}

impl Parent {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        &self.0.name
    }

    /// Its process id, as it knew it. After its end, it may be somebody else's.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Whether it has not ended.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        u32::try_from(getppid().as_raw()) == Ok(self.0.pid)
    }

    /// Waits for its end; says whether it came before `deadline`.
    ///
    /// # Errors
    ///
    /// No descriptor left, or the kernel's answer to poll(2).
    pub fn wait(&self, deadline: Option<Instant>) -> Result<bool> {
        match self.pidfd()? {
            Some(pidfd) => wait_readable(pidfd.as_fd(), deadline)
                .map_err(|e| Error::os(format!("wait for process {}", self.0.pid), e)),
            None => Ok(true),
        }
    }

    /// `None` if it has ended.
    fn pidfd(&self) -> Result<Option<OwnedFd>> {
        let opened = pidfd_open(self.0.pid.cast_signed());
        match opened {
            _ if !self.is_alive() => Ok(None),
            Ok(pidfd) => Ok(Some(pidfd)),
            Err(error) => Err(Error::os(format!("open a pidfd for process {}", self.0.pid), error)),
        }
    }
}
