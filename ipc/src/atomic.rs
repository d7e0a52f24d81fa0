//! The atomics of everything that processes share: those of the standard library, or those of loom in its models.
//!
//! Shared structures and the logic over them name no other, so that loom runs the product's own files.

#[cfg(all(test, loom))]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(not(all(test, loom)))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
