//! Turns values into bytes and back.
//!
//! Everything that crosses a process border as a value passes here: arguments, results, queue items, messages. The
//! format is compact and has no field names, so both sides must have the same types, which holds between processes
//! of one program. The bytes are described in `codec/native.rs`; they are the same whichever function wrote them.
//!
//! Invariants:
//!
//! - Bytes are not trusted. Deep nesting, claimed lengths and truncated input give an error and never a crash, a
//!   stack overflow, or memory and time beyond what the size of the input justifies ([`MAX_DEPTH`], [`FREE_ELEMENTS`]).
//! - `&T`, `&[T]`, `&str` are written as `T`, `Vec<T>`, `String`: references are sent, owned values arrive.
//! - A type that can be written but not read is refused at the sender, by [`check_encoded`], where its name is known.
//! - The serialisation crate is named in one file and in no signature.
//!
//! # Examples
//!
//! ```
//! use procession_ipc::codec;
//!
//! let bytes = codec::encode(&("ready", [1u16, 2]))?;
//! let (word, numbers): (&str, [u16; 2]) = codec::decode(&bytes)?; // `word` borrows from `bytes`
//! assert_eq!((word, numbers), ("ready", [1, 2]));
//! # Ok::<(), codec::CodecError>(())
//! ```

mod bulk;
mod check;
mod guard;
mod handles;
mod native;
mod raw;
mod scribe;
pub(crate) mod show;
mod values;

use std::any::type_name;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use guard::{Borrowed, Fault, Guard, Kind};
use scribe::Scribe;

pub use check::{check_encoded, check_round_trip, encode_checked, encode_wire_checked};
pub use guard::{FREE_ELEMENTS, MAX_DEPTH};
pub use handles::{
    HandleFd, MAX_HANDLES, collecting_handles, decode_wire_with_handles, decode_with_handles,
    encode_checked_with_handles, encode_wire_with_handles, encode_with_handles, end_check, giving_handles,
};
pub(crate) use handles::{is_checking, serialize_fd};
pub use raw::{Raw, raw_parts};
pub use values::{decode_numbers, decode_values};

/// A value that can be sent to another process: results, items of queues, messages.
///
/// Implemented for every type that serde can write and read and that borrows nothing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent to another process",
    label = "not `Serialize + Deserialize`",
    note = "derive serde's `Serialize` and `Deserialize` for it",
    note = "is the target an `async fn`? write a plain `fn` that blocks on the future inside"
)]
pub trait Wire: Serialize + DeserializeOwned + 'static {}

#[diagnostic::do_not_recommend]
impl<T: Serialize + DeserializeOwned + 'static> Wire for T {}

/// Why a value could not be turned into bytes, or bytes into a value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The type's own `Serialize` failed.
    #[error("`{type_name}` cannot be encoded: {reason}")]
    Encode {
        /// The type that was to be written.
        type_name: &'static str,
        /// What its `Serialize` said.
        reason: String,
    },
    /// The bytes are no such value.
    #[error("the bytes are not a `{type_name}`: {reason}")]
    Decode {
        /// The type that was to be read.
        type_name: &'static str,
        /// What was wrong with the bytes, or what the type's `Deserialize` said.
        reason: String,
    },
    /// The type can be written but not read back, so it must not be sent.
    #[error("`{type_name}` can be written but not read back: {hint}")]
    NotRoundTrip {
        /// The type that was to be sent.
        type_name: &'static str,
        /// Why, and what to do.
        hint: String,
    },
    /// The value is nested too deeply.
    #[error("`{type_name}` is nested deeper than {limit} levels: keep a long chain in a `Vec`")]
    TooDeep {
        /// The type that was to be written or read.
        type_name: &'static str,
        /// [`MAX_DEPTH`].
        limit: usize,
    },
    /// The bytes claim a longer string or collection than they can hold.
    #[error(
        "the bytes are not a `{type_name}`: a length of {claimed} is claimed where {available} is possible"
    )]
    TooLong {
        /// The type that was to be read.
        type_name: &'static str,
        /// The length in the bytes.
        claimed: u64,
        /// The length that could be there.
        available: usize,
    },
    /// Bytes are left after the value.
    #[error("{bytes} bytes are left after a `{type_name}`: was another type sent?")]
    Trailing {
        /// The type that was read.
        type_name: &'static str,
        /// Number of bytes left.
        bytes: usize,
    },
    /// The type asks the bytes what they are.
    #[error("`{type_name}` cannot be decoded: {NOT_SELF_DESCRIBING}")]
    NotSelfDescribing {
        /// The type that was to be read.
        type_name: &'static str,
    },
    /// More descriptors than one message can carry.
    #[error("{count} descriptors in one message, {limit} are possible: send them in several")]
    TooManyHandles {
        /// Descriptors in the value.
        count: usize,
        /// [`MAX_HANDLES`].
        limit: usize,
    },
    /// A descriptor cannot be sent or did not arrive.
    #[error("{reason}")]
    Handle {
        /// Which, and why.
        reason: String,
    },
}

