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

/// What a process knows of itself, and what it was told later: a copy made by fork begins with what its parent knew.
struct Link {
    identity: Identity,
    origin: Option<Origin>,
    next: OnceLock<Box<Self>>,
}

static OWN: OnceLock<Link> = OnceLock::new();

impl Link {
    fn new(identity: Identity, origin: Option<Origin>) -> Self {
        Self { identity, origin, next: OnceLock::new() }
    }

    /// What the root knows of itself.
    fn root() -> Self {
        Self::new(Identity { name: "MainProcess".to_owned(), path: Vec::new(), daemon: false }, None)
    }

    fn last(&self) -> &Self {
        self.next.get().map_or(self, |next| next.last())
    }
}

/// The identity of this process; that of the root is `MainProcess`.
#[must_use]
pub fn identity() -> &'static Identity {
    &OWN.get_or_init(Link::root).last().identity
}

/// The process that started this one; `None` in the root.
#[must_use]
pub fn origin() -> Option<&'static Origin> {
    OWN.get_or_init(Link::root).last().origin.as_ref()
}

/// Tells the child who it is.
pub(super) const STEP: Step = Step { name: "identity", prepare, adopt };

fn told(plan: &Plan) -> Told {
    Told {
        identity: plan.identity.clone(),
        origin: Origin { name: identity().name.clone(), pid: std::process::id() },
        default_method: method::bequest(plan.method),
    }
}

fn prepare(plan: &Plan) -> Result<Part> {
    Ok(Part { bytes: codec::encode(&told(plan))?, ..Part::default() })
}

fn adopt(bytes: &[u8], _handles: Vec<OwnedFd>) -> Result<()> {
    let told: Told = codec::decode(bytes)?;
    let link = Box::new(Link::new(told.identity, Some(told.origin)));
    inherit(Bequest { link, default_method: told.default_method });
    Ok(())
}

/// Takes another identity: a copy has that of its parent, and a child of the fork server may have one of that. The only
/// thread of the process is here, so there is no other `set`.
#[inline]
fn assume(link: Box<Link>) {
    let _ = OWN.get_or_init(Link::root).last().next.set(link);
}

/// What a copy is told.
pub(super) struct Bequest {
    link: Box<Link>,
    default_method: method::Decision,
}

pub(super) fn bequeath(plan: &Plan) -> Bequest {
    let Told { identity, origin, default_method } = told(plan);
    Bequest { link: Box::new(Link::new(identity, Some(origin))), default_method }
}

#[inline]
pub(super) fn inherit(bequest: Bequest) {
    assume(bequest.link);
    method::inherit(bequest.default_method);
}
