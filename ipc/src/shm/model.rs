//! Shared memory as loom sees it: words without an order of their own.
//!
//! Loom ends a model in which two threads touch the same word, one of them to write it, and nothing orders the two.
#![allow(unsafe_code)]

use loom::cell::UnsafeCell;

/// Eight bytes of a segment.
pub(crate) struct Word(UnsafeCell<u64>);

// SAFETY: loom runs one thread at a time, and ends the model before an access that nothing orders after the others.
unsafe impl Sync for Word {}

impl Word {
    pub(crate) fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    pub(crate) fn read(&self) -> u64 {
        // SAFETY: loom hands out a pointer to the word itself, and has checked that nobody writes it.
        self.0.with(|word| unsafe { *word })
    }

    pub(crate) fn write(&self, value: u64) {
        // SAFETY: as in `read`, and nobody reads it.
        self.0.with_mut(|word| unsafe { *word = value });
    }
}
