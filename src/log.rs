//! Log events of all processes of the family: nothing to set up, and Python's `log_to_stderr`.

use crate::Result;
use procession_ipc::log;

pub use procession_ipc::log::LogForwarding;
pub use tracing::Level;
pub use tracing::level_filters::LevelFilter;

/// Prints the events of this process, and of all that it starts from now on, to standard error:
/// `[LEVEL/ProcessName] message key=value`.
///
/// Every process prints its own lines, each as a whole, with control characters escaped. A second call changes the level
/// of this process and of those that it starts from then on. In a process whose parent gets its events, it changes how
/// detailed those are.
///
/// All [`tracing`] events are printed, where Python prints those of its own logger alone. That logger, `get_logger()`, is
/// the target `procession` here: `tracing::info!(target: "procession", "..")`; the library's own messages have targets
/// that begin with `procession::`.
///
/// # Errors
///
/// [`ErrorKind::SubscriberInstalled`](crate::ErrorKind::SubscriberInstalled) if the program has a subscriber: that gets
/// the events of all processes anyway.
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
/// use procession::{Level, log_to_stderr};
///
/// log_to_stderr(Level::INFO)?;
/// Process::spawn(|| tracing::info!("doing work"), ())?.join()?; // prints: [INFO/Process-1] doing work
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "get_logger")]
pub fn log_to_stderr(level: impl Into<LevelFilter>) -> Result<()> {
    Ok(log::log_to_stderr(level.into())?)
}

/// Decides whether processes that are started from now on have their log passed on to this program. The default is
/// [`LogForwarding::On`].
///
/// As long as this program has no global subscriber, nothing is passed on either way.
///
/// # Examples
///
/// ```
/// use procession::{LogForwarding, set_log_forwarding};
///
/// set_log_forwarding(LogForwarding::Off); // children that are started now install a subscriber of their own
/// ```
pub fn set_log_forwarding(forwarding: LogForwarding) {
    log::set_forwarding(forwarding);
}
