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
#![allow(unreachable_pub, unnameable_types, reason = "the modules of a test binary have no outside")]

mod support;
mod support_test;
