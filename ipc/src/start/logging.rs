//! Where the log of this process goes: see [`crate::log`]. A step of starting.
//!
//! A child of a program without a subscriber gets no bytes and no descriptor.

use super::Plan;
use super::step::{Part, Step};
use crate::{Result, log};
use std::os::fd::OwnedFd;

/// Hands the child its end of the log.
pub(super) const STEP: Step = Step { name: "log", prepare, adopt };

fn prepare(_plan: &Plan) -> Result<Part> {
    let offer = log::offer()?;
    Ok(offer.map(|(bytes, handles)| Part { bytes, handles, ..Part::default() }).unwrap_or_default())
}

fn adopt(bytes: &[u8], handles: Vec<OwnedFd>) -> Result<()> {
    if bytes.is_empty() { Ok(()) } else { log::adopt(bytes, handles) }
}
