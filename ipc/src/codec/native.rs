//! The bytes themselves: bincode with fixed-width little-endian integers, named in this file and nowhere else.
//!
//! | value | bytes |
//! |---|---|
//! | integers, floats | little endian at their own width; `usize` and `isize` as eight bytes |
//! | `bool`, `None`/`Some` | one byte, 0 or 1 |
//! | `char` | its UTF-8 |
//! | strings, bytes, sequences, maps | length as `u64`, then the content |
//! | structs, tuples, arrays | their fields, nothing between them |
//! | enums | index of the variant as `u32`, then its fields |
//! | `()` and unit structs | nothing |
//!
//! Fixed width rather than variable, since it makes a `Vec` of numbers one copy and a number one load.

use bincode::config::{Configuration, Fixint, LittleEndian, NoLimit};
use bincode::de::read::Reader;
use bincode::de::{Decode, DecoderImpl};
use bincode::enc::write::Writer;
use bincode::enc::{Encode, EncoderImpl};
use bincode::error::{DecodeError, EncodeError};

use super::guard::{Fault, Kind};

type Config = Configuration<LittleEndian, Fixint, NoLimit>;

const CONFIG: Config = bincode::config::standard().with_fixed_int_encoding();

/// Appends one number, `bool` or `char`.
#[inline]
pub(super) fn put<T: Encode>(value: T, out: &mut Vec<u8>) -> Result<(), Fault> {
    value.encode(&mut EncoderImpl::new(Output(out), CONFIG)).map_err(|error| encode_fault(&error))
}

/// Where encoded bytes go.
struct Output<'a>(&'a mut Vec<u8>);

impl Writer for Output<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// The encoded bytes that are still to be read.
pub(super) struct Source<'buf>(&'buf [u8]);

impl<'buf> Source<'buf> {
    #[inline]
    pub(super) fn new(bytes: &'buf [u8]) -> Self {
        Self(bytes)
    }

    /// Number of bytes left.
    #[inline]
    pub(super) fn remaining(&self) -> usize {
        self.0.len()
    }

    /// Reads one number, `bool` or `char`.
    #[inline]
    pub(super) fn read<T: Decode<()>>(&mut self) -> Result<T, Fault> {
        T::decode(&mut DecoderImpl::new(self, CONFIG, ())).map_err(decode_fault)
    }

    /// Takes the next `length` bytes, without a copy.
    #[inline]
    pub(super) fn take(&mut self, length: usize) -> Option<&'buf [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

impl Reader for Source<'_> {
    #[inline]
    fn read(&mut self, bytes: &mut [u8]) -> Result<(), DecodeError> {
        let Some(taken) = self.take(bytes.len()) else {
            return Err(DecodeError::UnexpectedEnd { additional: bytes.len() - self.0.len() });
        };
        bytes.copy_from_slice(taken);
        Ok(())
    }
}

#[cold]
fn encode_fault(error: &EncodeError) -> Fault {
    Kind::Message(format!("{error:?}")).into()
}

#[cold]
fn decode_fault(error: DecodeError) -> Fault {
    let text = match error {
        DecodeError::UnexpectedEnd { additional } => {
            format!("the input ends {additional} bytes too early")
        }
        DecodeError::InvalidBooleanValue(byte) => format!("{byte} is neither true nor false"),
        DecodeError::InvalidCharEncoding(bytes) => format!("{bytes:?} is no character"),
        DecodeError::OtherString(text) => text,
        other => format!("{other:?}"),
    };
    Kind::Message(text).into()
}

/// What bincode's own serde encoder makes of `value`: the reference for the scribe's tests.
#[cfg(test)]
pub(super) fn reference_bytes<T: serde::Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, CONFIG).unwrap()
}

/// What bincode's own serde decoder makes of `bytes`: the reference for the guard's tests.
#[cfg(test)]
pub(super) fn reference<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    bincode::serde::decode_from_slice(bytes, CONFIG)
}
