//! The frames between a caller and an actor's process.
//!
//! ```text
//! request   0:8|length:56       id:u64 | message       caller -> actor
//! reply     status:8|length:56  id:u64 | payload       actor -> caller
//! ```
//!
//! Numbers are little endian; ids are the caller's, unique for its connection. Replies come in the order of the requests
//! today, and callers do not rely on it. [`Status::Goodbye`] has no request.

use crate::stream::{Garbage, Inbox, WORD, whole_frame, word};

/// Size of a header in bytes.
pub const HEADER: usize = WORD + 8;

/// What a reply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The encoded result.
    Value,
    /// The encoded error that the method returned.
    Error,
    /// The method panicked; an encoded `PanicReport`. The actor's process ends.
    Panicked,
    /// The message could not be read; an encoded text.
    BadMessage,
    /// The method's result cannot be sent; an encoded text.
    BadResult,
    /// The actor was stopped: whatever has no reply was not run.
    Goodbye,
}

impl Status {
    const ALL: [Self; 6] =
        [Self::Value, Self::Error, Self::Panicked, Self::BadMessage, Self::BadResult, Self::Goodbye];
}

/// Fills in the header of a frame that begins at `at` and ends where `out` does.
fn finish(out: &mut [u8], at: usize, first: u8, id: u64) {
    let length = out.len() - at - HEADER;
    out[at..at + WORD].copy_from_slice(&word(first, length));
    out[at + WORD..at + HEADER].copy_from_slice(&id.to_le_bytes());
}

/// Appends room for a header.
pub fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; HEADER]);
}

/// Fills in the header of the request in `frame`.
pub(super) fn finish_request(frame: &mut [u8], id: u64) {
    finish(frame, 0, 0, id);
}

/// Fills in the header of the reply that begins at `at`.
pub fn finish_reply(out: &mut [u8], at: usize, status: Status, id: u64) {
    finish(out, at, status as u8, id);
}

/// A frame that has arrived.
#[derive(Debug)]
struct Frame<'a> {
    first: u8,
    id: u64,
    payload: &'a [u8],
}

fn next(inbox: &mut Inbox) -> Result<Option<Frame<'_>>, Garbage> {
    let Some((first, length)) = whole_frame(inbox.bytes(), HEADER)? else { return Ok(None) };
    let frame = inbox.take(HEADER + length);
    let id = u64::from_le_bytes(std::array::from_fn(|i| frame[WORD + i]));
    Ok(Some(Frame { first, id, payload: &frame[HEADER..] }))
}

/// The next whole request: its id and its message.
///
/// # Errors
///
/// A header that makes no sense.
pub fn next_request(inbox: &mut Inbox) -> Result<Option<(u64, &[u8])>, Garbage> {
    let Some(frame) = next(inbox)? else { return Ok(None) };
    if frame.first == 0 { Ok(Some((frame.id, frame.payload))) } else { Err(Garbage) }
}

/// Whether [`next_request`] has something to say.
#[must_use]
pub fn has_request(inbox: &Inbox) -> bool {
    !matches!(whole_frame(inbox.bytes(), HEADER), Ok(None))
}

/// What it is, which request it answers, and its payload.
type Reply<'a> = (Status, u64, &'a [u8]);

/// The next whole reply.
pub(super) fn next_reply(inbox: &mut Inbox) -> Result<Option<Reply<'_>>, Garbage> {
    let Some(frame) = next(inbox)? else { return Ok(None) };
    let status = Status::ALL.into_iter().find(|status| *status as u8 == frame.first).ok_or(Garbage)?;
    Ok(Some((status, frame.id, frame.payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox(bytes: &[u8]) -> Inbox {
        let mut inbox = Inbox::default();
        inbox.space()[..bytes.len()].copy_from_slice(bytes);
        inbox.filled(bytes.len());
        inbox
    }

    fn frame(finish: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut frame = Vec::new();
        begin(&mut frame);
        frame.extend_from_slice(b"abc");
        finish(&mut frame);
        frame
    }

    #[test]
    fn requests_and_replies_keep_their_ids() {
        let bytes = frame(|frame| finish_request(frame, 7));
        let mut half = inbox(&bytes[..bytes.len() - 1]);
        assert!(!has_request(&half));
        assert_eq!(next_request(&mut half), Ok(None));
        assert_eq!(next_request(&mut inbox(&bytes)), Ok(Some((7, &b"abc"[..]))));
        for status in Status::ALL {
            let bytes = frame(|frame| finish_reply(frame, 0, status, 9));
            assert_eq!(next_reply(&mut inbox(&bytes)), Ok(Some((status, 9, &b"abc"[..]))));
        }
    }

    #[test]
    fn garbage_is_an_error() {
        let mut bytes = frame(|frame| finish_request(frame, 7));
        bytes[7] = 200;
        assert_eq!(next_request(&mut inbox(&bytes)), Err(Garbage));
        assert_eq!(next_reply(&mut inbox(&bytes)), Err(Garbage));
        assert_eq!(next_request(&mut inbox(&[0xff; HEADER])), Err(Garbage));
    }
}
