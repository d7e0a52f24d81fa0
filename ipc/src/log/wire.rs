//! One message of a process to the one that receives its log.
//!
//! Every message stands for itself: it names its process, and an event carries its whole callsite. So a message that was
//! lost takes nothing else with it, and nothing in a message is ever used as an address.
//!
//! Messages are bounded at both ends: the sender cuts texts to [`TEXT_LIMIT`] bytes in all, and marks them as cut; the
//! receiver refuses what is longer than [`MESSAGE_LIMIT`] or has a callsite beyond [`SITE_LIMIT`]. The codec refuses
//! everything else that is no message.

use crate::codec::{self, CodecError};
use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;
use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt::{self, Write};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};

/// Most bytes of a whole message. Far above what the limits below add up to.
pub(super) const MESSAGE_LIMIT: usize = 32 * 1024;

/// Most bytes of all texts in one message: process name and values.
pub(super) const TEXT_LIMIT: usize = 8 * 1024;

/// Most bytes of one encoded callsite: names, target, file.
pub(super) const SITE_LIMIT: usize = 4 * 1024;

/// Most bytes of a process name; names are any text.
const NAME_LIMIT: usize = 256;

/// How far the sources of an error are followed.
const SOURCES_LIMIT: usize = 16;

/// Stands at the end of a text that was cut.
const CUT: &str = "... (cut)";

/// What a process says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Message<'a> {
    /// Its process id. A claim, good for telling processes apart and for showing.
    pub(super) pid: u32,
    /// Its name.
    pub(super) process: &'a str,
    /// How many messages it could not send since the last one that it could.
    pub(super) lost: u64,
    /// The rest.
    #[serde(borrow)]
    pub(super) body: Body<'a>,
}

/// What happened in that process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Body<'a> {
    /// An event inside a span.
    Event {
        /// An encoded [`Site`].
        #[serde(borrow)]
        site: &'a Bytes,
        /// The span that it happened in.
        span: Option<u64>,
        #[serde(borrow)]
        values: Values<'a>,
    },
    /// A new span.
    Open {
        id: u64,
        /// An encoded [`Site`].
        #[serde(borrow)]
        site: &'a Bytes,
        /// The span around it.
        parent: Option<u64>,
        #[serde(borrow)]
        values: Values<'a>,
    },
    /// A span got values.
    Record {
        id: u64,
        #[serde(borrow)]
        values: Values<'a>,
    },
    /// A span follows from another one.
    Follows { id: u64, from: u64 },
    /// These spans are over.
    Close { ids: Vec<u64> },
    /// Only that messages were lost.
    Lost,
}

/// Values, each with the place of its field in the callsite.
pub(super) type Values<'a> = Vec<(usize, Value<'a>)>;

/// The value of a field, of the kind that it was recorded with.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Value<'a> {
    U64(u64),
    I64(i64),
    U128(u128),
    I128(i128),
    F64(f64),
    Bool(bool),
    Str(#[serde(borrow)] Cow<'a, str>),
    Bytes(#[serde(borrow, with = "serde_bytes")] Cow<'a, [u8]>),
    /// What its `Debug` (or `Display`) wrote.
    Debug(#[serde(borrow)] Cow<'a, str>),
    /// The texts of an error and of its sources.
    Error(Vec<String>),
}

/// Where an event or a span stands in the program.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Site<'a> {
    pub(super) is_span: bool,
    /// As [`level_number`].
    pub(super) level: u8,
    pub(super) name: &'a str,
    pub(super) target: &'a str,
    pub(super) file: Option<&'a str>,
    pub(super) line: Option<u32>,
    pub(super) module: Option<&'a str>,
    #[serde(borrow)]
    pub(super) fields: Vec<&'a str>,
}

impl Site<'static> {
    /// The encoded callsite of an event or a span; `None` if its names are too long.
    pub(super) fn encode(metadata: &'static Metadata<'static>) -> Option<Vec<u8>> {
        let site = Self {
            is_span: metadata.is_span(),
            level: level_number(LevelFilter::from_level(*metadata.level())),
            name: metadata.name(),
            target: metadata.target(),
            file: metadata.file(),
            line: metadata.line(),
            module: metadata.module_path(),
            fields: metadata.fields().iter().map(|field| field.name()).collect(),
        };
        codec::encode(&site).ok().filter(|bytes| bytes.len() <= SITE_LIMIT)
    }
}

