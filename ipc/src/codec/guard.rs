//! The deserializer: reads serde values out of bytes that nobody vouches for.
//!
//! Bincode's own serde decoder believes what it reads: deep nesting overflows the stack, and eight bytes that claim
//! a `Vec<()>` of 2^60 elements keep it busy for minutes. This one uses bincode for the bytes and counts two things:
//!
//! - **depth**: each sequence, map, tuple, struct, enum and `Some` that is entered costs one of [`MAX_DEPTH`] levels.
//!   Newtypes cost none: a recursive type cannot end without one of the others.
//! - **elements**: a message may claim as many elements of sequences and maps, all together, as it has bytes,
//!   plus [`FREE_ELEMENTS`]. An element that takes bytes has at least one which is its own, so only elements of
//!   size zero are ever limited by this, and the work is linear in the size of the message.
//!
//! Strings and byte strings are borrowed from the input before they are copied, so their claimed length is checked
//! against what is there before anything is allocated.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::U32Deserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Unexpected, Visitor};

use super::native::Source;

/// Levels that a value may nest. As in `serde_json`; a linked list of structs spends two on each link.
pub const MAX_DEPTH: usize = 128;

/// Elements that one message may hold beyond the number of its bytes: what is left for `Vec<()>` and its like.
pub const FREE_ELEMENTS: usize = 65_536;

/// Why a value could not be read or written. One pointer wide, to keep the results on the hot path small.
#[derive(Debug)]
pub(super) struct Fault(Box<Kind>);

/// The reason inside a [`Fault`].
#[derive(Debug)]
pub(super) enum Kind {
    /// Bytes that make no sense, or what the `Serialize` or `Deserialize` implementation said.
    Message(String),
    /// A string or bytes were there, and the type wants to borrow them where they can only be copied.
    Borrows(String),
    /// More than [`MAX_DEPTH`] levels.
    TooDeep,
    /// A length that the input cannot hold.
    TooLong { claimed: u64, available: usize },
    /// The type asks the input what comes next.
    NotSelfDescribing,
    /// The type does not know its own length when written.
    NoLength,
    /// The type holds more or less than it announced.
    Miscounted { announced: usize, written: usize },
    /// The type left out the field with this name.
    Skipped(&'static str),
}

impl Fault {
    pub(super) fn into_kind(self) -> Kind {
        *self.0
    }
}

impl From<Kind> for Fault {
    #[cold]
    fn from(kind: Kind) -> Self {
        Self(Box::new(kind))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        Kind::Message(message.to_string()).into()
    }

    #[cold]
    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let text = format!("found {found}, expected {expected}");
        match found {
            Unexpected::Str(_) | Unexpected::Bytes(_) => Kind::Borrows(text).into(),
            _ => Kind::Message(text).into(),
        }
    }
}

/// Whether strings and bytes of the input, which lives for `'buf`, may become part of the value, which needs `'de`.
pub(super) trait Lend<'buf, 'de> {
    fn visit_str<V: Visitor<'de>>(visitor: V, text: &'buf str) -> Result<V::Value, Fault>;
    fn visit_bytes<V: Visitor<'de>>(visitor: V, bytes: &'buf [u8]) -> Result<V::Value, Fault>;
}

/// The value may borrow from the input.
pub(super) enum Borrowed {}

impl<'de> Lend<'de, 'de> for Borrowed {
    #[inline]
    fn visit_str<V: Visitor<'de>>(visitor: V, text: &'de str) -> Result<V::Value, Fault> {
        visitor.visit_borrowed_str(text)
    }

    #[inline]
    fn visit_bytes<V: Visitor<'de>>(visitor: V, bytes: &'de [u8]) -> Result<V::Value, Fault> {
        visitor.visit_borrowed_bytes(bytes)
    }
}

/// The value must copy what it keeps, so the input need not live as long as the value.
pub(super) enum Copied {}

impl<'buf, 'de> Lend<'buf, 'de> for Copied {
    #[inline]
    fn visit_str<V: Visitor<'de>>(visitor: V, text: &'buf str) -> Result<V::Value, Fault> {
        visitor.visit_str(text)
    }

    #[inline]
    fn visit_bytes<V: Visitor<'de>>(visitor: V, bytes: &'buf [u8]) -> Result<V::Value, Fault> {
        visitor.visit_bytes(bytes)
    }
}

/// Reads one message.
pub(super) struct Guard<'buf, L> {
    source: Source<'buf>,
    /// Levels that may still be entered.
    depth: usize,
    /// Elements that may still be claimed.
    elements: usize,
    lend: PhantomData<L>,
}

impl<'buf, L> Guard<'buf, L> {
    #[inline]
    pub(super) fn new(bytes: &'buf [u8]) -> Self {
        let elements = bytes.len().saturating_add(FREE_ELEMENTS);
        Self { source: Source::new(bytes), depth: MAX_DEPTH, elements, lend: PhantomData }
    }

    /// Number of bytes that were not read.
    #[inline]
    pub(super) fn remaining(&self) -> usize {
        self.source.remaining()
    }

