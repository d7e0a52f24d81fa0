//! How handles of shared objects travel, and descriptors that cannot go beside the bytes (see `deposit`).
//!
//! A handle is a few numbers, which can go through anything. But an object ends with its last handle, so somebody has to know
//! of those that are on their way. Whoever encodes a message knows what will become of the bytes, and says so:
//!
//! - [`once`]: they are decoded at most once. Each handle in them pins its object; who decodes takes the pin up. What is
//!   never sent takes its pins off ([`Pins`]). If the bytes are lost with a process that is killed, the pin stays, and the
//!   object lives as long as the family;
//! - [`often`]: they are decoded any number of times, while the sender keeps the handles that are in them ([`Kept`]);
//! - otherwise, nothing is known (an encoder of the program, say): the objects live as long as the family.
//!
//! Nothing is ever ended too early for whoever does as it was said. If bytes are decoded more often, a handle may come too
//! late, which is an error.

use crate::arena::{Handle, Pin};
use crate::deposit::Deposit;
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// What was said of the encoding under way on a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// The bytes are decoded at most once.
    Once,
    /// They are decoded any number of times.
    Often,
    /// Nobody knows.
    Unknown,
}

/// The encoding under way.
#[derive(Debug, Clone, Copy)]
struct Encoding {
    way: Way,
    has_met: bool,
}

/// The handles that it has met.
#[derive(Debug, Default)]
struct Met {
    pins: Vec<Pin>,
    handles: Vec<Handle>,
    deposits: Vec<Deposit>,
}

thread_local! {
    static ENCODING: Cell<Encoding> = const { Cell::new(Encoding { way: Way::Unknown, has_met: false }) };
    static MET: RefCell<Met> = const { RefCell::new(Met {
        pins: Vec::new(),
        handles: Vec::new(),
        deposits: Vec::new(),
    }) };
}

fn take_met() -> Met {
    MET.try_with(RefCell::take).unwrap_or_default()
}

/// What was under way before, which goes on when this is dropped, also when a panic passes.
struct Outer {
    /// `None`: it goes on already.
    encoding: Option<Encoding>,
    met: Option<Met>,
}

impl Outer {
    fn interrupt(way: Way) -> Option<Self> {
        let new = Encoding { way, has_met: false };
        let encoding = ENCODING.try_with(|encoding| encoding.replace(new)).ok()?;
        Some(Self { encoding: Some(encoding), met: encoding.has_met.then(take_met) })
    }

    /// What the inner one has met.
    fn go_on(&mut self) -> Met {
        let Some(outer) = self.encoding.take() else { return Met::default() };
        let inner = ENCODING.try_with(|encoding| encoding.replace(outer));
        let met = if inner.is_ok_and(|inner| inner.has_met) { take_met() } else { Met::default() };
        if let Some(outer) = self.met.take() {
            let _ = MET.try_with(|met| met.replace(outer));
        }
        met
    }
}

impl Drop for Outer {
    fn drop(&mut self) {
        // Dropped last: taking pins off is none of the outer encoding's affairs.
        drop(self.go_on());
    }
}

#[inline]
fn encoding<R>(way: Way, encode: impl FnOnce() -> R) -> (R, Met) {
    let outer = Outer::interrupt(way);
    let result = encode();
    let met = outer.map(|mut outer| outer.go_on());
    (result, met.unwrap_or_default())
}

/// Handles of a message that is decoded at most once. Dropped, they are taken back: the message was not sent.
#[derive(Debug, Default)]
#[must_use = "the handles are taken back unless they leave"]
pub struct Pins {
    pins: Vec<Pin>,
    deposits: Vec<Deposit>,
}

impl Pins {
    /// The message has left.
    pub fn leave(self) {
        self.pins.into_iter().for_each(Pin::leave);
        self.deposits.into_iter().for_each(Deposit::leave);
    }
}

/// Handles that are in bytes which are decoded any number of times, and good as long as this is kept. It travels itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Kept {
    handles: Vec<Handle>,
    /// They stay where they are: what travels is their tickets, in the bytes.
    #[serde(skip)]
    deposits: Vec<Arc<Deposit>>,
}

impl Kept {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty() && self.deposits.is_empty()
    }

    /// Takes those over.
    pub fn append(&mut self, more: &mut Self) {
        self.handles.append(&mut more.handles);
        self.deposits.append(&mut more.deposits);
    }
}

/// Runs `encode`, whose bytes will be decoded once or not at all.
///
/// # Errors
///
/// Those of `encode`.
#[inline]
pub fn once<R, E>(encode: impl FnOnce() -> Result<R, E>) -> Result<(R, Pins), E> {
    let (result, met) = encoding(Way::Once, encode);
    Ok((result?, Pins { pins: met.pins, deposits: met.deposits }))
}

/// Runs `encode`, whose bytes will be decoded any number of times.
///
/// # Errors
///
/// Those of `encode`.
#[inline]
pub fn often<R, E>(encode: impl FnOnce() -> Result<R, E>) -> Result<(R, Kept), E> {
    let (result, met) = encoding(Way::Often, encode);
    let deposits = met.deposits.into_iter().map(Arc::new).collect();
    Ok((result?, Kept { handles: met.handles, deposits }))
}

/// What was said of the encoding under way. At the end of a thread, when its locals are gone, nothing is known.
pub(crate) fn way() -> Way {
    ENCODING.try_with(|encoding| encoding.get().way).unwrap_or(Way::Unknown)
}

/// The encoding under way pinned an object.
pub(crate) fn note_pin(pin: Pin) {
    note(|met| met.pins.push(pin));
}

/// The encoding under way wrote a handle that has to be kept.
pub(crate) fn note_handle(handle: Handle) {
    note(|met| met.handles.push(handle));
}

/// The encoding under way left a descriptor with another process.
pub(crate) fn note_deposit(deposit: Deposit) {
    note(|met| met.deposits.push(deposit));
}

fn note(add: impl FnOnce(&mut Met)) {
    let _ = ENCODING.try_with(|encoding| encoding.set(Encoding { has_met: true, ..encoding.get() }));
    let _ = MET.try_with(|met| add(&mut met.borrow_mut()));
}
