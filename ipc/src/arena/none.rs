//! In place of the arena in loom's models, which know no memory but their own.

use crate::Result;
use std::os::fd::OwnedFd;

/// Does nothing.
pub(crate) fn make_sure() -> Result<()> {
    Ok(())
}

/// Nothing.
pub(crate) fn offer() -> Result<(Vec<u8>, Vec<OwnedFd>)> {
    Ok((Vec::new(), Vec::new()))
}

/// Does nothing.
pub(crate) fn adopt(_reason: &[u8], _files: Vec<OwnedFd>) {}

/// Does nothing.
pub(crate) fn share_before_fork() {}
