//! The one list of what a start prepares in the parent and adopts in the child.
//!
//! A step is a pair of functions. Parts travel in the order of [`STEPS`], each with its bytes and descriptors; a later
//! capability joins by one entry here and touches no start method.

use super::{Plan, identity, key, lifeline, logging, memory, surroundings};
use crate::gate::PrivateFd;
use crate::{Error, Result, arena, authkey, log};
use std::os::fd::OwnedFd;

/// One thing that a child takes over before its function runs.
pub(super) struct Step {
    /// For error texts.
    pub(super) name: &'static str,
    /// In the parent, before the process exists; inside the gate.
    pub(super) prepare: fn(&Plan) -> Result<Part>,
    /// In the child. An error ends the child before its function runs.
    pub(super) adopt: fn(&[u8], Vec<OwnedFd>) -> Result<()>,
}

/// All steps, in the order in which a child adopts them: the lifeline first, so that nothing runs unarmed; the log once the
/// process has a name.
pub(super) const STEPS: [Step; 6] =
    [lifeline::STEP, identity::STEP, key::STEP, memory::STEP, surroundings::STEP, logging::STEP];

/// What a copy made by fork is left in place of all that: it has the rest in memory. A step that has something for it adds a
/// field here.
///
/// Nothing here is boxed, and nothing is dropped in the copy: each page that an allocation writes there is one to be copied.
pub(super) struct Bequest {
    lifeline: Option<OwnedFd>,
    identity: identity::Bequest,
    log: Option<(Vec<u8>, Vec<OwnedFd>)>,
}

/// Makes ready what a copy is left, and what the parent keeps as long as it lives.
pub(super) fn bequeath(plan: &Plan) -> Result<(Bequest, Vec<PrivateFd>)> {
    let (lifeline, kept) = lifeline::new(plan)?.unzip();
    // From here on, they are there.
    authkey::authkey()?;
    arena::make_sure()?;
    let bequest = Bequest { lifeline, identity: identity::bequeath(plan), log: log::offer()? };
    Ok((bequest, kept.into_iter().map(PrivateFd::from).collect()))
}

/// Runs the copy's side, in the order of [`STEPS`].
#[inline]
pub(super) fn inherit(bequest: Bequest) -> Result<()> {
    lifeline::arm(bequest.lifeline).map_err(|error| failed(lifeline::STEP.name, error))?;
    identity::inherit(bequest.identity);
    match bequest.log {
        Some((bytes, handles)) => {
            log::adopt(&bytes, handles).map_err(|error| failed(logging::STEP.name, error))
        }
        None => Ok(()),
    }
}

fn failed(step: &str, error: Error) -> Error {
    match error {
        // The parent is gone.
        Error::Disconnected => error,
        error => Error::os(format!("adopt `{step}`"), std::io::Error::other(error)),
    }
}

/// What one step sends.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Bytes for the child.
    pub(super) bytes: Vec<u8>,
    /// Descriptors for the child.
    pub(super) handles: Vec<OwnedFd>,
    /// Descriptors that the parent keeps as long as the child lives.
    pub(super) kept: Vec<PrivateFd>,
}

/// All parts of one start, their descriptors in one row.
pub(super) struct Prepared {
    /// Bytes of each step, and how many of the descriptors are its own.
    pub(super) parts: Vec<(Vec<u8>, usize)>,
    /// Descriptors for the child.
    pub(super) handles: Vec<OwnedFd>,
    /// Descriptors that the parent keeps.
    pub(super) kept: Vec<PrivateFd>,
}

/// Runs the parent's side of each step.
pub(super) fn prepare(plan: &Plan) -> Result<Prepared> {
    let mut prepared =
        Prepared { parts: Vec::with_capacity(STEPS.len()), handles: Vec::new(), kept: Vec::new() };
    for step in &STEPS {
        let mut part = (step.prepare)(plan)?;
        prepared.parts.push((part.bytes, part.handles.len()));
        prepared.handles.append(&mut part.handles);
        prepared.kept.append(&mut part.kept);
    }
    Ok(prepared)
}

/// Runs the child's side of each step, with its bytes and so many of the descriptors; gives back those that are left.
pub(super) fn adopt<'a>(
    parts: impl Iterator<Item = (&'a [u8], usize)>,
    mut handles: Vec<OwnedFd>,
) -> Result<Vec<OwnedFd>> {
    for (step, (bytes, count)) in STEPS.iter().zip(parts) {
        if count > handles.len() {
            return Err(Error::Malformed { what: "number of descriptors in a start message" });
        }
        let rest = handles.split_off(count);
        let own = std::mem::replace(&mut handles, rest);
        (step.adopt)(bytes, own).map_err(|error| failed(step.name, error))?;
    }
    Ok(handles)
}
