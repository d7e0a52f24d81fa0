//! The subscriber behind `log_to_stderr`: Python's lines on standard error.
//!
//! Every process of the family prints its own lines, `[LEVEL/Name] message key=value`, each with one write(2): nothing is
//! forwarded, so nothing is lost and no line waits for another process. Control characters are escaped, so one event
//! is one line whatever it says.

use super::wire::{level_number, level_of_number};
use std::fmt::{self, Write as _};
use std::io::Write as _;
use std::sync::atomic::{AtomicU8, Ordering};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber, callsite};

/// Most detailed level that is printed, as a number. Relaxed: orders nothing but itself.
static LEVEL: AtomicU8 = AtomicU8::new(0);

/// Prints events; spans are not shown, as Python has none.
pub(super) struct ToStderr;

/// The level of the lines.
pub(super) fn level() -> LevelFilter {
    level_of_number(LEVEL.load(Ordering::Relaxed)).unwrap_or(LevelFilter::OFF)
}

/// Sets the level; the first callsites may already have asked.
pub(super) fn set_level(level: LevelFilter) {
    LEVEL.store(level_number(level), Ordering::Relaxed);
    callsite::rebuild_interest_cache();
}

impl Subscriber for ToStderr {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= level()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(level())
    }

    fn event(&self, event: &Event<'_>) {
        let name = &crate::start::identity().name;
        let line = line(name, *event.metadata().level(), |visitor| event.record(visitor));
        // Standard error may be closed; there is nowhere to say so.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        // No span is enabled, so nobody asks.
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// `[LEVEL/Name] message key=value`, and a line break.
fn line(name: &str, level: Level, record: impl FnOnce(&mut dyn Visit)) -> String {
    let mut text = Texts::default();
    record(&mut text);
    let mut line = String::with_capacity(128);
    let mut escaped = Escaped(&mut line);
    // Writing to a `String` does not fail.
    let _ = write!(escaped, "[{}/{name}] {}{}", level_name(level), text.message, text.others);
    line.push('\n');
    line
}

/// The name that Python gives it; `TRACE` is ours.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::WARN => "WARNING",
        other => other.as_str(),
    }
}

/// The message, and all other fields.
#[derive(Default)]
struct Texts {
    message: String,
    others: String,
}

impl Visit for Texts {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A `Debug` that fails has written what it could.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.others, " {name}={value:?}"),
        };
    }
}

/// Writes control characters as escapes.
struct Escaped<'a>(&'a mut String);

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if character.is_control() {
                self.0.extend(character.escape_default());
            } else {
                self.0.push(character);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_those_of_python_and_stay_one_line() {
        let nothing = |_: &mut dyn Visit| {};
        assert_eq!(line("Process-1", Level::INFO, nothing), "[INFO/Process-1] \n");
        assert_eq!(line("a\nb", Level::WARN, nothing), "[WARNING/a\\nb] \n");
        let mut text = String::new();
        Escaped(&mut text).write_str("tab\t bell\x07 escape\x1b[31m ä\u{9b}").unwrap();
        assert_eq!(text, "tab\\t bell\\u{7} escape\\u{1b}[31m ä\\u{9b}");
    }
}
