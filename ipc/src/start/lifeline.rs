//! The lifeline: when the parent dies, however it dies, the kernel kills the child. A step of starting.
//!
//! A pipe per child (the owner that receives the signal belongs to the open file description). The parent holds the
//! write end and never writes; the child's read end is armed with SIGKILL. No thread is needed in the child, and
//! unlike PR_SET_PDEATHSIG it does not fire when the *thread* that started the child ends.

use super::Plan;
use super::step::{Part, Step};
use crate::gate::PrivateFd;
use crate::sys::fd::{is_hung_up, kill_self_on_hangup};
use crate::{Error, Result};
use nix::fcntl::OFlag;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

/// The child's end, open until its last moment. After a fork, that of the copy takes the place of its parent's.
static LIFELINE: Mutex<Option<PrivateFd>> = Mutex::new(None);

/// Arms the child if the plan says so.
pub(super) const STEP: Step = Step { name: "lifeline", prepare, adopt };

fn prepare(plan: &Plan) -> Result<Part> {
    let Some((reader, writer)) = new(plan)? else { return Ok(Part::default()) };
    Ok(Part { handles: vec![reader], kept: vec![writer.into()], ..Part::default() })
}

/// The child's end and ours, if the child shall be armed.
pub(super) fn new(plan: &Plan) -> Result<Option<(OwnedFd, OwnedFd)>> {
    let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(|e| Error::os("open a lifeline", e));
    plan.armed.then(pipe).transpose()
}

fn adopt(_bytes: &[u8], handles: Vec<OwnedFd>) -> Result<()> {
    arm(handles.into_iter().next())
}

/// Replaces the lifeline of this process.
#[inline]
pub(super) fn arm(reader: Option<OwnedFd>) -> Result<()> {
    let mut own = LIFELINE.lock().unwrap_or_else(PoisonError::into_inner);
    *own = None;
    let Some(reader) = reader else { return Ok(()) };
    let doing = "arm the lifeline";
    kill_self_on_hangup(reader.as_fd()).map_err(|e| Error::os(doing, e))?;
    // The parent may have died before the arming, which then came too late to be told.
    if is_hung_up(reader.as_fd()).map_err(|e| Error::os(doing, e))? {
        return Err(Error::Disconnected);
    }
    *own = Some(reader.into());
    Ok(())
}
