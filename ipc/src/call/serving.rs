//! Which actor this thread carries a method out for: if that method waits for an answer of the same actor, it waits for ever.

use crate::rendezvous::Address;
use std::cell::Cell;

thread_local! {
    static SERVED: Cell<Option<Address>> = const { Cell::new(None) };
}

/// Runs a part of a method of the actor at `address`.
pub fn serving<T>(address: Address, part: impl FnOnce() -> T) -> T {
    /// Also after a panic.
    struct Before(Option<Address>);
    impl Drop for Before {
        fn drop(&mut self) {
            SERVED.set(self.0);
        }
    }
    let _before = Before(SERVED.replace(Some(address)));
    part()
}

/// In a copy of this process: it carries out nothing.
#[inline]
pub(crate) fn forget() {
    SERVED.with(|served| served.set(None));
}

/// Whether a method of the actor at `address` runs on this thread.
pub(super) fn is_served(address: Address) -> bool {
    SERVED.get() == Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_actor_that_is_served_is_known_and_only_meanwhile() {
        let (one, other) = (Address::random().unwrap(), Address::random().unwrap());
        let inside = serving(one, || {
            let nested = serving(other, || (is_served(one), is_served(other)));
            (nested, is_served(one), is_served(other))
        });
        assert_eq!(inside, ((false, true), true, false));
        assert!(std::panic::catch_unwind(|| serving(one, || panic!("a method panicked"))).is_err());
        assert!(!is_served(one));
    }
}
