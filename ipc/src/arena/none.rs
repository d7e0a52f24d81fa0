//! In place of the arena in loom's models, which know no memory but their own.

pub(crate) mod cell;
mod holders;
mod models;
mod state;

use crate::deposit::Tickets;
use crate::liveness::ProcessId;
use crate::{Error, Result};
use cell::Place;
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;

/// Does nothing.
pub(crate) fn make_sure() -> Result<()> {
    Ok(())
}

/// There is none.
pub(crate) fn is_there() -> bool {
    false
}

/// Does not.
pub(crate) fn make() -> Result<OwnedFd> {
    Err(Error::NoSharedMemory { reason: "this is a model".to_owned() })
}

/// Nothing.
pub(crate) fn offer() -> Result<(Vec<u8>, Vec<OwnedFd>)> {
    Ok((Vec::new(), Vec::new()))
}

/// Does nothing.
pub(crate) fn adopt(_reason: &[u8], _files: Vec<OwnedFd>) {}

/// There is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Handle {}

/// There is none.
#[derive(Debug)]
pub(crate) enum Pin {}

impl Handle {
    /// There is none.
    pub(crate) fn place(&self) -> Place {
        match *self {}
    }
}

impl Pin {
    /// There is none.
    pub(crate) fn leave(self) {}

    /// There is none.
    pub(crate) fn place(&self) -> Place {
        match *self {}
    }
}

/// Does nothing.
pub(crate) fn take_off(_places: &[Place], _by: Option<ProcessId>) -> Tickets {
    Tickets::default()
}

/// None.
pub(crate) fn own() -> Option<ProcessId> {
    None
}

/// Nothing.
pub(crate) fn held() -> Vec<Place> {
    Vec::new()
}

/// There are none.
pub(crate) mod seat {
    use super::Place;
    use crate::Result;

    /// None.
    pub(crate) fn seat(_pid: i32, _places: &[Place]) -> Result<u32> {
        Ok(0)
    }

    /// Does nothing.
    pub(crate) fn take(_seat: u32) -> Result<()> {
        Ok(())
    }
}
