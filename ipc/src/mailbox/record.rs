//! Records: what lies one behind the other in the segments of a queue.
//!
//! ```text
//! length u32 | manifest 30, kind 2 | payload, padded to 8
//! ```
//!
//! A message may begin with a *manifest*: a list of what it carries and what has to be given up if nobody decodes it, to be read
//! without knowing the type of the value behind it. Here it is a number of bytes; 0 for a message that carries nothing.

use super::ring::GetError;
use super::segment::{ALIGNMENT, Cursor, Moving, Segment, Segments};

/// Bytes before each payload: two numbers in the machine's order.
pub(crate) const HEADER: u32 = 8;

const KIND_BITS: u32 = 2;

/// Kinds: a message; a message that lies elsewhere, of which the payload says where; the next segment goes on.
pub(super) const MESSAGE: u32 = 1;
pub(super) const LARGE: u32 = 2;
pub(super) const END: u32 = 3;

/// Longest message that is a record itself: two of them fit into a segment.
pub(crate) fn longest_inline(segments: &impl Segments) -> usize {
    (segments.room() / 2).saturating_sub(HEADER) as usize
}

/// Bytes that a record with such a payload takes; `None`: no segment is as large.
fn size(length: usize) -> Option<u32> {
    u32::try_from(length).ok()?.checked_add(HEADER)?.checked_next_multiple_of(ALIGNMENT)
}

/// A record that is about to be written.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) kind: u32,
    /// How many bytes of the message are its manifest.
    pub(super) manifest: usize,
    /// Of the payload, one behind the other.
    pub(super) parts: &'a [&'a [u8]],
    /// Where the message lies, if it is a large one.
    pub(super) large: Option<Moving>,
}

impl Draft<'_> {
    fn length(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// With header and padding; `None`: too long for a record.
    pub(super) fn size(&self) -> Option<u32> {
        if self.manifest >> (u32::BITS - KIND_BITS) == 0 { size(self.length()) } else { None }
    }

    /// Writes it, where there is room for it.
    pub(super) fn write(&self, segments: &impl Segments, segment: Segment, at: u32) {
        // It fits a segment, so it fits 32 bits; and the manifest fits its own, by `size`.
        let (length, kind) = (self.length() as u32, (self.manifest as u32) << KIND_BITS | self.kind);
        let ([a, b, c, d], [e, f, g, h]) = (length.to_ne_bytes(), kind.to_ne_bytes());
        segments.write(segment, at, &[a, b, c, d, e, f, g, h]);
        let mut at = at + HEADER;
        for part in self.parts {
            segments.may_die();
            segments.write(segment, at, part);
            at += part.len() as u32;
        }
    }
}

/// A record as its header says, checked against the segment.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) segment: Segment,
    /// Where it begins.
    pub(super) cursor: Cursor,
    pub(super) kind: u32,
    /// Of the manifest, which lies where the message lies.
    pub(super) manifest: u32,
    /// Of the payload.
    pub(super) length: u32,
    /// With header and padding.
    pub(super) size: u32,
}

impl Record {
    pub(super) fn read(segments: &impl Segments, segment: Segment, cursor: Cursor) -> Option<Self> {
        let mut header = [0; HEADER as usize];
        segments.read(segment, cursor.offset, &mut header)?;
        let [a, b, c, d, e, f, g, h] = header;
        let (length, kind) = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]));
        let size = size(length as usize)?;
        let fits = cursor.offset.checked_add(size)? <= segments.room();
        let (kind, manifest) = (kind % (1 << KIND_BITS), kind >> KIND_BITS);
        fits.then_some(Self { segment, cursor, kind, manifest, length, size })
    }

    pub(super) fn is_message(&self) -> bool {
        matches!(self.kind, MESSAGE | LARGE)
    }

    /// Where its payload begins.
    pub(super) fn payload(&self) -> u32 {
        self.cursor.offset + HEADER
    }

    /// The payload fills `start`, and the rest of it is appended to `out`.
    pub(super) fn copy(
        &self,
        segments: &impl Segments,
        start: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<(), GetError> {
        // Not more than the length, which has 32 bits.
        let first = start.len().min(self.length as usize) as u32;
        let rest = self.length - first;
        out.try_reserve(rest as usize).map_err(|_| GetError::NoMemory)?;
        let copied = start
            .get_mut(..first as usize)
            .and_then(|start| segments.read(self.segment, self.payload(), start))
            .and_then(|()| segments.append(self.segment, self.payload() + first, rest, out));
        copied.ok_or(GetError::Corrupt)
    }

    /// The manifest of a message that is the record itself.
    pub(super) fn read_manifest(&self, segments: &impl Segments) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        if self.manifest > self.length {
            return None;
        }
        bytes.try_reserve(self.manifest as usize).ok()?;
        segments.append(self.segment, self.payload(), self.manifest, &mut bytes)?;
        Some(bytes)
    }
}
