//! The progress bar of a pool's verb: on standard error, and only when that is a terminal.
//!
//! A [`Label`] carries the function that draws, so only a program that asks for a bar contains the code of bars (it is the
//! only caller of libm, which an executed child would have to load).

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A wish for a bar.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    text: String,
    draw: fn(&str, Option<u64>) -> Progress,
}

impl Label {
    pub(crate) fn new(text: String) -> Self {
        Self { text, draw }
    }

    /// Draws the bar; `total` is the number of items, if it is known.
    pub(crate) fn draw(&self, total: Option<u64>) -> Progress {
        (self.draw)(&self.text, total)
    }
}

/// A bar, until it is dropped.
pub(crate) struct Progress(Box<dyn Bar>);

impl Progress {
    /// So many items are done.
    pub(crate) fn set(&self, done: u64) {
        self.0.set(done);
    }

    /// One more item is done.
    pub(crate) fn step(&self) {
        self.0.step();
    }
}

trait Bar: Send + Sync {
    fn set(&self, done: u64);
    fn step(&self);
}

struct Drawn(ProgressBar);

impl Bar for Drawn {
    fn set(&self, done: u64) {
        self.0.set_position(done);
    }

    fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Drawn {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn draw(label: &str, total: Option<u64>) -> Progress {
    let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
    let template = match total {
        Some(_) => "{prefix} {wide_bar} {pos}/{len} {per_sec} {eta}",
        None => "{prefix} {spinner} {pos} {per_sec}",
    };
    // The template is a constant that parses; the default style is good enough if it ever did not.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_prefix(label.to_owned());
    Progress(Box::new(Drawn(bar)))
}
