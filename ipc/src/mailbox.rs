//! Mailboxes: queues in shared memory that survive the death of any of their users.
//!
//! - `ring`: the queue's algorithm, pure, so that loom and simulated deaths can drive it;
//! - `record`, `chain`: what lies in its segments; messages that are too long for that;
//! - `segment`: the words that say where a queue's bytes are;
//! - [`SharedQueue`]: a queue in the memory of the family, of bytes;
//! - `message`: values as messages.
//!
//! `README.md` beside this file has the layout, the rules, and what happens at each point at which a process may die.

pub(crate) mod chain;
#[cfg(not(all(test, loom)))]
mod message;
#[cfg(not(all(test, loom)))]
pub(crate) mod queue;
mod record;
pub(crate) mod ring;
pub(crate) mod segment;

/// Whether whoever changes a queue notes before what it does. Without the notes, a process that is killed leaves segments that
/// nobody has: the feature `sabotage` makes such a build, to show that the checks of `tests/kills` report it.
pub const KEEPS_JOURNALS: bool = !cfg!(feature = "sabotage");

#[cfg(not(all(test, loom)))]
pub use queue::{MOST_MESSAGES, SharedQueue, Wait, set_limit};
pub use ring::Got;

#[cfg(test)]
#[cfg(not(loom))]
mod deaths;
#[cfg(test)]
#[cfg(not(loom))]
mod memory;
#[cfg(test)]
#[cfg(loom)]
mod models;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
