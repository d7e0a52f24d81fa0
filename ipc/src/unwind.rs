//! The only place that catches panics: everything that a panic of user code says becomes data.
//!
//! A panic of a function in another process must reach its caller as a value: text, place, and a backtrace if the
//! user asked for one. The place is known to the panic hook alone, so [`install_hook`] wraps the program's hook and
//! keeps a note for this thread, which [`catch`] takes.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

/// What a panic said, as data that can travel.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PanicReport {
    /// The panic's message, or a note that its payload was no text.
    pub message: String,
    /// `file:line:column`, where known (a hook that the program set later hides it).
    pub location: Option<String>,
    /// The backtrace, when `RUST_BACKTRACE` asks for one.
    pub backtrace: Option<String>,
}

thread_local! {
    static NOTE: RefCell<Option<PanicReport>> = const { RefCell::new(None) };
}

/// Makes panics leave their place and backtrace for [`catch`]; the program's own hook still runs.
pub fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let report = report_of(info);
            // The thread may be in its last moments, without thread-locals: then there is nobody to read the note.
            let _ = NOTE.try_with(|note| {
                if let Ok(mut note) = note.try_borrow_mut() {
                    *note = Some(report);
                }
            });
            previous(info);
        }));
    });
}

fn report_of(info: &PanicHookInfo<'_>) -> PanicReport {
    let backtrace = Backtrace::capture();
    PanicReport {
        message: message_of(info.payload()),
        location: info.location().map(ToString::to_string),
        backtrace: (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string()),
    }
}

fn message_of(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "the panic carried no text".to_owned()
    }
}

/// Runs `body`; a panic inside becomes its report.
///
/// `body` is taken as unwind safe: callers drop whatever it touched once a report comes back.
///
/// # Errors
///
/// The report of the panic.
#[inline]
pub fn catch<T>(body: impl FnOnce() -> T) -> Result<T, PanicReport> {
    std::panic::catch_unwind(AssertUnwindSafe(body)).map_err(|payload| take_report(&*payload))
}

#[cold]
fn take_report(payload: &(dyn Any + Send)) -> PanicReport {
    let noted = NOTE.with(|note| note.borrow_mut().take());
    noted.unwrap_or_else(|| PanicReport { message: message_of(payload), location: None, backtrace: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn catch_reports_message_and_place() {
        install_hook();
        let report = catch(|| panic!("seven {}", 7)).unwrap_err();
        assert_eq!(report.message, "seven 7");
        assert!(report.location.unwrap().contains("unwind.rs"));
    }

    #[test]
    fn a_payload_without_text_is_still_a_report() {
        let report = catch(|| std::panic::panic_any(5_u8)).unwrap_err();
        assert!(report.message.contains("no text"), "{report:?}");
    }
}
