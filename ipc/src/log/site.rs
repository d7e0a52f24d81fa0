//! Callsites of other processes, made again here.
//!
//! A subscriber keeps what it decides about a callsite for the life of the program, so callsites are leaked; each is made
//! once, found again by the bytes that it came as, and there are at most [`LIMIT`] of them. What comes beyond that is
//! shown through one callsite per level, with the place as a field.

use super::wire::Site as Parts;
use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};
use tracing::callsite::{Callsite, Identifier, register};
use tracing::field::FieldSet;
use tracing::metadata::Kind;
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, dispatcher};

/// Most callsites of other processes. With the limit of their names this bounds what is leaked.
const LIMIT: usize = 4096;

/// A callsite that exists in another process.
#[derive(Debug)]
pub(super) struct Site {
    metadata: OnceLock<Metadata<'static>>,
    /// What the subscriber said: one of [`NEVER`], [`SOMETIMES`], [`ALWAYS`].
    interest: AtomicU8,
    /// Number of the fields that it has in its own process; those of [`ADDED`] follow.
    own_fields: usize,
    /// Which of [`ADDED`] are not hidden by a field of its own.
    is_added: [bool; 2],
}

const NEVER: u8 = 0;
const SOMETIMES: u8 = 1;
const ALWAYS: u8 = 2;

impl Callsite for Site {
    fn set_interest(&self, interest: Interest) {
        let number = if interest.is_never() {
            NEVER
        } else if interest.is_always() {
            ALWAYS
        } else {
            SOMETIMES
        };
        // Relaxed: orders nothing, as in tracing's own callsites.
        self.interest.store(number, Ordering::Relaxed);
    }

    #[expect(clippy::expect_used, reason = "`leak` fills the cell before anybody else can see the site")]
    fn metadata(&self) -> &Metadata<'static> {
        self.metadata.get().expect("invariant: a site is filled before it is registered")
    }
}

/// The fields that are added to each event, and to each span that is in no other span of its process.
pub(super) const ADDED: [&str; 2] = ["process", "pid"];

impl Site {
    /// Makes a callsite for the rest of the program's life.
    fn leak(parts: &Parts<'_>, level: Level) -> &'static Self {
        let leak = |text: &str| -> &'static str { Box::leak(Box::<str>::from(text)) };
        let site: &'static Self = Box::leak(Box::new(Self {
            metadata: OnceLock::new(),
            interest: AtomicU8::new(SOMETIMES),
            own_fields: parts.fields.len(),
            is_added: ADDED.map(|name| !parts.fields.contains(&name)),
        }));
        let names: Vec<&'static str> = parts.fields.iter().map(|name| leak(name)).chain(ADDED).collect();
        let fields = FieldSet::new(Box::leak(names.into_boxed_slice()), Identifier(site));
        let kind = if parts.is_span { Kind::SPAN } else { Kind::EVENT };
        let (file, module) = (parts.file.map(leak), parts.module.map(leak));
        let (name, target) = (leak(parts.name), leak(parts.target));
        site.metadata
            .get_or_init(|| Metadata::new(name, target, level, file, parts.line, module, fields, kind));
        register(site);
        site
    }

    pub(super) fn metadata(&'static self) -> &'static Metadata<'static> {
        Callsite::metadata(self)
    }

    /// Number of the fields that it has in its own process.
    pub(super) fn own_fields(&self) -> usize {
        self.own_fields
    }

    /// Which of [`ADDED`] are not hidden by a field of its own.
    pub(super) fn is_added(&self) -> [bool; 2] {
        self.is_added
    }

    /// Whether the subscriber wants it, in the span that this thread is in.
    pub(super) fn is_enabled(&'static self) -> bool {
        match self.interest.load(Ordering::Relaxed) {
            NEVER => false,
            ALWAYS => true,
            _ => dispatcher::get_default(|dispatch| dispatch.enabled(self.metadata())),
        }
    }
}

