//! How handles of shared objects travel, and descriptors that cannot go beside the bytes (see `deposit`).
//!
//! A handle is a few numbers, which can go through anything. But an object ends with its last handle, so somebody has to know
//! of those that are on their way. Whoever encodes a message knows what will become of the bytes, and says so:
//!
//! - [`once`]: they are decoded at most once. Each handle in them pins its object; who decodes takes the pin up. What is
//!   never sent takes its pins off ([`Pins`]). What is put into a queue begins with a list of its pins (`manifest`), so that
//!   somebody can give them up who does not know what it is. If the bytes are lost with a process that is killed, or with a
//!   connection, the pin stays, and the object lives as long as the family;
//! - [`often`]: they are decoded any number of times, while the sender keeps the handles that are in them ([`Kept`]);
//! - `plain`: they go where no handle of this family is of use, so none may be in them;
//! - otherwise, nothing is known (an encoder of the program, say): the objects live as long as the family.
//!
//! Nothing is ever ended too early for whoever does as it was said. If bytes are decoded more often, a handle may come too
//! late, which is an error.

mod manifest;

use crate::arena::cell::Place;
use crate::arena::{Handle, Pin};
use crate::deposit::Deposit;
use crate::{Error, Result};
pub(crate) use manifest::{Manifest, arrive, note_arrival, note_ticket};
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
    /// There may be none in them.
    Barred,
    /// Nobody knows.
    Unknown,
}

/// The handles that the encoding under way has met.
#[derive(Debug, Default)]
struct Met {
    pins: Vec<Pin>,
    handles: Vec<Handle>,
    deposits: Vec<Deposit>,
}

thread_local! {
    // Two cells, not one of two bytes: what is written byte by byte and read as a whole makes the processor wait.
    static WAY: Cell<Way> = const { Cell::new(Way::Unknown) };
    static HAS_MET: Cell<bool> = const { Cell::new(false) };
    static MET: RefCell<Met> = const { RefCell::new(Met {
        pins: Vec::new(),
        handles: Vec::new(),
        deposits: Vec::new(),
    }) };
}

/// What was under way before, which goes on when this is dropped, also when a panic passes.
///
/// Numbers and text meet no handles, and each item of a pool's chunk is an encoding: then all this is two looks at a cell.
struct Outer {
    way: Way,
    met: Option<Box<Met>>,
}

impl Outer {
    #[inline]
    fn interrupt(way: Way) -> Self {
        let met = HAS_MET.replace(false).then(|| Box::new(swap_met(Met::default())));
        Self { way: WAY.replace(way), met }
    }
}

impl Drop for Outer {
    #[inline]
    fn drop(&mut self) {
        WAY.set(self.way);
        if HAS_MET.replace(self.met.is_some()) || self.met.is_some() {
            // What an error or a panic has left of the inner one is dropped last: taking pins off is none of the outer one's
            // affairs.
            drop(swap_met(self.met.take().map(|met| *met).unwrap_or_default()));
        }
    }
}

#[cold]
fn swap_met(new: Met) -> Met {
    MET.try_with(|met| met.replace(new)).unwrap_or_default()
}

/// Runs `encode`; if it has met handles, and gives no error, `keep` gets them.
#[inline]
fn encoding<R, E>(way: Way, encode: impl FnOnce() -> Result<R, E>, keep: impl FnOnce(Met)) -> Result<R, E> {
    let _outer = Outer::interrupt(way);
    let result = encode()?;
    if HAS_MET.get() {
        keep(swap_met(Met::default()));
    }
    Ok(result)
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

    /// Whether there are none.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pins.is_empty() && self.deposits.is_empty()
    }

    /// What the message carries, for somebody who does not know what it is.
    pub(crate) fn manifest(&self) -> Manifest {
        let places = self.pins.iter().rev().map(Pin::place).collect();
        Manifest { places, tickets: self.deposits.iter().rev().map(Deposit::ticket).collect() }
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
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty() && self.deposits.is_empty()
    }

    /// The objects of which there are handles.
    pub(crate) fn places(&self) -> Vec<Place> {
        self.handles.iter().map(Handle::place).collect()
    }

    /// Takes those over.
    #[inline]
    pub fn append(&mut self, more: &mut Self) {
        if !more.is_empty() {
            self.handles.append(&mut more.handles);
            self.deposits.append(&mut more.deposits);
        }
    }
}

/// Whether a `T`, as it is decoded, may have handles in it. A handle gives something back when it is dropped, so numbers, for
/// one, have none, and need none of what follows.
#[must_use]
#[inline]
pub const fn may_carry<T>() -> bool {
    std::mem::needs_drop::<T>()
}

/// Runs `encode`, whose bytes will be decoded once or not at all.
///
/// # Errors
///
/// Those of `encode`.
#[inline]
pub fn once<R, E>(encode: impl FnOnce() -> Result<R, E>) -> Result<(R, Pins), E> {
    let mut pins = Pins::default();
    let result = once_into(&mut pins, encode)?;
    Ok((result, pins))
}

/// As [`once`], for one message of several encodings: adds to `pins`.
///
/// # Errors
///
/// Those of `encode`.
#[inline]
pub fn once_into<R, E>(pins: &mut Pins, encode: impl FnOnce() -> Result<R, E>) -> Result<R, E> {
    encoding(Way::Once, encode, |met| {
        pins.pins.extend(met.pins);
        pins.deposits.extend(met.deposits);
    })
}

/// Runs `encode`, whose bytes will be decoded any number of times.
///
/// # Errors
///
/// Those of `encode`.
#[inline]
pub fn often<R, E>(encode: impl FnOnce() -> Result<R, E>) -> Result<(R, Kept), E> {
    let mut kept = Kept::default();
    let result = often_into(&mut kept, encode)?;
    Ok((result, kept))
}

/// As [`often`], for bytes of several encodings: adds to `kept`.
///
/// # Errors
///
/// Those of `encode`.
#[inline]
pub fn often_into<R, E>(kept: &mut Kept, encode: impl FnOnce() -> Result<R, E>) -> Result<R, E> {
    encoding(Way::Often, encode, |met| {
        kept.handles.extend(met.handles);
        kept.deposits.extend(met.deposits.into_iter().map(Arc::new));
    })
}

/// Runs `body`, which encodes or decodes `what`, where no handle and no descriptor may be. If it meets one, nothing is done with that.
///
/// # Errors
///
/// Those of `body`; [`Error::Isolated`].
pub(crate) fn plain<R, E>(what: &'static str, body: impl FnOnce() -> Result<R, E>) -> Result<R>
where
    Error: From<E>,
{
    let _outer = Outer::interrupt(Way::Barred);
    let result = body();
    if HAS_MET.get() { Err(Error::Isolated { what }) } else { Ok(result?) }
}

/// In such a body: says that there was one. The error is for whoever encodes or decodes it.
#[cold]
pub(crate) fn bar() -> Error {
    HAS_MET.set(true);
    Error::Isolated { what: "a value for isolated memory" }
}

/// What was said of the encoding under way.
pub(crate) fn way() -> Way {
    WAY.get()
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
    HAS_MET.set(true);
    let _ = MET.try_with(|met| add(&mut met.borrow_mut()));
}
