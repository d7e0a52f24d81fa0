//! A subscriber that remembers what it was told.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::{Mutex, MutexGuard};

use procession::LevelFilter;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// Fields with the kind of their value: `n` -> `u64 5`.
pub type Fields = BTreeMap<String, String>;

/// An event, or what happened to a span.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `event`, `open`, `record`, `close`.
    pub what: &'static str,
    pub metadata: &'static Metadata<'static>,
    pub fields: Fields,
    /// The spans around it, outermost first, with their fields.
    pub spans: Vec<(&'static str, Fields)>,
}

impl Seen {
    /// A field with its kind, or nothing.
    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    pub fn message(&self) -> &str {
        self.field("message").trim_start_matches("debug ")
    }

    /// In one line: what happened, and for events in which spans.
    pub fn told(&self) -> String {
        let spans: Vec<_> = self.spans.iter().map(|(name, _)| *name).collect();
        match self.what {
            "event" => format!("{} {spans:?}", self.message()),
            "follows" => format!("follows {} {spans:?}", self.metadata.name()),
            what => format!("{what} {}", self.metadata.name()),
        }
    }
}

static SEEN: Mutex<Vec<Seen>> = Mutex::new(Vec::new());

fn seen_so_far() -> MutexGuard<'static, Vec<Seen>> {
    SEEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Installs the subscriber for this whole process.
pub fn listen(level: LevelFilter) {
    let subscriber = tracing_subscriber::registry().with(level).with(Collect);
    tracing::subscriber::set_global_default(subscriber).unwrap();
}

/// Everything that was seen and not taken yet, of targets that are not the library's own or its actors'.
pub fn take() -> Vec<Seen> {
    let mut all = std::mem::take(&mut *seen_so_far());
    let is_library = |target: &str| target.starts_with("procession") || target.starts_with("ractor");
    all.retain(|seen| !is_library(seen.metadata.target()));
    all
}

/// Everything, the library's own messages too.
pub fn peek() -> Vec<Seen> {
    seen_so_far().clone()
}

/// The events among [`take`].
pub fn take_events() -> Vec<Seen> {
    take().into_iter().filter(|seen| seen.what == "event").collect()
}

struct Collect;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collect {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let fields = fields_of(|visitor| event.record(visitor));
        let spans = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
        let spans = spans.map(|span| {
            let fields = span.extensions().get::<Fields>().cloned().unwrap_or_default();
            (span.name(), fields)
        });
        note("event", event.metadata(), fields, spans.collect());
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let fields = fields_of(|visitor| attributes.record(visitor));
        let Some(span) = context.span(id) else { return };
        span.extensions_mut().insert(fields.clone());
        let spans = span.scope().from_root().map(|span| (span.name(), Fields::new())).collect();
        note("open", attributes.metadata(), fields, spans);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let fields = fields_of(|visitor| values.record(visitor));
        let Some(span) = context.span(id) else { return };
        if let Some(known) = span.extensions_mut().get_mut::<Fields>() {
            known.extend(fields.clone());
        }
        note("record", span.metadata(), fields, Vec::new());
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let (Some(span), Some(from)) = (context.span(id), context.span(follows)) else { return };
        note("follows", span.metadata(), Fields::new(), vec![(from.name(), Fields::new())]);
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let fields = span.extensions().get::<Fields>().cloned().unwrap_or_default();
        note("close", span.metadata(), fields, Vec::new());
    }
}

fn note(
    what: &'static str,
    metadata: &'static Metadata<'static>,
    fields: Fields,
    spans: Vec<(&'static str, Fields)>,
) {
    seen_so_far().push(Seen { what, metadata, fields, spans });
}

fn fields_of(record: impl FnOnce(&mut dyn Visit)) -> Fields {
    let mut kinds = Kinds(Fields::new());
    record(&mut kinds);
    kinds.0
}

struct Kinds(Fields);

impl Kinds {
    fn put(&mut self, field: &Field, kind: &str, value: impl fmt::Display) {
        let before = self.0.insert(field.name().to_owned(), format!("{kind} {value}"));
        assert!(before.is_none(), "{} was recorded twice", field.name());
    }
}

impl Visit for Kinds {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, "u64", value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, "i64", value);
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.put(field, "u128", value);
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.put(field, "i128", value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, "f64", value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, "bool", value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, "str", value);
    }

    fn record_bytes(&mut self, field: &Field, value: &[u8]) {
        self.put(field, "bytes", format!("{value:?}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let source = value.source().map(ToString::to_string).unwrap_or_default();
        self.put(field, "error", format!("{value} <- {source}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, "debug", format!("{value:?}"));
    }
}
