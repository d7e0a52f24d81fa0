//! Processes that make a value and then play a part with it, again and again: what a typed actor is.
//!
//! The value is made in the new process, by a function of the user with arguments that are encoded once. What is done with
//! it is a [`Role`], which a layer above brings along, together with props that are new at each start (the socket to
//! listen at). So a [`Script`] can be kept by a supervisor, played any number of times, and sent to another process.

use super::descriptor::{self, Descriptor, ProcessEntry, ProcessKind};
use super::outcome::{Failure, Outcome, of_call};
use super::target::{Target, assert_target, call_encoded};
use super::{Encoded, Luggage, Recipe};
use crate::codec::{self, HandleFd};
use crate::unwind::catch;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;
use std::any::type_name;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;

/// What a process does with the `V` that it makes.
pub trait Role<V> {
    /// What each start brings along.
    type Props: Serialize + Deserialize<'static>;

    /// Makes the value and plays; the process ends when this returns.
    ///
    /// # Errors
    ///
    /// Why it ended other than as it should: the process leaves with code 1.
    fn play(props: Self::Props, make: impl FnOnce() -> Result<V, Failure>) -> Result<(), Failure>;
}

/// How to make a value and what to do with it, as data. A clone shares the arguments.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Script<P> {
    recipe: Recipe,
    props: PhantomData<fn(P)>,
}

impl<P> Clone for Script<P> {
    fn clone(&self) -> Self {
        Self { recipe: self.recipe.clone(), props: PhantomData }
    }
}

struct Site<W, F, A, M>(PhantomData<(W, F, A, M)>);

impl<W, F, A, M> Site<W, F, A, M>
where
    W: Role<F::Output>,
    F: Target<A, M>,
{
    const DESCRIPTOR: &'static Descriptor<ProcessKind> = &Descriptor::new(run::<W, F, A, M> as ProcessEntry);
}

impl<P: Serialize + Deserialize<'static>> Script<P> {
    /// Plays `W` with what `f(args)` gives.
    ///
    /// # Errors
    ///
    /// Arguments that cannot travel, or a function outside the main image.
    pub fn new<W, F, A, M>(_f: F, args: &A) -> Result<Self>
    where
        W: Role<F::Output, Props = P>,
        F: Target<A, M>,
    {
        const { assert_target::<F>() };
        let entry = descriptor::offset_of(Site::<W, F, A, M>::DESCRIPTOR, type_name::<F>())?;
        let (args, luggage) = F::encode(args)?;
        Ok(Self { recipe: Recipe::of_parts(entry, args, luggage), props: PhantomData })
    }

    /// What the start of a process that plays it takes.
    ///
    /// # Errors
    ///
    /// Props that cannot travel, or no descriptor left.
    pub fn encoded(&self, props: &P) -> Result<Encoded> {
        let (entry, args, handles, kept) = self.recipe.parts();
        let (args, handles) = codec::encode_with_handles(&(props, args, handles))?;
        Ok(Encoded { entry, args, luggage: Luggage { handles, kept: kept.clone() } })
    }
}

/// The trampoline.
fn run<W, F, A, M>(bytes: &'static [u8], luggage: &mut Luggage) -> Outcome
where
    W: Role<F::Output>,
    F: Target<A, M>,
{
    type Message<P> = (P, &'static Bytes, Vec<HandleFd>);
    // Making the value, and all that is done with it, is the user's code too.
    let played = catch(|| {
        let Luggage { handles, kept } = std::mem::take(luggage);
        let (props, args, handles) = codec::decode_with_handles::<Message<W::Props>>(bytes, handles)
            .map_err(|error| Failure::NotCalled(Error::from(error).to_string()))?;
        let handles = handles.into_iter().map(OwnedFd::from).collect();
        W::play(props, || call_encoded::<F, A, M>(args, &mut Luggage { handles, kept }))
    });
    match played {
        Ok(Ok(())) => of_call(|| ()),
        Ok(Err(failure)) => Outcome::Failed(failure),
        Err(report) => Outcome::Failed(Failure::Panicked(report)),
    }
}
