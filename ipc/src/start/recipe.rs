//! What a process shall run, encoded once: it can be started any number of times, also by another process.
//!
//! A supervisor keeps one for each child. The arguments are encoded when the recipe is made, so what cannot travel is an
//! error of whoever makes it and never one of a restart. Descriptors and handles of shared objects in the arguments are kept, and each
//! start gets duplicates. A recipe travels as its bytes, and its entry is checked where it is used, as in every start.

use super::target::{Target, assert_target};
use super::{Encoded, Luggage, encode};
use crate::codec::Wire;
use crate::gate::PrivateFd;
use crate::travel::Kept;
use crate::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::{ByteBuf, Bytes};
use std::os::fd::AsFd;
use std::sync::Arc;

/// A function with its arguments, ready to be started again and again. A clone shares them.
#[derive(Debug, Clone)]
pub struct Recipe(Arc<Parts>);

#[derive(Debug, Serialize, Deserialize)]
struct Parts {
    /// Offset of the function's descriptor.
    entry: u64,
    /// The encoded tuple of arguments.
    args: ByteBuf,
    /// The descriptors in them.
    handles: Vec<PrivateFd>,
    /// The handles of shared objects in them.
    kept: Kept,
}

impl Recipe {
    /// Encodes the arguments for `f`.
    ///
    /// # Errors
    ///
    /// Arguments that cannot travel, or a function outside the main image.
    pub fn new<F, A, M>(f: F, args: &A) -> Result<Self>
    where
        F: Target<A, M, Output: Wire>,
    {
        const { assert_target::<F>() };
        let Encoded { entry, args, luggage } = encode(f, args)?;
        Ok(Self::of_parts(entry, args, luggage))
    }

    pub(super) fn of_parts(entry: u64, args: Vec<u8>, Luggage { handles, kept }: Luggage) -> Self {
        let handles = handles.into_iter().map(PrivateFd::from).collect();
        Self(Arc::new(Parts { entry, args: ByteBuf::from(args), handles, kept }))
    }

    /// The offset of the function's descriptor, its arguments, and the descriptors and handles in them.
    pub(super) fn parts(&self) -> (u64, &Bytes, &[PrivateFd], &Kept) {
        let Parts { entry, args, handles, kept } = &*self.0;
        (*entry, Bytes::new(args), handles, kept)
    }

    /// What a start takes.
    ///
    /// # Errors
    ///
    /// No descriptor left.
    pub fn encoded(&self) -> Result<Encoded> {
        let Parts { entry, args, handles, kept } = &*self.0;
        let duplicates = handles.iter().map(|handle| handle.as_fd().try_clone_to_owned());
        let handles = duplicates
            .collect::<Result<_, _>>()
            .map_err(|e| Error::os("duplicate a descriptor among the arguments of a process", e))?;
        let luggage = Luggage { handles, kept: kept.clone() };
        Ok(Encoded { entry: *entry, args: args.to_vec(), luggage })
    }
}

impl Serialize for Recipe {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Recipe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Parts::deserialize(deserializer).map(|parts| Self(Arc::new(parts)))
    }
}
