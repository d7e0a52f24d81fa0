//! Which functions can run in another process, and how their arguments get there.
//!
//! A target is a function whose type carries no data: a plain `fn` or a closure that captures nothing. Its *type* is
//! enough to call it, so the trampoline of each target is monomorphised, its address travels (see `descriptor`), and
//! the other process conjures the value of the zero-sized type.
//!
//! An argument crosses in one of three ways, told apart by a marker that is always inferred: by value, as `&T`, or as
//! `&[T]`. A parameter `&T` is lent from the decoded value in the other process; no clone is made in this one.

#![allow(unsafe_code)]

use super::Luggage;
use super::descriptor::{Descriptor, ProcessEntry, ProcessKind};
use super::outcome::{self, Failure, Outcome};
use crate::codec::{self, CodecError, Wire};
use crate::travel;
use crate::unwind::catch;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Marker: the argument crosses by value.
#[derive(Debug)]
pub enum ByValue {}

/// Marker: the argument is a reference, lent from the value in the other process.
#[derive(Debug)]
pub enum ByRef {}

/// Marker: the argument is a slice, lent from the vector in the other process.
#[derive(Debug)]
pub enum BySlice {}

/// An argument of a function in another process. `M` says how it crosses and is always inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a function in another process",
    label = "not `Serialize + Deserialize`",
    note = "derive serde's `Serialize` and `Deserialize` for it",
    note = "an argument is a value, `&T` or `&[T]` of such types"
)]
pub trait Arg<M>: Serialize {
    /// What the other process decodes.
    type Owned: Deserialize<'static>;
    /// What the function's parameter is.
    type Param<'a>;

    /// Gives the function its parameter out of the decoded value.
    #[doc(hidden)]
    fn lend(slot: &mut Slot<Self::Owned>) -> Self::Param<'_>;
}

/// A decoded argument: taken by a parameter by value, or borrowed.
#[doc(hidden)]
#[derive(Debug)]
pub struct Slot<T>(Option<T>);

impl<T> Slot<T> {
    #[doc(hidden)]
    pub fn new(value: T) -> Self {
        Self(Some(value))
    }
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + Deserialize<'static>> Arg<ByValue> for T {
    type Owned = T;
    type Param<'a> = T;

    #[allow(clippy::expect_used)]
    fn lend(slot: &mut Slot<T>) -> T {
        slot.0.take().expect("invariant: a slot is filled by `new` and lent once")
    }
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + 'static> Arg<ByRef> for &T {
    type Owned = T;
    type Param<'a> = &'a T;

    #[allow(clippy::expect_used)]
    fn lend(slot: &mut Slot<T>) -> &T {
        slot.0.as_ref().expect("invariant: a slot is filled by `new` and lent once")
    }
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + 'static> Arg<BySlice> for &[T] {
    type Owned = Vec<T>;
    type Param<'a> = &'a [T];

    fn lend(slot: &mut Slot<Vec<T>>) -> &[T] {
        slot.0.as_deref().unwrap_or_default()
    }
}

/// An argument of a pool's task: its decoded form lives no longer than the task.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a pool's task",
    label = "not `Serialize + DeserializeOwned`",
    note = "derive serde's `Serialize` and `Deserialize` for it",
    note = "a task's argument must own its data: take `String` or `&String` instead of `&str`"
)]
pub trait TaskArg<M>: Arg<M, Owned: DeserializeOwned> {}

#[diagnostic::do_not_recommend]
impl<T: Arg<M, Owned: DeserializeOwned>, M> TaskArg<M> for T {}

