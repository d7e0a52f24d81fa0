//! The end of objects, and of what ends with them.
//!
//! The messages that are left in a queue when it ends are decoded by nobody, so what they carry is given up: the pins of handles, whose
//! objects may end now, and the tickets of descriptors. Each such message has a list of it, its manifest.
//!
//! For each message, in this order:
//!
//! 1. the head of the queue moves past it: one store;
//! 2. each of its pins is taken off, and the object examined: what has ended waits for its own turn;
//! 3. its tickets are noted, for whoever asked for the end, to give back when everything has ended.
//!
//! A process that is killed between two of these leaves what one message carries, and the tickets that it has noted, to nobody. The
//! other way round a pin might be taken off twice, and a handle on its way would come too late. Everything else is done again by
//! a sweep: the queue says who ends it, and its head which messages are left; an object that has lost its last pin and was
//! not examined is examined by each sweep.
//!
//! Queues may lie in queues to any depth, so those that wait are a list and not calls within calls. Between two objects this process is outside the
//! gate: a fork waits for the end of one queue, not of all. Nothing here waits for another process.

use super::annex::Annexes;
use super::cell::{Cells, Clearing};
use super::handle;
use crate::deposit::Tickets;
use crate::gate;

/// Ends an object to its end, and all that end with it. The tickets are for the caller to give back.
pub(super) fn bury(cells: &Cells, annexes: &Annexes, ended: Clearing) -> Tickets {
    let (mut tickets, mut waiting) = (Tickets::default(), Vec::new());
    let mut next = Some(ended);
    while let Some(clearing) = next {
        let _passage = gate::enter("ending an object that processes share");
        while let Some(manifest) = annexes.give_up(&clearing) {
            let places = manifest.places.into_iter();
            waiting.extend(places.filter_map(|place| handle::unpin(cells, place, clearing.by)));
            tickets.append(manifest.tickets);
        }
        annexes.clear(&clearing);
        cells.free(clearing);
        next = waiting.pop();
    }
    tickets
}

#[cfg(test)]
mod tests;