impl<'a> Site<'a> {
    /// Reads a callsite that came in a message.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() > SITE_LIMIT {
            return None;
        }
        codec::decode(bytes).ok().filter(|site: &Self| site.as_level().is_some())
    }

    /// Its level; `None` if the number stands for none.
    pub(super) fn as_level(&self) -> Option<Level> {
        level_of_number(self.level).and_then(LevelFilter::into_level)
    }
}

impl<'a> Message<'a> {
    /// The bytes of a message; `None` if there are too many.
    pub(super) fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(256);
        codec::encode_into(self, &mut bytes).ok()?;
        (bytes.len() <= MESSAGE_LIMIT).then_some(bytes)
    }

    /// Reads a message that came from another process.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, CodecError> {
        codec::decode(bytes)
    }
}

/// 0 for off, 1 for errors, up to 5 for traces.
pub(super) fn level_number(level: LevelFilter) -> u8 {
    match level.into_level() {
        None => 0,
        Some(Level::ERROR) => 1,
        Some(Level::WARN) => 2,
        Some(Level::INFO) => 3,
        Some(Level::DEBUG) => 4,
        Some(_) => 5,
    }
}

/// The other way round.
pub(super) fn level_of_number(number: u8) -> Option<LevelFilter> {
    use LevelFilter as L;
    [L::OFF, L::ERROR, L::WARN, L::INFO, L::DEBUG, L::TRACE].get(usize::from(number)).copied()
}

/// A process name that is not too long.
pub(super) fn short_name(name: &str) -> String {
    let mut text = Text::within(NAME_LIMIT);
    let _ = text.write_str(name);
    text.into_string()
}

/// Takes values as their callsite records them.
#[derive(Debug)]
pub(super) struct Collector {
    values: Values<'static>,
    /// Bytes of text that may still be taken.
    left: usize,
}

impl Collector {
    /// The values that `record` hands to a visitor.
    pub(super) fn values(record: impl FnOnce(&mut dyn Visit)) -> Values<'static> {
        let mut collector = Self { values: Vec::new(), left: TEXT_LIMIT };
        record(&mut collector);
        collector.values
    }

    fn push(&mut self, field: &Field, value: Value<'static>) {
        self.values.push((field.index(), value));
    }

    fn text(&mut self, value: impl fmt::Display) -> String {
        let mut text = Text::within(self.left);
        // An error only says that the text was cut, or that the value cannot write itself.
        let _ = write!(text, "{value}");
        let text = text.into_string();
        self.left = self.left.saturating_sub(text.len());
        text
    }
}

