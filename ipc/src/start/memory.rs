//! The memory that a family shares: see [`crate::arena`]. A step of starting.
//!
//! Every child gets it, also if nothing lies there yet: a handle may reach it at any time. It costs a descriptor, and no
//! memory before the first use.

use super::Plan;
use super::step::{Part, Step};
use crate::{Result, arena};
use std::os::fd::OwnedFd;

/// Hands the child the arena.
pub(super) const STEP: Step = Step { name: "shared memory", prepare, adopt };

fn prepare(_plan: &Plan) -> Result<Part> {
    let (bytes, handles) = arena::offer()?;
    Ok(Part { bytes, handles, ..Part::default() })
}

fn adopt(bytes: &[u8], handles: Vec<OwnedFd>) -> Result<()> {
    if !bytes.is_empty() || !handles.is_empty() {
        arena::adopt(bytes, handles);
    }
    Ok(())
}
