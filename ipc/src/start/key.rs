//! The key of the family on its way to a child. A step of starting.
//!
//! It travels over the child's own start socket, which nobody else can read.

use super::Plan;
use super::step::{Part, Step};
use crate::Result;
use crate::authkey::{AuthKey, authkey, set_authkey};
use std::os::fd::OwnedFd;

/// Gives the child the key of its parent.
pub(super) const STEP: Step = Step { name: "key", prepare, adopt };

fn prepare(_plan: &Plan) -> Result<Part> {
    Ok(Part { bytes: authkey()?.as_bytes().to_vec(), ..Part::default() })
}

fn adopt(bytes: &[u8], _handles: Vec<OwnedFd>) -> Result<()> {
    set_authkey(AuthKey::new(bytes)?);
    Ok(())
}
