//! What a value says of itself through serde: whether it is an `Err`, and how it looks, for people.
//!
//! The type of a function's result is not known here, but its `Serialize` names what it writes. [`error_text`] asks the
//! root of the value only; nothing else of an `Ok` is walked. The text is like that of `{:?}`, on one line and cut off at
//! [`LIMIT`] bytes.

use serde::ser::{self, Serialize, Serializer};
use std::fmt::{self, Display, Write};

/// Longest text, in bytes, before the mark that says it was cut.
const LIMIT: usize = 1000;

/// How the error looks, if `value` is a `Result` and that is an `Err`.
pub(crate) fn error_text<T: Serialize + ?Sized>(value: &T) -> Option<String> {
    // It goes nowhere: what acts when it is encoded does not act.
    super::handles::checking(|| value.serialize(Root)).0.ok()
}

/// The walk is over: at the limit, or at a root that is no `Err`.
#[derive(Debug)]
struct Stop;

impl Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the rest is not shown")
    }
}

impl std::error::Error for Stop {}

impl ser::Error for Stop {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

/// Accepts an `Err` and refuses all else.
struct Root;

macro_rules! refuse {
    ($($method:ident($($kind:ty),*) $(-> $compound:ident)?;)*) => {
        $(fn $method(self, $(_: $kind),*) -> Result<refuse!(@ $($compound)?), Stop> { Err(Stop) })*
    };
    (@) => { String };
    (@ $compound:ident) => { Self::$compound };
}

type Never = ser::Impossible<String, Stop>;

impl Serializer for Root {
    type Ok = String;
    type Error = Stop;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Never;
    type SerializeMap = Never;
    type SerializeStruct = Never;
    type SerializeStructVariant = Never;

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        error: &T,
    ) -> Result<String, Stop> {
        if (name, variant) != ("Result", "Err") {
            return Err(Stop);
        }
        let mut text = Text::default();
        // An error that stops its own telling is told as far as it came.
        if error.serialize(&mut text).is_err() {
            text.out.push_str("...");
        }
        Ok(text.out)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<String, Stop> {
        value.serialize(self)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<String, Stop> {
        Err(Stop)
    }

    refuse! {
        serialize_bool(bool); serialize_i8(i8); serialize_i16(i16); serialize_i32(i32); serialize_i64(i64);
        serialize_u8(u8); serialize_u16(u16); serialize_u32(u32); serialize_u64(u64);
        serialize_f32(f32); serialize_f64(f64); serialize_char(char); serialize_str(&str); serialize_bytes(&[u8]);
        serialize_none(); serialize_unit(); serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
        serialize_seq(Option<usize>) -> SerializeSeq;
        serialize_tuple(usize) -> SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant;
        serialize_map(Option<usize>) -> SerializeMap;
        serialize_struct(&'static str, usize) -> SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant;
    }
}

/// Writes a value as `{:?}` would.
#[derive(Default)]
struct Text {
    out: String,
}

impl Text {
    fn write(&mut self, part: fmt::Arguments<'_>) -> Result<(), Stop> {
        self.out.write_fmt(part).map_err(|_| Stop)?;
        if self.out.len() <= LIMIT {
            return Ok(());
        }
        self.out.truncate(self.out.floor_char_boundary(LIMIT));
        Err(Stop)
    }

    fn open<'a>(&'a mut self, head: &str, bracket: &str, end: &'static str) -> Result<List<'a>, Stop> {
        self.write(format_args!("{head}{bracket}"))?;
        Ok(List { text: self, is_first: true, end })
    }
}

/// The elements of a collection, with commas between.
struct List<'a> {
    text: &'a mut Text,
    is_first: bool,
    end: &'static str,
}

impl List<'_> {
    fn element<T: Serialize + ?Sized>(&mut self, name: Option<&str>, value: &T) -> Result<(), Stop> {
        let comma = if std::mem::take(&mut self.is_first) { "" } else { ", " };
        self.text.write(format_args!("{comma}"))?;
        if let Some(name) = name {
            self.text.write(format_args!("{name}: "))?;
        }
        value.serialize(&mut *self.text)
    }

    fn close(self) -> Result<(), Stop> {
        self.text.write(format_args!("{}", self.end))
    }
}

macro_rules! plain {
    ($($method:ident($kind:ty) $format:literal;)*) => {
        $(fn $method(self, value: $kind) -> Result<(), Stop> { self.write(format_args!($format, value)) })*
    };
}

impl<'a> Serializer for &'a mut Text {
    type Ok = ();
    type Error = Stop;
    type SerializeSeq = List<'a>;
    type SerializeTuple = List<'a>;
    type SerializeTupleStruct = List<'a>;
    type SerializeTupleVariant = List<'a>;
    type SerializeMap = List<'a>;
    type SerializeStruct = List<'a>;
    type SerializeStructVariant = List<'a>;

