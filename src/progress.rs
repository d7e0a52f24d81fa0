//! The progress bar of a pool's verb: on standard error, and only when that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar, until it is dropped.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// A bar with this label; `total` is the number of items, if it is known.
    pub(crate) fn new(label: &str, total: Option<u64>) -> Self {
        let target = ProgressDrawTarget::stderr();
        let bar = ProgressBar::with_draw_target(total, target);
        let template = match total {
            Some(_) => "{prefix} {wide_bar} {pos}/{len} {per_sec} {eta}",
            None => "{prefix} {spinner} {pos} {per_sec}",
        };
        // The template is a constant that parses; the default style is good enough if it ever did not.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(label.to_owned());
        Self(bar)
    }

    /// So many items are done.
    pub(crate) fn set(&self, done: u64) {
        self.0.set_position(done);
    }

    /// One more item is done.
    pub(crate) fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
