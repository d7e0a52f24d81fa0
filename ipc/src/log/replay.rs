//! Events and spans of other processes, made again for this program's subscriber.
//!
//! Runs on one thread, in the order in which the messages were sent. An event is emitted while the span that it happened
//! in is entered, so the subscriber sees the context that it had. A span is closed when its process closes it, or when
//! its process is gone: for each process with spans we hold a pidfd.
//!
//! Messages are not trusted: a span that is not known is none, a value without a field is dropped, and spans and
//! processes are bounded in number.

use super::TARGET;
use super::fields::{Fields, Origin, summary};
use super::site::{Found, Site, Sites};
use super::wire::{Body, Message, Values};
use crate::sys::fd::is_hung_up;
use crate::sys::process::pidfd_open;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tracing::{Event, Span, warn};

/// Most open spans of all processes; those beyond it are not shown.
const SPANS: usize = 16 * 1024;

/// Most processes with spans, since each costs a descriptor; the spans of others are not shown.
const PROCESSES: usize = 256;

/// What is known of other processes.
#[derive(Debug, Default)]
pub(super) struct Replay {
    sites: Sites,
    /// Open spans, by process and number.
    spans: HashMap<(u32, u64), Open>,
    /// Processes that have had spans; `None` for one that was gone when its first span came.
    processes: HashMap<u32, Option<OwnedFd>>,
    /// Something was beyond a limit, and that was said.
    has_complained: bool,
}

/// An open span.
#[derive(Debug)]
struct Open {
    /// Itself; the one around it if the subscriber does not want it.
    span: Span,
    /// Its callsite, if it is itself.
    site: Option<&'static Site>,
}

impl Replay {
    /// Emits what a message says. Bytes that are no message are nothing.
    pub(super) fn message(&mut self, bytes: &[u8]) {
        let Ok(message) = Message::decode(bytes) else { return };
        let (process, pid, lost) = (message.process, message.pid, message.lost);
        if lost > 0 {
            warn!(target: TARGET, process, pid, lost, "{lost} log messages of process {process} were lost");
        }
        let origin = Origin { process, pid };
        match message.body {
            Body::Event { site, span, values } => self.event(origin, site, span, &values),
            Body::Open { id, site, parent, values } => self.open(origin, id, site, parent, &values),
            Body::Record { id, values } => self.record((pid, id), &values),
            Body::Follows { id, from } => {
                self.span(pid, Some(id)).follows_from(self.span(pid, Some(from)));
            }
            Body::Close { ids } => ids.into_iter().for_each(|id| drop(self.spans.remove(&(pid, id)))),
            Body::Lost => {}
        }
    }

    /// One descriptor per process with spans; readable when that process is gone.
    pub(super) fn sentinels(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.processes.values().flatten().map(AsFd::as_fd)
    }

    /// Processes with spans that are gone.
    pub(super) fn ended(&self) -> Vec<u32> {
        let is_gone = |pidfd: &OwnedFd| is_hung_up(pidfd.as_fd()).unwrap_or(true);
        let ended = self.processes.iter().filter(|(_, pidfd)| pidfd.as_ref().is_none_or(is_gone));
        ended.map(|(&pid, _)| pid).collect()
    }

    /// Processes of which nothing was known before they were gone.
    pub(super) fn latecomers(&self) -> Vec<u32> {
        self.processes.iter().filter(|(_, pidfd)| pidfd.is_none()).map(|(&pid, _)| pid).collect()
    }

    /// Closes what a process that is gone has left open.
    pub(super) fn forget(&mut self, pid: u32) {
        self.processes.remove(&pid);
        self.spans.retain(|&(owner, _), _| owner != pid);
    }

