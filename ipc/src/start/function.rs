//! A function of this program as data: it can be started any number of times, with other arguments each time, also by
//! another process of the same build.

use super::target::{ByValue, ProcessSite, Target, assert_target};
use super::{Plan, Started, descriptor, start_encoded};
use crate::Result;
use crate::codec;
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;

/// A function that takes an `A` and returns nothing.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Function<A> {
    /// Offset of its descriptor; checked where it is used, as in every start.
    entry: u64,
    argument: PhantomData<fn(A)>,
}

impl<A: Serialize + Deserialize<'static>> Function<A> {
    /// The travelling form of `function`.
    ///
    /// # Errors
    ///
    /// The function is not part of the main image.
    pub fn new<F>(_function: F) -> Result<Self>
    where
        F: Target<(A,), (ByValue,), Output = ()>,
    {
        const { assert_target::<F>() };
        let site = ProcessSite::<F, (A,), (ByValue,)>::DESCRIPTOR;
        let entry = descriptor::offset_of(site, std::any::type_name::<F>())?;
        Ok(Self { entry, argument: PhantomData })
    }

    /// Starts a process that calls it.
    ///
    /// # Errors
    ///
    /// An argument that cannot travel, a start method that does not work here, or no process or descriptor left.
    pub fn start(&self, argument: &A, plan: &Plan) -> Result<Started> {
        let (bytes, handles) = codec::encode_with_handles(&(argument,))?;
        start_encoded(self.entry, &bytes, handles, plan)
    }
}

impl<A> Clone for Function<A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Function<A> {}

impl<A> std::fmt::Debug for Function<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Function({:#x})", self.entry)
    }
}
