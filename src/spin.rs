//! How long waits look before they sleep.

use std::time::Duration;

/// Sets how long the waits of this process look for what they wait for before they sleep: 10 us unless this is called.
///
/// Waking a sleeping process takes ten times as long as an answer of somebody who is at work already, so a short look makes
/// round trips faster. It adapts: where it did not help lately, a wait sleeps at once; and what is long waited for costs
/// nothing either way. Without it ([`Duration::ZERO`]) no wait uses the processor at all. More than 10 us counts as 10 us. Other
/// processes have their own; those that are started begin with 10 us.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// procession::set_spin_limit(Duration::ZERO);
/// ```
pub fn set_spin_limit(limit: Duration) {
    procession_ipc::spin::set_limit(limit);
}
