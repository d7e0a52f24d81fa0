//! Descriptors that belong to one process alone, or to those to whom they are given.
//!
//! A copy made by a fork inherits every descriptor. Some must not live on there: the write end of a sibling's lifeline
//! would keep that sibling alive when the parent dies, a copied socket would hide its end. They are registered here, and
//! in the copy each is replaced by a *dead* descriptor: the number stays taken, so the `OwnedFd` that holds it remains
//! right, and every use of it fails with EBADF.
//!
//! Connections of the program are such descriptors too, or nobody would see their end while a copy lives that knows
//! nothing of them. Only a copy that runs a closure keeps them, since the closure may have captured them.

use super::lock;
use crate::codec::{HandleFd, serialize_fd};
use crate::sys::fd::Grave;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Which copies have a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// None.
    Private,
    /// Those that run a closure.
    Captured,
}

/// A set of numbers, a bit each.
#[derive(Debug)]
struct Numbers {
    /// The first 256: within the state of the gate, which a copy writes to anyway.
    low: [u64; 4],
    high: Vec<u64>,
}

impl Numbers {
    const fn new() -> Self {
        Self { low: [0; 4], high: Vec::new() }
    }

    fn set(&mut self, number: RawFd, present: bool) {
        let number = usize::try_from(number).unwrap_or_default();
        let (place, bit) = (number / 64, 1 << (number % 64));
        let word = match place.checked_sub(self.low.len()) {
            None => &mut self.low[place],
            Some(place) => {
                if self.high.len() <= place {
                    self.high.resize(place + 1, 0);
                }
                &mut self.high[place]
            }
        };
        *word = if present { *word | bit } else { *word & !bit };
    }

    fn clear(&mut self) {
        self.low = [0; 4];
        self.high.clear();
    }

    #[inline]
    fn iter(&self) -> impl Iterator<Item = RawFd> {
        (0..).zip(self.low.iter().chain(&self.high)).flat_map(|(place, &word)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| place * 64 + bit)
        })
    }
}

/// The numbers of all descriptors that not every copy has.
#[derive(Debug)]
pub(super) struct Registry {
    private: Numbers,
    captured: Numbers,
}

impl Registry {
    pub(super) const fn new() -> Self {
        Self { private: Numbers::new(), captured: Numbers::new() }
    }

    fn of(&mut self, class: Class) -> &mut Numbers {
        match class {
            Class::Private => &mut self.private,
            Class::Captured => &mut self.captured,
        }
    }

    #[cfg(test)]
    pub(super) fn private_numbers(&self) -> impl Iterator<Item = RawFd> {
        self.private.iter()
    }

    /// In a copy: replaces what it does not have, and knows of it no more.
    #[inline]
    pub(super) fn bury(&mut self, grave: &Grave, keeps_captured: bool) {
        grave.bury(self.private.iter());
        self.private.clear();
        if !keeps_captured {
            grave.bury(self.captured.iter());
            self.captured.clear();
        }
    }
}

/// A descriptor that no copy of this process shares.
///
/// Make it inside the gate (see [`enter`](super::enter)), or a fork may come between the descriptor and its entry.
#[derive(Debug)]
pub struct PrivateFd {
    fd: Option<OwnedFd>,
    class: Class,
}

impl PrivateFd {
    #[inline]
    fn new(fd: OwnedFd, class: Class) -> Self {
        lock().registry.of(class).set(fd.as_raw_fd(), true);
        Self { fd: Some(fd), class }
    }

    /// A descriptor of the program, which a closure may capture: copies that run a closure share it.
    #[must_use]
    pub fn captured(fd: OwnedFd) -> Self {
        Self::new(fd, Class::Captured)
    }
}

impl From<OwnedFd> for PrivateFd {
    fn from(fd: OwnedFd) -> Self {
        Self::new(fd, Class::Private)
    }
}

impl AsFd for PrivateFd {
    #[allow(clippy::expect_used)]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("invariant: only `drop` takes it").as_fd()
    }
}

/// It travels as a [`HandleFd`], and is private where it arrives.
impl Serialize for PrivateFd {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_fd(self.as_fd(), serializer)
    }
}

impl<'de> Deserialize<'de> for PrivateFd {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(HandleFd::deserialize(deserializer)?.into_owned().into())
    }
}

impl Drop for PrivateFd {
    fn drop(&mut self) {
        // Closed under the lock: no fork comes between the entry and the descriptor.
        let mut state = lock();
        if let Some(fd) = self.fd.take() {
            state.registry.of(self.class).set(fd.as_raw_fd(), false);
            drop(fd);
        }
    }
}
