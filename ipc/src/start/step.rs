//! The one list of what a start prepares in the parent and adopts in the child.
//!
//! A step is a pair of functions. Parts travel in the order of [`STEPS`], each with its bytes and descriptors; a later
//! capability joins by one entry here and touches no start method.

use super::{Plan, identity, key, lifeline, logging, memory, surroundings};
use crate::gate::PrivateFd;
use crate::{Error, Result};
use std::os::fd::OwnedFd;

/// One thing that a child takes over before its function runs.
pub(super) struct Step {
    /// For error texts.
    pub(super) name: &'static str,
    /// In the parent, before the process exists; inside the gate.
    pub(super) prepare: fn(&Plan) -> Result<Part>,
    /// In the child. An error ends the child before its function runs. A copy made by fork has what its parent had
    /// adopted, and replaces it.
    pub(super) adopt: fn(&[u8], Vec<OwnedFd>) -> Result<()>,
}

/// All steps, in the order in which a child adopts them: the lifeline first, so that nothing runs unarmed; the log once the
/// process has a name.
pub(super) const STEPS: [Step; 6] =
    [lifeline::STEP, identity::STEP, key::STEP, memory::STEP, surroundings::STEP, logging::STEP];

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

/// All parts of one start, their descriptors in one row. They are sent, or adopted from memory by a copy.
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
        (step.adopt)(bytes, own).map_err(|error| match error {
            Error::Disconnected => error,
            error => Error::os(format!("adopt `{}`", step.name), std::io::Error::other(error)),
        })?;
    }
    Ok(handles)
}
