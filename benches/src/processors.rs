//! Where the processes of a figure run.
//!
//! On a virtual machine whose idle processors halt, to wake a process on another one takes some 25 us, and a figure that waits
//! for that shows little else. On one processor it shows what is left: switching between the two, and what is measured.

use crate::harness::Result;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// The calling thread.
const SELF: Pid = Pid::from_raw(0);

/// On which processors both processes of a figure may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Processors {
    All,
    /// The first of those that this process may use.
    One,
}

impl Processors {
    /// Has this thread, and whatever it starts, run there as long as what is returned lives.
    pub(crate) fn bind(self) -> Result<Option<Bound>> {
        if self == Self::All {
            return Ok(None);
        }
        let before = sched_getaffinity(SELF)?;
        let first = (0..CpuSet::count()).find(|&cpu| before.is_set(cpu).unwrap_or(false));
        let mut only = CpuSet::new();
        only.set(first.ok_or("this process may use no processor")?)?;
        sched_setaffinity(SELF, &only)?;
        Ok(Some(Bound { before }))
    }
}

/// A thread that is bound to one processor, until this is dropped.
#[derive(Debug)]
pub(crate) struct Bound {
    before: CpuSet,
}

impl Drop for Bound {
    fn drop(&mut self) {
        // They may have been taken away meanwhile; then it stays where it is.
        let _ = sched_setaffinity(SELF, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_bound_as_long_as_it_is_said() {
        let allowed = || sched_getaffinity(SELF).unwrap();
        let count = |set: CpuSet| (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap()).count();
        let before = allowed();
        assert!(Processors::All.bind().unwrap().is_none());
        assert_eq!(allowed(), before);
        let bound = Processors::One.bind().unwrap();
        assert_eq!(count(allowed()), 1);
        drop(bound);
        assert_eq!(allowed(), before);
    }
}