/// A function that can run in another process with the arguments `A`, a tuple of up to twelve.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot run in another process with the arguments `{A}`",
    label = "the parameters of this function and the tuple of arguments do not fit",
    note = "arguments are a tuple: `(1,)` for one, `()` for none"
)]
pub trait Target<A, M>: Copy + 'static {
    /// What the function returns.
    type Output;
    /// The arguments as the other process decodes them.
    type Owned: Deserialize<'static>;

    /// Calls the function with decoded arguments.
    #[doc(hidden)]
    fn call(&self, owned: Self::Owned) -> Self::Output;

    /// Turns the arguments into bytes and what goes with them, and checks once per type that they can be read again.
    #[doc(hidden)]
    #[allow(clippy::missing_errors_doc)]
    fn encode(args: &A) -> Result<(Vec<u8>, Luggage), CodecError>;

    /// Appends the arguments as bytes alone; a descriptor among them is an error.
    #[doc(hidden)]
    #[allow(clippy::missing_errors_doc)]
    fn append(args: &A, out: &mut Vec<u8>) -> Result<(), CodecError>;
}

fn encode_args<A: Serialize, O: Deserialize<'static>>(args: &A) -> Result<(Vec<u8>, Luggage), CodecError> {
    if !travel::may_carry::<O>() {
        let bytes = codec::encode(args)?;
        codec::check_encoded::<A, O>(&bytes)?;
        return Ok((bytes, Luggage::default()));
    }
    let ((bytes, handles), kept) = travel::often(|| codec::encode_checked_with_handles::<A, O>(args))?;
    Ok((bytes, Luggage { handles, kept }))
}

macro_rules! target {
    ($($arg:ident $marker:ident $slot:ident),*) => {
        #[allow(non_snake_case)]
        impl<Func, Out, $($arg, $marker),*> Target<($($arg,)*), ($($marker,)*)> for Func
        where
            $($arg: Arg<$marker>,)*
            Func: for<'a> Fn($(<$arg as Arg<$marker>>::Param<'a>),*) -> Out + Copy + 'static,
        {
            type Output = Out;
            type Owned = ($(<$arg as Arg<$marker>>::Owned,)*);

            fn call(&self, owned: Self::Owned) -> Out {
                let ($($slot,)*) = owned;
                $(let mut $slot = Slot::new($slot);)*
                self($(<$arg as Arg<$marker>>::lend(&mut $slot)),*)
            }

            fn encode(args: &($($arg,)*)) -> Result<(Vec<u8>, Luggage), CodecError> {
                encode_args::<_, Self::Owned>(args)
            }

            fn append(args: &($($arg,)*), out: &mut Vec<u8>) -> Result<(), CodecError> {
                codec::encode_checked::<_, Self::Owned>(args, out)
            }
        }
    };
}

target!();
target!(A0 M0 a0);
target!(A0 M0 a0, A1 M1 a1);
target!(A0 M0 a0, A1 M1 a1, A2 M2 a2);
target!(A0 M0 a0, A1 M1 a1, A2 M2 a2, A3 M3 a3);
target!(A0 M0 a0, A1 M1 a1, A2 M2 a2, A3 M3 a3, A4 M4 a4);
target!(A0 M0 a0, A1 M1 a1, A2 M2 a2, A3 M3 a3, A4 M4 a4, A5 M5 a5);
target!(A0 M0 a0, A1 M1 a1, A2 M2 a2, A3 M3 a3, A4 M4 a4, A5 M5 a5, A6 M6 a6);
target!(A0 M0 a0, A1 M1 a1, A2 M2 a2, A3 M3 a3, A4 M4 a4, A5 M5 a5, A6 M6 a6, A7 M7 a7);
target!(A0 M0 a0, A1 M1 a1, A2 M2 a2, A3 M3 a3, A4 M4 a4, A5 M5 a5, A6 M6 a6, A7 M7 a7, A8 M8 a8);
target!(A0 M0 a0, A1 M1 a1, A2 M2 a2, A3 M3 a3, A4 M4 a4, A5 M5 a5, A6 M6 a6, A7 M7 a7, A8 M8 a8, A9 M9 a9);
target!(A0 M0 a0, A1 M1 a1, A2 M2 a2, A3 M3 a3, A4 M4 a4, A5 M5 a5, A6 M6 a6, A7 M7 a7, A8 M8 a8, A9 M9 a9, A10 M10 a10);
target!(A0 M0 a0, A1 M1 a1, A2 M2 a2, A3 M3 a3, A4 M4 a4, A5 M5 a5, A6 M6 a6, A7 M7 a7, A8 M8 a8, A9 M9 a9, A10 M10 a10, A11 M11 a11);

