//! The serializer: writes serde values so that the other side can read them.
//!
//! The bytes of each primitive are bincode's; what stands here is what bincode's own serializer lets pass and no reader
//! can know, since the format has no field names and no marks between values:
//!
//! - a field that is left out (`#[serde(skip_serializing_if)]`),
//! - a sequence or map that holds more or less than it announced,
//! - a value nested deeper than [`MAX_DEPTH`] levels, counted as the reader counts them.
//!
//! Found here it is an error of whoever sends the value; found later it would be a puzzle in another process.

use std::fmt;

use bincode::enc::Encode;
use serde::ser::{
    self, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::guard::{Fault, Kind, MAX_DEPTH};
use super::native;

/// Where a value is written, and how deep in it we are.
pub(super) struct Scribe<'out> {
    out: &'out mut Vec<u8>,
    levels_left: usize,
}

impl<'out> Scribe<'out> {
    #[inline]
    pub(super) fn new(out: &'out mut Vec<u8>) -> Self {
        Self { out, levels_left: MAX_DEPTH }
    }

    #[inline]
    fn put<T: Encode>(&mut self, value: T) -> Result<(), Fault> {
        native::put(value, self.out)
    }

    #[inline]
    fn put_length(&mut self, length: usize) -> Result<(), Fault> {
        self.put(length as u64)
    }

    /// Goes one level down; [`Part::finish`] comes back.
    #[inline]
    fn enter<'a>(&'a mut self, announced: usize) -> Result<Part<'a, 'out>, Fault> {
        self.levels_left = self.levels_left.checked_sub(1).ok_or(Kind::TooDeep)?;
        Ok(Part { scribe: self, announced, written: 0 })
    }
}

/// The methods that write one scalar.
macro_rules! scalars {
    ($($method:ident $type:ty;)*) => {$(
        #[inline]
        fn $method(self, value: $type) -> Result<(), Fault> {
            self.put(value)
        }
    )*};
}

impl<'a, 'out> Serializer for &'a mut Scribe<'out> {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = Part<'a, 'out>;
    type SerializeTuple = Part<'a, 'out>;
    type SerializeTupleStruct = Part<'a, 'out>;
    type SerializeTupleVariant = Part<'a, 'out>;
    type SerializeMap = Part<'a, 'out>;
    type SerializeStruct = Part<'a, 'out>;
    type SerializeStructVariant = Part<'a, 'out>;

    scalars! {
        serialize_bool bool;
        serialize_i8 i8;
        serialize_i16 i16;
        serialize_i32 i32;
        serialize_i64 i64;
        serialize_i128 i128;
        serialize_u8 u8;
        serialize_u16 u16;
        serialize_u32 u32;
        serialize_u64 u64;
        serialize_u128 u128;
        serialize_f32 f32;
        serialize_f64 f64;
        serialize_char char;
    }

    #[inline]
    fn serialize_str(self, text: &str) -> Result<(), Fault> {
        self.serialize_bytes(text.as_bytes())
    }

    #[inline]
    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Fault> {
        self.put_length(bytes.len())?;
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Fault> {
        self.put(0_u8)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Fault> {
        self.put(1_u8)?;
        self.enter(1)?.all(value)
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Fault> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Fault> {
        Ok(())
    }

    #[inline]
    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), Fault> {
        self.put(index)?;
        self.enter(0)?.finish()
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        self.put(index)?;
        self.enter(1)?.all(value)
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Part<'a, 'out>, Fault> {
        let length = length.ok_or(Kind::NoLength)?;
        self.put_length(length)?;
        self.enter(length)
    }

    #[inline]
    fn serialize_tuple(self, length: usize) -> Result<Part<'a, 'out>, Fault> {
        self.enter(length)
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Part<'a, 'out>, Fault> {
        self.enter(length)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        length: usize,
    ) -> Result<Part<'a, 'out>, Fault> {
        self.put(index)?;
        self.enter(length)
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Part<'a, 'out>, Fault> {
        self.serialize_seq(length)
    }

    #[inline]
    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Part<'a, 'out>, Fault> {
        self.enter(length)
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        _: &'static str,
        length: usize,
    ) -> Result<Part<'a, 'out>, Fault> {
        self.put(index)?;
        self.enter(length)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// A value of parts, one level down: elements, entries or fields.
pub(super) struct Part<'a, 'out> {
    scribe: &'a mut Scribe<'out>,
    /// Parts that the reader will look for.
    announced: usize,
    written: usize,
}

impl Part<'_, '_> {
    #[inline]
    fn one<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.written += 1;
        value.serialize(&mut *self.scribe)
    }

    /// The only part.
    #[inline]
    fn all<T: Serialize + ?Sized>(mut self, value: &T) -> Result<(), Fault> {
        self.one(value)?;
        self.finish()
    }

    #[inline]
    fn finish(self) -> Result<(), Fault> {
        let Self { scribe, announced, written } = self;
        scribe.levels_left += 1;
        if written == announced { Ok(()) } else { Err(Kind::Miscounted { announced, written }.into()) }
    }
}

/// The traits of sequences and tuples, which differ in names alone.
macro_rules! elements {
    ($($trait:ident $method:ident;)*) => {$(
        impl $trait for Part<'_, '_> {
            type Ok = ();
            type Error = Fault;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
                self.one(value)
            }

            #[inline]
            fn end(self) -> Result<(), Fault> {
                self.finish()
            }
        }
    )*};
}

elements! {
    SerializeSeq serialize_element;
    SerializeTuple serialize_element;
    SerializeTupleStruct serialize_field;
    SerializeTupleVariant serialize_field;
}

/// The traits of structs, which differ in names alone.
macro_rules! named_fields {
    ($($trait:ident)*) => {$(
        impl $trait for Part<'_, '_> {
            type Ok = ();
            type Error = Fault;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), Fault> {
                self.one(value)
            }

            fn skip_field(&mut self, name: &'static str) -> Result<(), Fault> {
                Err(Kind::Skipped(name).into())
            }

            #[inline]
            fn end(self) -> Result<(), Fault> {
                self.finish()
            }
        }
    )*};
}

named_fields! { SerializeStruct SerializeStructVariant }

impl SerializeMap for Part<'_, '_> {
    type Ok = ();
    type Error = Fault;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        self.one(key)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        value.serialize(&mut *self.scribe)
    }

    #[inline]
    fn end(self) -> Result<(), Fault> {
        self.finish()
    }
}

impl ser::Error for Fault {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Kind::Message(message.to_string()).into()
    }
}
