//! Every system call that the safe crates do not offer, one small safe function each; and a static that needs `unsafe` too.
//!
//! `unsafe` lives here, each block with its proof. Nothing in this module knows what procession is.
#![allow(unsafe_code)]

pub mod fd;
pub mod futex;
pub mod image;
pub mod latest;
pub mod memory;
pub mod process;
pub mod rights;
pub mod socket;
#[cfg(test)]
pub(crate) mod storm;

use std::io;

/// Turns the `-1` convention of libc into a result.
fn check(result: impl Into<i64>) -> io::Result<i64> {
    match result.into() {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}