impl Visit for Collector {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Value::U64(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Value::I64(value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.push(field, Value::U128(value));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.push(field, Value::I128(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, Value::F64(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Value::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let text = self.text(value);
        self.push(field, Value::Str(text.into()));
    }

    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        let bytes = &value[..value.len().min(self.left)];
        self.left -= bytes.len();
        self.push(field, Value::Bytes(bytes.to_vec().into()));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn StdError + 'static)) {
        let mut texts = vec![self.text(value)];
        let mut source = value.source();
        while let Some(cause) = source.filter(|_| texts.len() < SOURCES_LIMIT) {
            texts.push(self.text(cause));
            source = cause.source();
        }
        self.push(field, Value::Error(texts));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = self.text(format_args!("{value:?}"));
        self.push(field, Value::Debug(text.into()));
    }
}

/// A text that takes no more than it may, whatever is written to it.
struct Text {
    text: String,
    limit: usize,
    is_cut: bool,
}

impl Text {
    fn within(limit: usize) -> Self {
        Self { text: String::new(), limit, is_cut: false }
    }

    fn into_string(mut self) -> String {
        if self.is_cut {
            self.text.push_str(CUT);
        }
        self.text
    }
}

impl Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = self.limit.saturating_sub(self.text.len());
        if more.len() <= room && !self.is_cut {
            self.text.push_str(more);
            return Ok(());
        }
        if !self.is_cut {
            self.text.push_str(&more[..more.floor_char_boundary(room)]);
            self.is_cut = true;
        }
        // Ends the formatting: nothing more would be taken.
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(value: &dyn fmt::Debug) -> String {
        Collector { values: Vec::new(), left: TEXT_LIMIT }.text(format_args!("{value:?}"))
    }

    #[test]
    fn levels_and_numbers_agree() {
        for number in 0..=5 {
            assert_eq!(level_number(level_of_number(number).unwrap()), number);
        }
        assert_eq!(level_of_number(6), None);
    }

    #[test]
    fn long_texts_are_cut_at_a_character_and_marked() {
        let text = short_name(&"ä".repeat(NAME_LIMIT));
        assert_eq!(text, format!("{}{CUT}", "ä".repeat(NAME_LIMIT / 2)));
        assert_eq!(short_name(&"x".repeat(NAME_LIMIT)), "x".repeat(NAME_LIMIT));
    }

    #[test]
    fn a_value_that_never_stops_writing_is_stopped() {
        struct Endless;
        impl fmt::Debug for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("again and ")?;
                }
            }
        }
        let text = text_of(&Endless);
        assert!(text.ends_with(CUT));
        assert_eq!(text.len(), TEXT_LIMIT + CUT.len());
    }

    #[test]
    fn messages_come_back_as_they_were() {
        let values = vec![
            (0, Value::U64(u64::MAX)),
            (1, Value::I64(i64::MIN)),
            (2, Value::U128(u128::MAX)),
            (3, Value::I128(i128::MIN)),
            (4, Value::F64(0.5)),
            (5, Value::Bool(true)),
            (6, Value::Str("text".into())),
            (7, Value::Bytes(b"\xff\x00".as_slice().into())),
            (8, Value::Debug("Some(1)".into())),
            (9, Value::Error(vec!["outer".to_owned(), "inner".to_owned()])),
        ];
        let body = Body::Event { site: Bytes::new(b"site"), span: Some(7), values };
        let bytes = Message { pid: 5, process: "name", lost: 3, body }.encode().unwrap();
        let came = Message::decode(&bytes).unwrap();
        assert_eq!((came.pid, came.process, came.lost), (5, "name", 3));
        let Body::Event { site, span: Some(7), values } = came.body else { panic!("{came:?}") };
        assert_eq!(site.as_ref() as &[u8], b"site");
        assert!(matches!(&values[6].1, Value::Str(Cow::Borrowed("text"))));
        assert_eq!(values[0].1, Value::U64(u64::MAX));
        assert_eq!(values[9].1, Value::Error(vec!["outer".to_owned(), "inner".to_owned()]));
    }

    #[test]
    fn hostile_bytes_are_an_error_or_a_message() {
        let body = Body::Open {
            id: 1,
            site: Bytes::new(b"site"),
            parent: None,
            values: vec![(0, Value::Str("text".into()))],
        };
        let good = Message { pid: 1, process: "p", lost: 0, body }.encode().unwrap();
        for length in 0..good.len() {
            assert!(Message::decode(&good[..length]).is_err(), "cut to {length}");
        }
        for at in 0..good.len() {
            for bits in [1, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= bits;
                let _ = Message::decode(&bad);
            }
        }
    }

    #[test]
    fn callsites_without_a_level_or_beyond_the_limit_are_refused() {
        let fields = vec!["message"; 3];
        let mut site = Site {
            is_span: false,
            level: 3,
            name: "name",
            target: "target",
            file: None,
            line: Some(7),
            module: None,
            fields,
        };
        let bytes = codec::encode(&site).unwrap();
        assert_eq!(Site::decode(&bytes).unwrap(), site);
        for level in [0, 6, 255] {
            site.level = level;
            assert!(Site::decode(&codec::encode(&site).unwrap()).is_none(), "{level}");
        }
        let long = "x".repeat(SITE_LIMIT);
        (site.level, site.name) = (3, &long);
        assert!(Site::decode(&codec::encode(&site).unwrap()).is_none());
    }
}
