//! Who this process is within its family: name, place, daemon flag, parent, default start method. A step of starting.
//!
//! Python forms default names from the place: the second child of `Process-1` is `Process-1:2`.

use super::step::{Part, Step};
use super::{Plan, method};
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

/// The process that started this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Its name.
    pub name: String,
    /// Its process id, as it knew it.
    pub pid: u32,
}

/// What the child is told.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    identity: Identity,
    origin: Origin,
    default_method: method::Decision,
}

static OWN: OnceLock<Identity> = OnceLock::new();
static ORIGIN: OnceLock<Origin> = OnceLock::new();

/// The identity of this process; that of the root is `MainProcess`.
#[must_use]
pub fn identity() -> &'static Identity {
    OWN.get_or_init(|| Identity { name: "MainProcess".to_owned(), path: Vec::new(), daemon: false })
}

/// The process that started this one; `None` in the root.
#[must_use]
pub fn origin() -> Option<&'static Origin> {
    ORIGIN.get()
}

/// Tells the child who it is.
pub(super) const STEP: Step = Step { name: "identity", prepare, adopt };

fn prepare(plan: &Plan) -> Result<Part> {
    let told = Told {
        identity: plan.identity.clone(),
        origin: Origin { name: identity().name.clone(), pid: std::process::id() },
        default_method: method::bequest(plan.method),
    };
    Ok(Part { bytes: codec::encode(&told)?, ..Part::default() })
}

fn adopt(bytes: &[u8], _handles: Vec<OwnedFd>) -> Result<()> {
    let told: Told = codec::decode(bytes)?;
    // Already known only if something asked before the start message was read, which nothing does.
    let _ = OWN.set(told.identity);
    let _ = ORIGIN.set(told.origin);
    method::inherit(told.default_method);
    Ok(())
}
