//! A crate that knows nothing of `procession` and registers a value in a constructor.
//!
//! A linker puts constructors in the order of its inputs, and a crate without dependents in the library comes after it:
//! the loader would call this one after the entry, so in a child it is the entry that must.

/// A value that was registered before `main`.
#[derive(Debug)]
pub struct Registered(pub &'static str);

inventory::collect!(Registered);
inventory::submit!(Registered("late"));

/// All values, as the constructors left them. One that ran twice ties the list to a ring, which shows as repetition.
#[must_use]
pub fn registered() -> Vec<&'static str> {
    let mut names: Vec<_> = inventory::iter::<Registered>().map(|value| value.0).take(9).collect();
    names.sort_unstable();
    names
}
