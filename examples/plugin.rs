//! A C library that uses this crate, for programs which load libraries at run time.
//!
//! It shows what such a library is told: spawn and the fork server execute *the program* again, and cannot find a
//! function of a library in it, so each start is refused by name and nothing is executed. The test `it::library` loads
//! this into a C program and into Python.

use procession::prelude::*;
use std::ffi::{c_char, c_int};

/// Tries to start something from inside this library: with 0 the default start method, with 1 spawn, with 2 the fork
/// server, and with any other number a pool. Returns 0 when that worked, 1 when it was refused since the code is in a
/// library, 2 for any other error, whose text is written to `text`, at most `size` bytes, with a final zero.
///
/// # Safety
///
/// `text` points to `size` writable bytes, or `size` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn procession_plugin_call(what: c_int, text: *mut c_char, size: usize) -> c_int {
    let (code, message) = match start(what) {
        Ok(()) => (0, String::new()),
        Err(error) if matches!(error.kind(), ErrorKind::NotInMainImage { .. }) => (1, error.to_string()),
        Err(error) => (2, error.to_string()),
    };
    let Some(room) = size.checked_sub(1) else { return code };
    let bytes = &message.as_bytes()[..message.len().min(room)];
    // SAFETY: the caller vouches for `size` bytes, and `bytes` with the final zero has at most as many.
    let out = unsafe { std::slice::from_raw_parts_mut(text.cast::<u8>(), bytes.len() + 1) };
    out[..bytes.len()].copy_from_slice(bytes);
    out[bytes.len()] = 0;
    code
}

fn start(what: c_int) -> Result<(), Error> {
    let method = match what {
        0 => return Process::spawn(|| (), ()).and_then(|process| process.result()),
        1 => StartMethod::Spawn,
        2 => StartMethod::ForkServer,
        _ => return Pool::new(1).and_then(|pool| pool.apply(|| (), ())),
    };
    Process::builder(|| ()).context(&Context::new(method)).start()?.result()
}