    plain! {
        serialize_bool(bool) "{}"; serialize_i8(i8) "{}"; serialize_i16(i16) "{}"; serialize_i32(i32) "{}";
        serialize_i64(i64) "{}"; serialize_i128(i128) "{}"; serialize_u8(u8) "{}"; serialize_u16(u16) "{}";
        serialize_u32(u32) "{}"; serialize_u64(u64) "{}"; serialize_u128(u128) "{}";
        serialize_f32(f32) "{:?}"; serialize_f64(f64) "{:?}"; serialize_char(char) "{:?}"; serialize_unit_struct(&'static str) "{}";
    }

    fn serialize_str(self, text: &str) -> Result<(), Stop> {
        // Escaping far more than is shown would take time for nothing.
        self.write(format_args!("{:?}", &text[..text.floor_char_boundary(LIMIT)]))
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Stop> {
        self.write(format_args!("{:?}", &bytes[..bytes.len().min(LIMIT)]))
    }

    fn serialize_none(self) -> Result<(), Stop> {
        self.write(format_args!("None"))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Stop> {
        self.serialize_newtype_struct("Some", value)
    }

    fn serialize_unit(self) -> Result<(), Stop> {
        self.write(format_args!("()"))
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Stop> {
        self.write(format_args!("{variant}"))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        let mut list = self.open(name, "(", ")")?;
        list.element(None, value)?;
        list.close()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Stop> {
        self.serialize_newtype_struct(variant, value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<List<'a>, Stop> {
        self.open("", "[", "]")
    }

    fn serialize_tuple(self, _: usize) -> Result<List<'a>, Stop> {
        self.open("", "(", ")")
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<List<'a>, Stop> {
        self.open(name, "(", ")")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<List<'a>, Stop> {
        self.open(variant, "(", ")")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<List<'a>, Stop> {
        self.open("", "{", "}")
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<List<'a>, Stop> {
        self.open(name, " { ", " }")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<List<'a>, Stop> {
        self.open(variant, " { ", " }")
    }
}

macro_rules! list {
    ($($compound:ident $method:ident($($name:ident)?);)*) => {
        $(impl ser::$compound for List<'_> {
            type Ok = ();
            type Error = Stop;

            fn $method<T: Serialize + ?Sized>(&mut self, $($name: &'static str,)? value: &T) -> Result<(), Stop> {
                self.element(list!(@ $($name)?), value)
            }

            fn end(self) -> Result<(), Stop> {
                self.close()
            }
        })*
    };
    (@) => { None };
    (@ $name:ident) => { Some($name) };
}

list! {
    SerializeSeq serialize_element();
    SerializeTuple serialize_element();
    SerializeTupleStruct serialize_field();
    SerializeTupleVariant serialize_field();
    SerializeStruct serialize_field(name);
    SerializeStructVariant serialize_field(name);
}

impl ser::SerializeMap for List<'_> {
    type Ok = ();
    type Error = Stop;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Stop> {
        self.element(None, key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Stop> {
        self.text.write(format_args!(": "))?;
        value.serialize(&mut *self.text)
    }

    fn end(self) -> Result<(), Stop> {
        self.close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;
    use std::collections::BTreeMap;

    #[derive(Debug, Serialize)]
    enum Failure {
        Plain,
        Of(u8),
        Pair(u8, char),
        At { line: u32, text: &'static str },
    }

    #[derive(Debug, Serialize)]
    struct Report {
        code: Option<i64>,
        parts: Vec<(bool, f64)>,
    }

    /// As `{:?}` shows it.
    #[track_caller]
    fn assert_shown<E: Serialize + std::fmt::Debug>(error: E) {
        let expected = format!("{error:?}");
        assert_eq!(error_text(&Err::<(), E>(error)).as_deref(), Some(expected.as_str()));
    }

    #[test]
    fn errors_are_shown_as_debug_shows_them() {
        assert_shown("no \"such\" file\n");
        assert_shown(-7_i128);
        assert_shown(());
        assert_shown(Failure::Plain);
        assert_shown(Failure::Of(1));
        assert_shown(Failure::Pair(1, '\''));
        assert_shown(Failure::At { line: 3, text: "x" });
        assert_shown(Report { code: Some(1), parts: vec![(true, 0.5), (false, 1.0)] });
        assert_shown(Report { code: None, parts: Vec::new() });
        assert_shown(BTreeMap::from([(1, "one"), (2, "two")]));
        assert_shown(Err::<(), u8>(1));
    }

    #[test]
    fn values_that_are_no_errors_are_none() {
        assert_eq!(error_text(&Ok::<u8, u8>(1)), None);
        assert_eq!(error_text(&Some(Err::<u8, u8>(1))), None);
        assert_eq!(error_text(&(Err::<u8, u8>(1), 2)), None);
        assert_eq!(error_text(&[Err::<u8, u8>(1)]), None);
        assert_eq!(error_text("Err"), None);
        assert_eq!(error_text(&Failure::Of(1)), None);
    }

    #[test]
    fn long_errors_are_cut() {
        for text in [
            error_text(&Err::<(), _>("ä".repeat(1 << 20))),
            error_text(&Err::<(), _>(vec![1_u8; 1 << 20])),
            error_text(&Err::<(), _>((0..1000).map(|x| (x, x)).collect::<BTreeMap<u32, u32>>())),
        ] {
            let text = text.unwrap();
            assert!(text.len() <= LIMIT + 3 && text.ends_with("..."), "{text}");
        }
    }

    #[test]
    fn error_that_cannot_be_written_is_an_error_all_the_same() {
        struct Silent;
        impl Serialize for Silent {
            fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(ser::Error::custom("not me"))
            }
        }
        assert_eq!(error_text(&Err::<(), _>(Silent)).as_deref(), Some("..."));
    }
}