/// A target whose decoded arguments own their data: what a pool runs.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot run as a pool's task with the arguments `{A}`",
    label = "the parameters of this function and the tuple of arguments do not fit, or an argument borrows",
    note = "a task's argument must own its data: take `String` or `&String` instead of `&str`"
)]
pub trait TaskTarget<A, M>: Target<A, M, Owned: DeserializeOwned> {}

#[diagnostic::do_not_recommend]
impl<F: Target<A, M, Owned: DeserializeOwned>, A, M> TaskTarget<A, M> for F {}

/// Refuses, when the program is built, a function that carries data.
///
/// # Panics
///
/// At compile time, with the text that the user sees.
pub const fn assert_target<F>() {
    assert!(
        size_of::<F>() == 0,
        "a function for another process must capture nothing: name a plain `fn` or write a closure without captures \
         (a function pointer is not enough), and pass the captured values through `args`"
    );
}

/// Makes the value of a target's type, which has no data.
pub(super) fn conjure<F: Copy + 'static>() -> F {
    const { assert_target::<F>() };
    // SAFETY: `F` has no bytes to read (asserted above) and the dangling pointer is aligned. `F` is `Copy`, and the
    // caller of the verb had a value of it, so one exists; a zero-sized `Copy` token that proves something about *that*
    // process would get through here, which the documentation of the verbs says.
    unsafe { NonNull::<F>::dangling().read() }
}

/// Where the trampoline of one target has its descriptor.
pub(super) struct ProcessSite<F, A, M>(PhantomData<(F, A, M)>);

impl<F, A, M> ProcessSite<F, A, M>
where
    F: Target<A, M, Output: Wire>,
{
    pub(super) const DESCRIPTOR: &'static Descriptor<ProcessKind> =
        &Descriptor::new(run::<F, A, M> as ProcessEntry);
}

/// The trampoline: decodes the arguments, calls the function, encodes its result.
fn run<F, A, M>(args: &'static [u8], luggage: &mut Luggage) -> Outcome
where
    F: Target<A, M, Output: Wire>,
{
    match decode_args::<F, A, M>(args, luggage) {
        Ok(owned) => outcome::of_call(|| conjure::<F>().call(owned)),
        Err(failure) => Outcome::Failed(failure),
    }
}

#[inline]
fn decode_args<F, A, M>(args: &'static [u8], luggage: &mut Luggage) -> Result<F::Owned, Failure>
where
    F: Target<A, M>,
{
    // Deserialize is the user's code too.
    let decoded = catch(|| {
        if !travel::may_carry::<F::Owned>() {
            return codec::decode::<F::Owned>(args);
        }
        let Luggage { handles, kept } = std::mem::take(luggage);
        let decoded = codec::decode_with_handles::<F::Owned>(args, handles);
        // What is in the arguments has references of its own by now.
        drop(kept);
        decoded
    });
    match decoded {
        Ok(owned) => owned.map_err(|error| Failure::BadArguments(error.to_string())),
        Err(report) => Err(Failure::Panicked(report)),
    }
}

/// Calls `F` with arguments that [`Target::encode`] encoded. A panic of the function passes through.
pub(super) fn call_encoded<F, A, M>(args: &'static [u8], luggage: &mut Luggage) -> Result<F::Output, Failure>
where
    F: Target<A, M>,
{
    decode_args::<F, A, M>(args, luggage).map(|owned| conjure::<F>().call(owned))
}
