//! Behaviour of the public face, a module per capability, in one binary so that it links once.
//!
//! A test that starts processes, forks, counts descriptors or changes anything of its process runs its whole body in
//! [`support::isolated`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, which may fail loudly"
)]
#![allow(
    clippy::needless_pass_by_value,
    clippy::ptr_arg,
    reason = "a function for another process owns what it is given, or borrows what was decoded"
)]
#![allow(unreachable_pub, unnameable_types, reason = "the modules of a test binary have no outside")]

mod elf;
mod family;
mod support;
mod support_test;
mod wild;

mod actor;
mod actor_async;
mod actor_death;
mod actor_fork;
mod actor_hostile;
mod actor_inside;
mod actor_travel;
mod arguments;
mod authkey;
mod builds;
mod context;
mod deposit;
mod deposit_death;
mod endings;
mod entry;
mod exit;
mod fork;
mod fork_busy;
mod fork_programs;
mod growth;
mod handles;
mod handles_death;
mod hygiene;
mod leftovers;
mod library;
mod lock;
mod lock_async;
mod logging;
mod odd_parents;
mod odd_uses;
mod parent_death;
mod pipe;
mod pool;
mod pool_death;
mod pool_errors;
mod pool_fork;
mod pool_isolated;
mod pool_storm;
mod preload;
mod process;
mod programs;
mod queue;
mod queue_async;
mod queue_death;
mod queue_isolated;
mod queue_isolated_life;
mod queue_memory;
mod relatives;
mod rights;
mod scarce;
mod signals;
mod streams;
mod supervisor;
mod supervisor_actor;
mod supervisor_tree;
mod surroundings;
