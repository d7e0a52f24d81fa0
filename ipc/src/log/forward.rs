//! The subscriber of a process whose log goes elsewhere: turns events and spans into messages.
//!
//! It wants what is not more detailed than the level of its [`Channel`], and says so once per callsite, so an event that
//! is not wanted costs the load of one number. Everything else (targets, fields, spans) is the receiver's to filter.
//!
//! Spans are numbered here and re-created by the receiver. An event says in which span it happened; that a span is
//! entered and left is not told.

use super::channel::Channel;
use super::wire::{Body, Collector, Site};
use serde_bytes::Bytes;
use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_core::span::Current;

/// Sends everything over its channel.
pub(super) struct Forward {
    channel: Arc<Channel>,
    /// The number of the next span.
    next: AtomicU64,
    spans: Mutex<HashMap<u64, Span>>,
}

/// An open span.
struct Span {
    metadata: &'static Metadata<'static>,
    /// Handles to it.
    handles: usize,
    /// Whether the receiver knows of it.
    is_told: bool,
}

thread_local! {
    /// The spans that this thread is in, the innermost last.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl Forward {
    pub(super) fn new(channel: Arc<Channel>) -> Self {
        Self { channel, next: AtomicU64::new(1), spans: Mutex::new(HashMap::new()) }
    }

    fn spans(&self) -> MutexGuard<'_, HashMap<u64, Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends something with a callsite, whose names may be too long.
    fn send(&self, metadata: &'static Metadata<'static>, body: impl FnOnce(&Bytes) -> bool) -> bool {
        match Site::encode(metadata) {
            Some(site) => body(Bytes::new(&site)),
            None => {
                self.channel.count_lost();
                false
            }
        }
    }
}

/// In a copy made by fork: the spans that its thread is in are its parent's.
pub(super) fn leave_all() {
    let _ = ENTERED.try_with(|entered| entered.borrow_mut().clear());
}

/// The innermost span of this thread. In the last moments of a thread there is none.
fn innermost() -> Option<u64> {
    ENTERED.try_with(|entered| entered.borrow().last().copied()).ok().flatten()
}

/// The span around something: the one that was named, or the one that this thread is in.
fn around(parent: Option<&Id>, is_contextual: bool) -> Option<u64> {
    if is_contextual { innermost() } else { parent.map(Id::into_u64) }
}

impl Subscriber for Forward {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.channel.level()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.channel.level())
    }

    fn event(&self, event: &Event<'_>) {
        // User code (`Debug`, `Error`) runs here, before anything of ours is locked.
        let values = Collector::values(|visitor| event.record(visitor));
        let span = around(event.parent(), event.is_contextual());
        self.send(event.metadata(), |site| self.channel.send(Body::Event { site, span, values }));
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let metadata = attributes.metadata();
        let values = Collector::values(|visitor| attributes.record(visitor));
        let parent = around(attributes.parent(), attributes.is_contextual());
        let is_told = self.send(metadata, |site| self.channel.send(Body::Open { id, site, parent, values }));
        self.spans().insert(id, Span { metadata, handles: 1, is_told });
        // Counting from 1 meets no zero within any number of years.
        Id::from_non_zero_u64(NonZeroU64::new(id).unwrap_or(NonZeroU64::MAX))
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        let values = Collector::values(|visitor| values.record(visitor));
        self.channel.send(Body::Record { id: span.into_u64(), values });
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.channel.send(Body::Follows { id: span.into_u64(), from: follows.into_u64() });
    }

    fn enter(&self, span: &Id) {
        let _ = ENTERED.try_with(|entered| entered.borrow_mut().push(span.into_u64()));
    }

    fn exit(&self, span: &Id) {
        let _ = ENTERED.try_with(|entered| {
            let mut entered = entered.borrow_mut();
            // Spans may be left in another order than they were entered in.
            if let Some(at) = entered.iter().rposition(|&id| id == span.into_u64()) {
                entered.remove(at);
            }
        });
    }

    fn clone_span(&self, span: &Id) -> Id {
        if let Some(span) = self.spans().get_mut(&span.into_u64()) {
            span.handles += 1;
        }
        span.clone()
    }

    fn try_close(&self, span: Id) -> bool {
        let id = span.into_u64();
        let mut spans = self.spans();
        let Some(open) = spans.get_mut(&id) else { return false };
        open.handles -= 1;
        if open.handles > 0 {
            return false;
        }
        let is_told = open.is_told;
        spans.remove(&id);
        drop(spans);
        if is_told {
            self.channel.close(id);
        }
        true
    }

    fn current_span(&self) -> Current {
        let Some(id) = innermost() else { return Current::none() };
        match (NonZeroU64::new(id), self.spans().get(&id)) {
            (Some(number), Some(span)) => Current::new(Id::from_non_zero_u64(number), span.metadata),
            _ => Current::none(),
        }
    }
}
