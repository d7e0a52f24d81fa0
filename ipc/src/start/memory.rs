//! The memory that a family shares: see [`crate::arena`]. A step of starting.
//!
//! Every child gets it, also if nothing lies there yet: a handle may reach it at any time. It costs a descriptor, and no
//! memory before the first use. A child that is to be [apart](super::apart) gets another file in its place; for the child, and what it
//! starts, that is the memory of the family.

use super::Plan;
use super::step::{Part, Step};
use crate::{Result, arena};
use std::os::fd::OwnedFd;

/// Hands the child the arena.
pub(super) const STEP: Step = Step { name: "shared memory", prepare, adopt };

fn prepare(plan: &Plan) -> Result<Part> {
    let (bytes, handles) = match &plan.apart {
        None => arena::offer()?,
        Some(apart) => (Vec::new(), vec![apart.offer()?]),
    };
    Ok(Part { bytes, handles, ..Part::default() })
}

fn adopt(bytes: &[u8], handles: Vec<OwnedFd>) -> Result<()> {
    if !bytes.is_empty() || !handles.is_empty() {
        arena::adopt(bytes, handles);
    }
    Ok(())
}
