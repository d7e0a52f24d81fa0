//! Who this process is within its family: name, place, daemon flag, parent, default start method. A step of starting.
//!
//! Python forms default names from the place: the second child of `Process-1` is `Process-1:2`.

use super::step::{Part, Step};
use super::{Plan, method};
use crate::sys::latest::Latest;
use crate::{Result, codec};
use serde::{Deserialize, Serialize};
use std::os::fd::OwnedFd;
use std::sync::LazyLock;

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

/// What a process that was started knows of itself.
struct Place {
    identity: Identity,
    origin: Origin,
}

/// Nothing in the root. A copy made by fork begins with what its parent knew.
static OWN: Latest<Place> = Latest::none();

/// The identity of this process; that of the root is `MainProcess`.
#[must_use]
pub fn identity() -> &'static Identity {
    static ROOT: LazyLock<Identity> =
        LazyLock::new(|| Identity { name: "MainProcess".to_owned(), path: Vec::new(), daemon: false });
    OWN.get().map_or_else(|| &*ROOT, |place| &place.identity)
}

/// The process that started this one; `None` in the root.
#[must_use]
pub fn origin() -> Option<&'static Origin> {
    OWN.get().map(|place| &place.origin)
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
    inherit(Bequest::of(told));
    Ok(())
}

/// What a copy is told.
pub(super) struct Bequest {
    place: Box<Place>,
    default_method: method::Decision,
}

impl Bequest {
    fn of(Told { identity, origin, default_method }: Told) -> Self {
        Self { place: Box::new(Place { identity, origin }), default_method }
    }
}

pub(super) fn bequeath(plan: &Plan) -> Bequest {
    Bequest::of(told(plan))
}

#[inline]
pub(super) fn inherit(bequest: Bequest) {
    OWN.set(Box::leak(bequest.place));
    method::inherit(bequest.default_method);
}