    fn event(&mut self, origin: Origin<'_>, site: &[u8], span: Option<u64>, values: &Values<'_>) {
        let found = self.sites.find(site);
        let span = self.span(origin.pid, span);
        let _inside = span.enter();
        match found {
            Some(Found::Known(site)) if site.is_enabled() => {
                Fields::of(site, values, Some(origin)).lend(site, |set| Event::dispatch(site.metadata(), set))
            }
            Some(Found::Nameless(site, place)) => {
                self.complain("places in the code");
                if site.is_enabled() {
                    Fields::of(site, &summary(values, place), Some(origin))
                        .lend(site, |set| Event::dispatch(site.metadata(), set));
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, origin: Origin<'_>, id: u64, site: &[u8], parent: Option<u64>, values: &Values<'_>) {
        let site = match self.sites.find(site) {
            Some(Found::Known(site)) if site.metadata().is_span() => site,
            Some(Found::Nameless(..)) => return self.complain("places in the code"),
            _ => return,
        };
        if self.spans.len() >= SPANS || !self.watch(origin.pid) {
            return self.complain("open spans");
        }
        let around = self.span(origin.pid, parent);
        let _inside = around.enter();
        let open = if site.is_enabled() {
            let root = around.is_none().then_some(origin);
            let span = Fields::of(site, values, root).lend(site, |set| Span::new(site.metadata(), set));
            Open { span, site: Some(site) }
        } else {
            Open { span: around.clone(), site: None }
        };
        self.spans.insert((origin.pid, id), open);
    }

    fn record(&self, key: (u32, u64), values: &Values<'_>) {
        let Some(Open { span, site: Some(site) }) = self.spans.get(&key) else { return };
        Fields::of(site, values, None).lend(site, |set| {
            span.record_all(set);
        });
    }

    /// A handle to a span, or to none.
    fn span(&self, pid: u32, id: Option<u64>) -> Span {
        let open = id.and_then(|id| self.spans.get(&(pid, id)));
        open.map_or_else(Span::none, |open| open.span.clone())
    }

    /// Makes sure that the end of this process will be seen; `false` if there are too many.
    fn watch(&mut self, pid: u32) -> bool {
        if self.processes.contains_key(&pid) {
            return true;
        }
        if self.processes.len() >= PROCESSES {
            return false;
        }
        let pidfd = i32::try_from(pid).ok().and_then(|pid| pidfd_open(pid).ok());
        self.processes.insert(pid, pidfd);
        true
    }

    fn complain(&mut self, what: &str) {
        if !std::mem::replace(&mut self.has_complained, true) {
            warn!(target: TARGET, "the processes of this program log from more {what} than can be shown");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::log::wire::{self, Value};
    use serde_bytes::Bytes;
    use tracing::subscriber::Interest;
    use tracing::{Metadata, Subscriber, dispatcher::Dispatch};

    /// Wants everything, and reads every value.
    struct Reading;

    struct Reader;

    impl tracing::field::Visit for Reader {
        fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
            drop(format!("{value:?}"));
        }
    }

    impl Subscriber for Reading {
        fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
            Interest::always()
        }

        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, attributes: &tracing::span::Attributes<'_>) -> tracing::Id {
            attributes.record(&mut Reader);
            tracing::Id::from_u64(1)
        }

        fn record(&self, _: &tracing::Id, values: &tracing::span::Record<'_>) {
            values.record(&mut Reader);
        }

        fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}

        fn event(&self, event: &Event<'_>) {
            event.record(&mut Reader);
        }

        fn enter(&self, _: &tracing::Id) {}

        fn exit(&self, _: &tracing::Id) {}
    }

    fn site(is_span: bool) -> Vec<u8> {
        let fields = vec!["message", "n"];
        let (name, target, module) = ("name", "target", None);
        let site =
            wire::Site { is_span, level: 3, name, target, file: Some("f.rs"), line: Some(1), module, fields };
        codec::encode(&site).unwrap()
    }

    fn replayed(replay: &mut Replay, pid: u32, body: Body<'_>) {
        replay.message(&Message { pid, process: "p", lost: 0, body }.encode().unwrap());
    }

    #[test]
    fn hostile_messages_neither_panic_nor_grow_without_bound() {
        let _guard = tracing::dispatcher::set_default(&Dispatch::new(Reading));
        let (event, span) = (site(false), site(true));
        let mut replay = Replay::default();
        let own = std::process::id();
        let values =
            || vec![(0, Value::Str("text".into())), (usize::MAX, Value::U64(1)), (1, Value::I64(-1))];
        let opened = |id, parent| Body::Open { id, site: Bytes::new(&span), parent, values: values() };
        let good = [
            Body::Event { site: Bytes::new(&event), span: Some(9), values: values() },
            // A span as an event, an event as a span, a span around itself.
            Body::Event { site: Bytes::new(&span), span: None, values: values() },
            Body::Open { id: 1, site: Bytes::new(&event), parent: None, values: values() },
            opened(5, Some(5)),
            Body::Record { id: 5, values: values() },
            Body::Follows { id: 5, from: 6 },
            Body::Close { ids: vec![u64::MAX, 5, 5] },
        ];
        for body in good {
            let bytes = Message { pid: own, process: "p", lost: 1, body }.encode().unwrap();
            replay.message(&bytes);
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 0x11;
                replay.message(&bad);
            }
        }
        for id in 0..SPANS as u64 + 10 {
            replayed(&mut replay, own, opened(id, None));
        }
        assert!(replay.spans.len() <= SPANS);
        for pid in (0..).map(|number| u32::MAX - number).take(PROCESSES + 10) {
            replayed(&mut replay, pid, opened(1, None));
        }
        assert!(replay.processes.len() <= PROCESSES);
        replay.latecomers().into_iter().for_each(|pid| replay.forget(pid));
        replay.forget(own);
        assert!(replay.spans.is_empty());
    }
}