const NOT_SELF_DESCRIBING: &str = "it asks the bytes what they hold, as `#[serde(untagged)]`, `#[serde(tag = ..)]`, \
    `#[serde(flatten)]` and `serde_json::Value` do, and a compact format does not say; drop the attribute, or send \
    the value as a string of JSON";

const NO_LENGTH: &str = "its length is not known before it is written, as with `#[serde(flatten)]`; drop the \
    attribute, collect into a `Vec` first, or send the value as a string of JSON";

/// Encodes `value`.
///
/// # Errors
///
/// [`CodecError::Encode`] if the type's `Serialize` fails, [`CodecError::NotRoundTrip`] if it does not know its length
/// (`#[serde(flatten)]`) or leaves out a field (`#[serde(skip_serializing_if)]`), [`CodecError::TooDeep`].
///
/// # Examples
///
/// ```
/// assert_eq!(procession_ipc::codec::encode("ab")?, [2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b']);
/// # Ok::<(), procession_ipc::codec::CodecError>(())
/// ```
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
    // A guess, which spares the common small message its reallocations. Of nothing comes nothing, mostly: to a copy of a
    // process, an allocation less is worth something.
    let room = match size_of_val(value) {
        0 => 0,
        size => size.clamp(32, 4096),
    };
    let mut out = Vec::with_capacity(room);
    encode_into(value, &mut out)?;
    Ok(out)
}

/// Appends the encoded `value` to `out`, so that a buffer can be used again.
///
/// # Errors
///
/// Those of [`encode`]; `out` is then as it was.
#[inline]
pub fn encode_into<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    value.serialize(&mut Scribe::new(out)).map_err(|fault| {
        out.truncate(start);
        encode_error(fault, type_name::<T>())
    })
}

/// Appends the encoded `value` to `out`, a `Vec` of numbers as one copy.
///
/// # Errors
///
/// Those of [`encode`]; `out` is then as it was.
#[inline]
pub fn encode_wire<T: Wire>(value: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
    if bulk::encode(value, out) { Ok(()) } else { encode_into(value, out) }
}

/// Decodes a value that takes up all of `bytes`, from which it may borrow.
///
/// # Errors
///
/// [`CodecError::Decode`], [`TooDeep`](CodecError::TooDeep) or [`TooLong`](CodecError::TooLong) if the bytes are no
/// such value, [`Trailing`](CodecError::Trailing) if some are left, [`NotSelfDescribing`](CodecError::NotSelfDescribing)
/// if the type cannot be read from a compact format.
///
/// # Examples
///
/// ```
/// use procession_ipc::codec::{self, CodecError};
///
/// let bytes = codec::encode(&(1u8, 2u8))?;
/// assert!(matches!(codec::decode::<u8>(&bytes), Err(CodecError::Trailing { bytes: 1, .. })));
/// # Ok::<(), CodecError>(())
/// ```
#[inline]
pub fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, CodecError> {
    let (value, used) = decode_prefix(bytes)?;
    match bytes.len() - used {
        0 => Ok(value),
        left => Err(CodecError::Trailing { type_name: type_name::<T>(), bytes: left }),
    }
}

