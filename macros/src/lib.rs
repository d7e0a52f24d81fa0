//! The attribute macro of `procession`.
//!
//! `#[procession::actor]` turns an `impl` block into an actor: the methods can then be called from other processes through
//! a typed proxy. It works in three steps, a file each: `parse` reads the block and refuses what cannot cross a process
//! boundary, `ir` is what is left of it, `codegen` writes the proxy and the messages. The block itself stays as it is.
//! What is generated names `::procession::__private` and nothing below it.

#![forbid(unsafe_code)]

mod codegen;
mod ir;
mod parse;

use proc_macro::TokenStream;

/// Makes an actor of a type: its public methods can be called from other processes.
///
/// It stands on an inherent `impl` block and generates a proxy, `CounterProxy` for `Counter`, with two methods for each
/// public one: `add(..)` waits, `add_async(..)` gives a [`Call`](https://docs.rs/procession) which is on its way already.
/// The block itself is not changed, and the type can be used as before.
///
/// - A method takes `&self` or `&mut self`; it may be `async`. Private methods and functions without `self` are not
///   exposed.
/// - Arguments are values, `&T`, `&str` or `&[T]`; arguments and results implement serde's traits. A proxy may be either.
/// - A method that returns a `Result<T, E>` gives `Result<T, CallError<E>>` to its caller, any other `T` gives
///   `Result<T, CallError>`. An alias counts if its name is `Result`.
/// - The type may have parameters; their bounds are copied to the proxy. A parameter that is part of a message must be
///   `Wire`.
/// - Visibility, documentation, `#[cfg]`, `#[deprecated]` and `#[must_use]` of a method are kept.
/// - The proxy is `pub`; `#[procession::actor(vis = "pub(crate)")]` makes it something else.
#[proc_macro_attribute]
pub fn actor(options: TokenStream, block: TokenStream) -> TokenStream {
    let original = proc_macro2::TokenStream::from(block.clone());
    let generated = match parse::interface(options.into(), block.into()) {
        Ok(interface) => codegen::code(&interface),
        // The block stays, or each use of its type would be one more error.
        Err(error) => error.to_compile_error(),
    };
    quote::quote!(#original #generated).into()
}
