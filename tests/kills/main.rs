//! Killed processes and shared memory: at each instruction, at random, with the memory spoiled.
//!
//! - [`points`]: one act of a process is stepped through by ptrace(2), killed after each step or each change of shared
//!   memory, and looked at by the survivors;
//! - [`trace`], [`shared`]: the stepping, and what others can see of it;
//! - [`sleeper`]: others, who sleep meanwhile and have to wake;
//! - [`lock`], [`queue`], [`handles`], [`objects`]: what is killed there, and what the survivors must find;
//! - [`takeover`], [`sweep`]: what is killed while it repairs what the dead have left;
//! - [`storm`]: many processes that are killed at random;
//! - [`quiet`]: what shared memory costs where nothing happens;
//! - [`scarce`]: what is said where descriptors or memory are lacking;
//! - [`stopped`]: who stands still in the middle of putting or getting;
//! - [`spoiled`]: what a crashing process may write into shared memory; [`relatives`]: the families to which that is done.
//!
//! A binary of its own, since it is built twice: the feature `sabotage` leaves a step of a journal out, and then these checks
//! must report something.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, which may fail loudly"
)]
#![allow(clippy::needless_pass_by_value, reason = "a function for another process owns what it is given")]
#![allow(unreachable_pub, unnameable_types, reason = "the modules of a test binary have no outside")]

/// What this binary shares with the other one.
#[path = "../it"]
mod it {
    pub mod support;
}
use it::support;

mod points;
mod relatives;
mod shared;
mod sleeper;
mod trace;

mod handles;
mod lock;
mod objects;
mod queue;
mod quiet;
mod scarce;
mod spoiled;
mod stopped;
mod storm;
mod sweep;
mod takeover;
