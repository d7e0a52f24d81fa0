//! What is on its way out over one connection.

use super::frame::finish_request;
use crate::stream::{Stream, Unsent, Written};

/// Most bytes that may wait for an actor that does not read before further calls are refused: 64 MiB.
pub(super) const MAX_UNSENT: usize = 64 << 20;

/// Requests that the socket has not taken yet.
#[derive(Debug)]
pub(super) struct Outbox {
    next_id: u64,
    /// Requests that must wait until the other side has proved that it knows the key; `None` once it has.
    held: Option<Vec<u8>>,
    unsent: Unsent,
    /// Nothing more can be sent.
    shut: bool,
}

/// How a request went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// Whole, or it waits behind others of which somebody takes care.
    Done,
    /// A part of it waits, and nobody takes care of it yet.
    Waits,
    /// Nothing of it: the other side is gone.
    Gone,
    /// Nothing of it: too much waits already.
    Full,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { next_id: 0, held: Some(Vec::new()), unsent: Unsent::default(), shut: false }
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Sends a request under [`next_id`](Self::next_id), or keeps what the socket does not take.
    pub(super) fn send(&mut self, frame: &mut [u8], stream: &Stream) -> Sent {
        if self.shut {
            return Sent::Gone;
        }
        if self.unsent.len() + self.held.as_ref().map_or(0, Vec::len) >= MAX_UNSENT {
            return Sent::Full;
        }
        finish_request(frame, self.next_id);
        self.next_id += 1;
        if let Some(held) = &mut self.held {
            held.extend_from_slice(frame);
            return Sent::Done;
        }
        let is_first = self.unsent.is_empty();
        match self.unsent.send(frame, stream) {
            Ok(Written::Part | Written::Blocked) if is_first => Sent::Waits,
            Ok(Written::Part | Written::Blocked | Written::All) => Sent::Done,
            Ok(Written::Gone) | Err(_) => {
                self.shut();
                Sent::Gone
            }
        }
    }

    /// Sends what the handshake says, ahead of all requests.
    pub(super) fn send_ahead(&mut self, message: &[u8], stream: &Stream) {
        self.unsent.push(message);
        self.flush(stream);
    }

    /// Lets the requests go that waited for the handshake.
    pub(super) fn release(&mut self, stream: &Stream) {
        if let Some(held) = self.held.take() {
            self.unsent.push(&held);
            self.flush(stream);
        }
    }

    /// Writes what the socket takes in one go.
    pub(super) fn flush(&mut self, stream: &Stream) {
        if matches!(self.unsent.write(stream), Ok(Written::Gone) | Err(_)) {
            self.shut();
        }
    }

    /// Whether the socket must take more.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Whether requests wait for the handshake.
    pub(super) fn has_held(&self) -> bool {
        self.held.as_ref().is_some_and(|held| !held.is_empty())
    }

    /// Gives up: what waits will never be sent. Replies may still be there to read.
    pub(super) fn shut(&mut self) {
        self.shut = true;
        self.held = None;
        self.unsent = Unsent::default();
    }
}
