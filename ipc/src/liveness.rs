//! Which processes of the family use shared memory, and which of them are gone.

mod id;

pub(crate) use id::ProcessId;
