//! What is on its way out over one connection.

use super::frame::finish_request;
use crate::stream::Stream;

/// Most bytes that may wait for an actor that does not read before further calls are refused: 64 MiB.
pub(super) const MAX_UNSENT: usize = 64 << 20;

/// Most that one write offers, so that nobody holds the lock for long.
const CHUNK: usize = 256 * 1024;

/// A buffer that grew beyond this is given back when it is empty.
const KEEP: usize = 1 << 20;

/// Requests that the socket has not taken yet, in order.
#[derive(Debug)]
pub(super) struct Outbox {
    next_id: u64,
    /// Requests that must wait until the other side has proved that it knows the key; `None` once it has.
    held: Option<Vec<u8>>,
    bytes: Vec<u8>,
    /// How many of `bytes` are sent.
    start: usize,
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
        Self { next_id: 0, held: Some(Vec::new()), bytes: Vec::new(), start: 0, shut: false }
    }

    pub(super) fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Sends a request under [`next_id`](Self::next_id), or keeps what the socket does not take.
    pub(super) fn send(&mut self, frame: &mut [u8], stream: &Stream) -> Sent {
        if self.shut {
            return Sent::Gone;
        }
        if self.waiting() >= MAX_UNSENT {
            return Sent::Full;
        }
        finish_request(frame, self.next_id);
        self.next_id += 1;
        if let Some(held) = &mut self.held {
            held.extend_from_slice(frame);
            return Sent::Done;
        }
        if self.has_unsent() {
            self.bytes.extend_from_slice(frame);
            return Sent::Done;
        }
        match stream.try_write(frame) {
            Ok(Some(0)) | Err(_) => {
                self.shut();
                Sent::Gone
            }
            Ok(Some(count)) if count == frame.len() => Sent::Done,
            partly => {
                let count = partly.ok().flatten().unwrap_or(0);
                self.bytes.extend_from_slice(&frame[count..]);
                Sent::Waits
            }
        }
    }

    /// Sends what the handshake says, ahead of all requests.
    pub(super) fn send_ahead(&mut self, message: &[u8], stream: &Stream) {
        self.bytes.extend_from_slice(message);
        self.flush(stream);
    }

    /// Lets the requests go that waited for the handshake.
    pub(super) fn release(&mut self, stream: &Stream) {
        if let Some(held) = self.held.take() {
            self.bytes.extend_from_slice(&held);
            self.flush(stream);
        }
    }

    /// Writes what the socket takes in one go.
    pub(super) fn flush(&mut self, stream: &Stream) {
        let waiting = &self.bytes[self.start..];
        if waiting.is_empty() {
            return;
        }
        match stream.try_write(&waiting[..waiting.len().min(CHUNK)]) {
            Ok(Some(0)) | Err(_) => self.shut(),
            Ok(count) => self.start += count.unwrap_or(0),
        }
        if !self.has_unsent() {
            self.start = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEEP);
        } else if self.start >= KEEP && self.start * 2 >= self.bytes.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
    }

    /// Whether the socket must take more.
    pub(super) fn has_unsent(&self) -> bool {
        self.start < self.bytes.len()
    }

    /// Whether requests wait for the handshake.
    pub(super) fn has_held(&self) -> bool {
        self.held.as_ref().is_some_and(|held| !held.is_empty())
    }

    pub(super) fn waiting(&self) -> usize {
        self.bytes.len() - self.start + self.held.as_ref().map_or(0, Vec::len)
    }

    /// Gives up: what waits will never be sent. Replies may still be there to read.
    pub(super) fn shut(&mut self) {
        self.shut = true;
        self.held = None;
        (self.bytes, self.start) = (Vec::new(), 0);
    }
}
