//! Values that came from another process, lent to this program's subscriber.

use super::site::Site;
use super::wire::{Value, Values};
use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use tracing::field::{DebugValue, Value as Recordable, ValueSet, debug};

/// Which process something came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) process: &'a str,
    pub(super) pid: u32,
}

/// One value for each field of a callsite.
#[derive(Debug)]
pub(super) struct Fields<'a>(Vec<Field<'a>>);

/// A value as a subscriber records it; each keeps the kind that it had.
#[derive(Debug)]
enum Field<'a> {
    Absent,
    U64(u64),
    I64(i64),
    U128(u128),
    I128(i128),
    F64(f64),
    Bool(bool),
    Str(&'a str),
    Bytes(&'a [u8]),
    Debug(DebugValue<Verbatim<'a>>),
    Error(Box<dyn StdError>),
}

impl<'a> Fields<'a> {
    /// Puts each value in the place of its field. A value without a field is dropped, a field without a value is absent.
    pub(super) fn of(site: &Site, values: &'a Values<'_>, origin: Option<Origin<'a>>) -> Self {
        let mut fields: Vec<Field<'a>> = Vec::new();
        fields.resize_with(site.own_fields(), || Field::Absent);
        for (index, value) in values {
            if let Some(field) = fields.get_mut(*index) {
                *field = Field::of(value);
            }
        }
        let [has_process, has_pid] = site.is_added();
        let process = origin.filter(|_| has_process).map(|origin| Field::Str(origin.process));
        let pid = origin.filter(|_| has_pid).map(|origin| Field::U64(u64::from(origin.pid)));
        fields.extend([process, pid].map(|added| added.unwrap_or(Field::Absent)));
        Self(fields)
    }

    /// Hands them to `emit` as the values of `site`.
    pub(super) fn lend<R>(&self, site: &'static Site, emit: impl FnOnce(&ValueSet<'_>) -> R) -> R {
        let values: Vec<Option<&dyn Recordable>> = self.0.iter().map(Field::lend).collect();
        emit(&site.metadata().fields().value_set_all(&values))
    }
}

impl<'a> Field<'a> {
    fn of(value: &'a Value<'_>) -> Self {
        match value {
            Value::U64(value) => Self::U64(*value),
            Value::I64(value) => Self::I64(*value),
            Value::U128(value) => Self::U128(*value),
            Value::I128(value) => Self::I128(*value),
            Value::F64(value) => Self::F64(*value),
            Value::Bool(value) => Self::Bool(*value),
            Value::Str(text) => Self::Str(text),
            Value::Bytes(bytes) => Self::Bytes(bytes),
            Value::Debug(text) => Self::Debug(debug(Verbatim(text))),
            Value::Error(texts) => Chained::of(texts).map_or(Self::Absent, |error| Self::Error(error)),
        }
    }

    fn lend(&self) -> Option<&dyn Recordable> {
        Some(match self {
            Self::Absent => return None,
            Self::U64(value) => value,
            Self::I64(value) => value,
            Self::U128(value) => value,
            Self::I128(value) => value,
            Self::F64(value) => value,
            Self::Bool(value) => value,
            Self::Str(text) => text,
            Self::Bytes(bytes) => bytes,
            Self::Debug(text) => text,
            Self::Error(error) => error,
        })
    }
}

/// A text that is its own `Debug`: that of another process has made it.
struct Verbatim<'a>(&'a str);

impl fmt::Debug for Verbatim<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The texts of an error and of its sources, as an error.
#[derive(Debug)]
struct Chained {
    text: String,
    source: Option<Box<Self>>,
}

impl Chained {
    fn of(texts: &[String]) -> Option<Box<Self>> {
        texts.iter().rev().fold(None, |source, text| Some(Box::new(Self { text: text.clone(), source })))
    }
}

impl fmt::Display for Chained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Chained {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// The values of an event whose callsite is not shown, for the fields `message`, `callsite`, `values` of the one that
/// stands for it.
pub(super) fn summary<'a>(values: &'a Values<'_>, place: String) -> Values<'a> {
    let text = |value: &Value<'_>| match value {
        Value::Str(text) | Value::Debug(text) => text.to_string(),
        other => format!("{other:?}"),
    };
    let mut texts = values.iter().map(|(_, value)| text(value));
    let message = texts.next().unwrap_or_default();
    let rest: Vec<String> = texts.collect();
    vec![
        (0, Value::Debug(Cow::Owned(message))),
        (1, Value::Str(Cow::Owned(place))),
        (2, Value::Debug(Cow::Owned(rest.join(", ")))),
    ]
}
