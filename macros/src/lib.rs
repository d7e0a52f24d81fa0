//! The attribute macro of `procession`.
//!
//! This crate is the room for `#[procession::actor]`, which turns an `impl` block into an actor that lives in another
//! process together with its typed proxy. The attribute comes with typed process actors; functions that are started in
//! other processes need no macro at all.

#![forbid(unsafe_code)]
