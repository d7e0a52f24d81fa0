//! A static that points to the latest of several values, each of which stays for ever.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Nothing, or a reference. Reading it is one load, and so is replacing it: there is no lock that a copy of this process could
/// find taken, and in a copy no code to be mapped.
#[derive(Debug)]
pub struct Latest<T: 'static>(AtomicPtr<T>);

impl<T: Sync> Latest<T> {
    /// Nothing.
    #[must_use]
    pub const fn none() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// The latest.
    #[must_use]
    pub fn get(&self) -> Option<&'static T> {
        // SAFETY: it is null, or comes from a reference that is good for ever (`set`); Acquire pairs with the Release there, so
        // what it points to is complete. `T` is `Sync`, so it may come from another thread.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// Replaces it.
    #[inline]
    pub fn set(&self, value: &'static T) {
        self.0.store(ptr::from_ref(value).cast_mut(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_is_the_one_that_is_there() {
        let latest = Latest::none();
        assert_eq!(latest.get(), None);
        for value in [&1, &2] {
            latest.set(value);
            assert_eq!(latest.get(), Some(value));
        }
    }
}
