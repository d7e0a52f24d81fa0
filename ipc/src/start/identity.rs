//! Who this process is within its family: name, place, daemon flag. A step of starting.
//!
//! Python forms default names from the place: the second child of `Process-1` is `Process-1:2`.

use super::Plan;
use super::step::{Part, Step};
use crate::{Result, codec};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

/// Name and place of a process in its family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The name: any text, for people; need not be unique.
    pub name: String,
    /// The place: which child of which child of the root. Empty for the root.
    pub path: Vec<u32>,
    /// Whether it is terminated when its parent ends.
    pub daemon: bool,
}

static OWN: OnceLock<Identity> = OnceLock::new();

/// The identity of this process; that of the root is `MainProcess`.
#[must_use]
pub fn identity() -> &'static Identity {
    OWN.get_or_init(|| Identity { name: "MainProcess".to_owned(), path: Vec::new(), daemon: false })
}

/// Tells the child who it is.
pub(super) const STEP: Step = Step { name: "identity", prepare, adopt };

fn prepare(plan: &Plan) -> Result<Part> {
    Ok(Part { bytes: codec::encode(&plan.identity)?, ..Part::default() })
}

fn adopt(bytes: &[u8], _handles: Vec<OwnedFd>) -> Result<()> {
    // Already known only if something asked before the start message was read, which nothing does.
    let _ = OWN.set(codec::decode(bytes)?);
    Ok(())
}