/// Decodes a value from the start of `bytes` and says how many it took up.
///
/// # Errors
///
/// Those of [`decode`], except for `Trailing`.
///
/// # Examples
///
/// ```
/// use procession_ipc::codec;
///
/// let mut bytes = Vec::new();
/// for n in 0..3u64 {
///     codec::encode_into(&n, &mut bytes)?;
/// }
/// let (mut rest, mut sum) = (&bytes[..], 0);
/// while !rest.is_empty() {
///     let (n, used) = codec::decode_prefix::<u64>(rest)?;
///     (rest, sum) = (&rest[used..], sum + n);
/// }
/// assert_eq!(sum, 3);
/// # Ok::<(), codec::CodecError>(())
/// ```
#[inline]
pub fn decode_prefix<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<(T, usize), CodecError> {
    let mut guard = Guard::<'de, Borrowed>::new(bytes);
    match T::deserialize(&mut guard) {
        Ok(value) => Ok((value, bytes.len() - guard.remaining())),
        Err(fault) => Err(decode_error(fault, type_name::<T>())),
    }
}

/// Decodes a value that takes up all of `bytes`, a `Vec` of numbers as one copy.
///
/// # Errors
///
/// Those of [`decode`].
#[inline]
pub fn decode_wire<T: Wire>(bytes: &[u8]) -> Result<T, CodecError> {
    match bulk::decode(bytes) {
        Some(value) => Ok(value),
        None => decode(bytes),
    }
}

fn left_out(field: &str) -> String {
    format!(
        "the field `{field}` was left out, as with `#[serde(skip_serializing_if = ..)]`, and the reader would not know; \
         drop the attribute, or send the value as a string of JSON"
    )
}

#[cold]
fn encode_error(fault: Fault, type_name: &'static str) -> CodecError {
    match fault.into_kind() {
        Kind::NoLength => CodecError::NotRoundTrip { type_name, hint: NO_LENGTH.to_owned() },
        Kind::Skipped(field) => CodecError::NotRoundTrip { type_name, hint: left_out(field) },
        Kind::TooDeep => CodecError::TooDeep { type_name, limit: MAX_DEPTH },
        Kind::Miscounted { announced, written } => {
            let reason = format!("its `Serialize` announced {announced} parts and wrote {written}");
            CodecError::Encode { type_name, reason }
        }
        Kind::Message(reason) => CodecError::Encode { type_name, reason },
        other => CodecError::Encode { type_name, reason: format!("{other:?}") },
    }
}

#[cold]
fn decode_error(fault: Fault, type_name: &'static str) -> CodecError {
    match fault.into_kind() {
        Kind::Message(reason) | Kind::Borrows(reason) => CodecError::Decode { type_name, reason },
        Kind::TooDeep => CodecError::TooDeep { type_name, limit: MAX_DEPTH },
        Kind::TooLong { claimed, available } => CodecError::TooLong { type_name, claimed, available },
        Kind::NotSelfDescribing => CodecError::NotSelfDescribing { type_name },
        other => CodecError::Decode { type_name, reason: format!("{other:?}") },
    }
}

/// Decodes `bytes` as several types. For the fuzzer: whatever the bytes are, this returns.
#[doc(hidden)]
pub fn fuzz_decode(bytes: &[u8]) {
    #[derive(Serialize, Deserialize)]
    enum Tree {
        Leaf(i16),
        Pair(Box<Self>, Box<Self>),
        Named { name: String, children: Vec<Self> },
    }
    fn canonical<T: Wire>(bytes: &[u8]) {
        if let Ok(value) = decode_wire::<T>(bytes) {
            let mut again = Vec::new();
            assert!(encode_wire(&value, &mut again).is_ok_and(|()| again == bytes), "{}", type_name::<T>());
        }
    }
    canonical::<(bool, char, u64, f64)>(bytes);
    canonical::<Vec<Vec<u8>>>(bytes);
    canonical::<Vec<f32>>(bytes);
    canonical::<Vec<()>>(bytes);
    canonical::<Option<Vec<Option<String>>>>(bytes);
    canonical::<Tree>(bytes);
    let _ = decode::<std::collections::BTreeMap<String, (u8, Vec<()>)>>(bytes);
    let _ = decode::<(&str, Option<i128>)>(bytes);
    let _ = decode_with_handles::<Vec<HandleFd>>(bytes, Vec::new());
    let _ = decode_prefix::<Vec<Tree>>(bytes);
}

#[cfg(test)]
mod tests;