/// All callsites of other processes that are known here.
#[derive(Debug, Default)]
pub(super) struct Sites {
    /// By the bytes that they came as.
    known: HashMap<Box<[u8]>, &'static Site>,
    /// For events whose own callsite is one too many, by level.
    nameless: HashMap<Level, &'static Site>,
}

/// A callsite, or what stands for it.
#[derive(Debug)]
pub(super) enum Found {
    /// Itself.
    Known(&'static Site),
    /// There are too many; fields: `message`, `callsite`, `values`. The text says where it is.
    Nameless(&'static Site, String),
}

impl Sites {
    /// Finds or makes the callsite behind these bytes; `None` if they are no callsite.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Option<Found> {
        if let Some(site) = self.known.get(bytes) {
            return Some(Found::Known(site));
        }
        let parts = Parts::decode(bytes)?;
        let level = parts.as_level()?;
        if self.known.len() < LIMIT {
            let site = Site::leak(&parts, level);
            self.known.insert(bytes.into(), site);
            return Some(Found::Known(site));
        }
        let place = match (parts.file, parts.line) {
            (Some(file), Some(line)) => format!("{} {file}:{line}", parts.target),
            _ => format!("{} {}", parts.target, parts.name),
        };
        Some(Found::Nameless(self.nameless(level), place))
    }

    fn nameless(&mut self, level: Level) -> &'static Site {
        self.nameless.entry(level).or_insert_with(|| {
            let parts = Parts {
                is_span: false,
                level: 0,
                name: "event of a callsite beyond the limit",
                target: super::TARGET,
                file: None,
                line: None,
                module: None,
                fields: vec!["message", "callsite", "values"],
            };
            Site::leak(&parts, level)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    fn parts<'a>(name: &'a str, fields: &[&'a str]) -> Parts<'a> {
        let (file, line, module) = (Some("there.rs"), Some(7), Some("there"));
        Parts {
            is_span: false,
            level: 2,
            name,
            target: "their::target",
            file,
            line,
            module,
            fields: fields.to_vec(),
        }
    }

    #[test]
    fn a_callsite_is_made_once_and_is_what_it_was() {
        let mut sites = Sites::default();
        let bytes = codec::encode(&parts("event there.rs:7", &["message", "n"])).unwrap();
        let Some(Found::Known(site)) = sites.find(&bytes) else { panic!("not known") };
        let Some(Found::Known(again)) = sites.find(&bytes) else { panic!("not known again") };
        assert!(std::ptr::eq(site, again));
        let metadata = site.metadata();
        assert_eq!((metadata.name(), metadata.target()), ("event there.rs:7", "their::target"));
        assert_eq!((metadata.file(), metadata.line()), (Some("there.rs"), Some(7)));
        assert_eq!(*metadata.level(), Level::WARN);
        assert!(metadata.is_event());
        let names: Vec<&str> = metadata.fields().iter().map(|field| field.name()).collect();
        assert_eq!(names, ["message", "n", "process", "pid"]);
    }

    #[test]
    fn callsites_beyond_the_limit_share_one_that_names_the_place() {
        let mut sites = Sites::default();
        for number in 0..LIMIT {
            let name = format!("event {number}");
            assert!(matches!(sites.find(&codec::encode(&parts(&name, &[])).unwrap()), Some(Found::Known(_))));
        }
        let bytes = codec::encode(&parts("one more", &["message"])).unwrap();
        let Some(Found::Nameless(site, place)) = sites.find(&bytes) else { panic!("has a name") };
        assert_eq!(place, "their::target there.rs:7");
        assert_eq!(*site.metadata().level(), Level::WARN);
    }

    #[test]
    fn bytes_that_are_no_callsite_make_none() {
        let mut sites = Sites::default();
        for bytes in [&b""[..], b"x", &[0xff; 64], &[0; 5000]] {
            assert!(sites.find(bytes).is_none(), "{} bytes", bytes.len());
        }
        assert!(sites.known.is_empty());
    }
}