    /// Reads the length of a sequence or map, and takes it from the elements of the message.
    #[inline]
    fn claim_elements(&mut self) -> Result<usize, Fault> {
        let claimed = self.source.read::<u64>()?;
        let left = usize::try_from(claimed).ok().and_then(|count| self.elements.checked_sub(count));
        let Some(left) = left else {
            return Err(Kind::TooLong { claimed, available: self.elements }.into());
        };
        let count = self.elements - left;
        self.elements = left;
        Ok(count)
    }

    /// Reads a length and as many bytes.
    #[inline]
    fn take_bytes(&mut self) -> Result<&'buf [u8], Fault> {
        let claimed = self.source.read::<u64>()?;
        let available = self.source.remaining();
        let taken = usize::try_from(claimed).ok().and_then(|length| self.source.take(length));
        taken.ok_or_else(|| Kind::TooLong { claimed, available }.into())
    }

    #[inline]
    fn take_str(&mut self) -> Result<&'buf str, Fault> {
        std::str::from_utf8(self.take_bytes()?).map_err(de::Error::custom)
    }

    /// Runs `read` one level deeper.
    #[inline]
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        let Some(depth) = self.depth.checked_sub(1) else { return Err(Kind::TooDeep.into()) };
        self.depth = depth;
        let value = read(self)?;
        self.depth += 1;
        Ok(value)
    }

    /// Reads `count` values that follow each other.
    #[inline]
    fn fields<'de, V: Visitor<'de>>(&mut self, count: usize, visitor: V) -> Result<V::Value, Fault>
    where
        L: Lend<'buf, 'de>,
    {
        visitor.visit_seq(Elements { guard: self, left: count })
    }
}

/// The methods that read one scalar and hand it over.
macro_rules! scalars {
    ($($method:ident $visit:ident $type:ty;)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            visitor.$visit(self.source.read::<$type>()?)
        }
    )*};
}

impl<'buf, 'de, L: Lend<'buf, 'de>> Deserializer<'de> for &mut Guard<'buf, L> {
    type Error = Fault;

    scalars! {
        deserialize_bool visit_bool bool;
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_i128 visit_i128 i128;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_u128 visit_u128 u128;
        deserialize_f32 visit_f32 f32;
        deserialize_f64 visit_f64 f64;
        deserialize_char visit_char char;
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        L::visit_str(visitor, self.take_str()?)
    }

    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        L::visit_bytes(visitor, self.take_bytes()?)
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.source.read::<u8>()? {
            0 => visitor.visit_none(),
            1 => self.nested(|guard| visitor.visit_some(guard)),
            byte => Err(Kind::Message(format!("{byte} is neither `None` nor `Some`")).into()),
        }
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let count = self.claim_elements()?;
        self.nested(|guard| guard.fields(count, visitor))
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value, Fault> {
        self.nested(|guard| guard.fields(count, visitor))
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        count: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(count, visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let left = self.claim_elements()?;
        self.nested(|guard| visitor.visit_map(Elements { guard, left }))
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_tuple(fields.len(), visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.nested(|guard| visitor.visit_enum(guard))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        Err(Kind::NotSelfDescribing.into())
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        Err(Kind::NotSelfDescribing.into())
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        Err(Kind::NotSelfDescribing.into())
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements of a sequence, the entries of a map or the fields of a struct.
struct Elements<'a, 'buf, L> {
    guard: &'a mut Guard<'buf, L>,
    left: usize,
}

impl<'de, 'buf, L: Lend<'buf, 'de>> Elements<'_, 'buf, L> {
    #[inline]
    fn next<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.guard).map(Some)
    }

    /// At most one element for each byte that is left: collections allocate what this says before they read.
    #[inline]
    fn likely(&self) -> usize {
        self.left.min(self.guard.remaining())
    }
}

impl<'de, 'buf, L: Lend<'buf, 'de>> de::SeqAccess<'de> for Elements<'_, 'buf, L> {
    type Error = Fault;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        self.next(seed)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.likely())
    }
}

impl<'de, 'buf, L: Lend<'buf, 'de>> de::MapAccess<'de> for Elements<'_, 'buf, L> {
    type Error = Fault;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        self.next(seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(&mut *self.guard)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        Some(self.likely())
    }
}

impl<'buf, 'de, L: Lend<'buf, 'de>> de::EnumAccess<'de> for &mut Guard<'buf, L> {
    type Error = Fault;
    type Variant = Self;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        let index: U32Deserializer<Fault> = self.source.read::<u32>()?.into_deserializer();
        Ok((seed.deserialize(index)?, self))
    }
}

/// The level of the enum covers its fields.
impl<'buf, 'de, L: Lend<'buf, 'de>> de::VariantAccess<'de> for &mut Guard<'buf, L> {
    type Error = Fault;

    #[inline]
    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Fault> {
        seed.deserialize(self)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value, Fault> {
        self.fields(count, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.fields(fields.len(), visitor)
    }
}
