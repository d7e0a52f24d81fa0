//! In place of the arena in loom's models, which know no memory but their own.

pub(crate) mod cell;
mod holders;
mod models;
mod state;

use crate::Result;
use cell::Place;
use serde::{Deserialize, Serialize};
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

/// There is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Handle {}

/// There is none.
#[derive(Debug)]
pub(crate) enum Pin {}

impl Pin {
    /// There is none.
    pub(crate) fn leave(self) {}
}

/// Nothing.
pub(crate) struct Inheritance;

impl Inheritance {
    /// Does nothing.
    pub(crate) fn leave(self) {}

    /// None.
    pub(crate) fn places(&self) -> Vec<Place> {
        Vec::new()
    }
}

/// Does nothing.
pub(crate) fn pins_for_copy() -> Inheritance {
    Inheritance
}

/// Does nothing.
pub(crate) fn inherit(_places: &[Place]) {}
