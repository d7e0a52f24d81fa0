//! What a message carries, told apart from what it means.
//!
//! A handle on its way pins its object, and a descriptor lies with another process. Whoever decodes the message takes them up. If nobody
//! ever does, somebody else has to give them up, who does not know the type of the value: so what is put into a queue begins
//! with a list of them.
//!
//! States of what is on such a list: *on its way* -> *taken up*, by the decoding, one by one; or *given up*: with the queue
//! (`arena::endings`), or here, when the decoding has failed. What the failed decoding had taken up was the value's, and ended with it.
//!
//! A decoding that succeeds gives nothing up: the value may have parts that are decoded later.

use crate::arena::cell::Place;
use crate::arena::{self, take_off};
use crate::deposit::{Ticket, Tickets};
use crate::liveness::ProcessId;
use crate::{Error, Result, codec};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;

/// The list. What is taken up first is at its end.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Objects, once for each pin.
    pub(crate) places: Vec<Place>,
    /// For descriptors.
    pub(crate) tickets: Tickets,
}

thread_local! {
    /// What the decoding under way has not taken up yet.
    static LEFT: RefCell<Option<Manifest>> = const { RefCell::new(None) };
}

/// Makes this the decoding under way, and returns the one that was.
fn swap(new: Option<Manifest>) -> Option<Manifest> {
    LEFT.try_with(|left| left.replace(new)).unwrap_or_default()
}

/// Decodes a message that begins with so many bytes of manifest. If that fails, or panics, what was not taken up is given up.
///
/// # Errors
///
/// Those of `decode`; [`Error::Malformed`] if there is no manifest.
pub(crate) fn arrive<R, E>(
    message: &[u8],
    manifest: usize,
    decode: impl FnOnce(&[u8]) -> Result<R, E>,
) -> Result<R>
where
    Error: From<E>,
{
    let malformed = Error::Malformed { what: "message" };
    let Some((manifest, value)) = message.split_at_checked(manifest) else { return Err(malformed) };
    let Ok(manifest) = codec::decode(manifest) else { return Err(malformed) };
    let mut arrival = Arrival { outer: swap(Some(manifest)), in_process: arena::own(), is_done: false };
    let value = decode(value)?;
    arrival.is_done = true;
    Ok(value)
}

/// A decoding under way.
struct Arrival {
    /// The one that it interrupts.
    outer: Option<Manifest>,
    in_process: Option<ProcessId>,
    is_done: bool,
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let left = swap(self.outer.take());
        if let Some(Manifest { places, mut tickets }) = left.filter(|_| !self.is_done) {
            tickets.append(take_off(&places, self.in_process));
            tickets.give_back();
        }
    }
}

fn note(what: impl FnOnce(&mut Manifest)) {
    let _ = LEFT.try_with(|left| left.borrow_mut().as_mut().map(what));
}

/// The decoding under way has taken up the pin of a handle.
pub(crate) fn note_arrival(place: Place) {
    note(|left| {
        if let Some(at) = left.places.iter().rposition(|&other| other == place) {
            left.places.swap_remove(at);
        }
    });
}

/// The decoding under way has shown a ticket.
pub(crate) fn note_ticket(ticket: Ticket) {
    note(|left| left.tickets.remove(ticket));
}
