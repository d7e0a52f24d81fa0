//! Bytes that have arrived over a stream, and the frames that they hold.
//!
//! All our frames begin with one little-endian word: a byte that says what the frame is, and the length of its payload in
//! the other seven. Each protocol brings the rest of its header. A reader takes memory as bytes arrive, whatever a header
//! announces; the announced length itself is bounded by [`MAX_LENGTH`].

/// Longest payload, in bytes: 1 TiB. More is taken for garbage.
pub const MAX_LENGTH: u64 = 1 << 40;

/// Size of the word that begins a frame, in bytes.
pub const WORD: usize = 8;

/// First size of an inbox: a few hundred small frames.
const FIRST: usize = 64 * 1024;

/// An inbox that grew for one large message is given back when it is empty and larger than this.
const KEEP: usize = 4 * 1024 * 1024;

/// A header that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Garbage;

/// The word that begins a frame.
#[must_use]
#[inline]
pub fn word(first: u8, length: usize) -> [u8; WORD] {
    let mut bytes = (length as u64).to_le_bytes();
    bytes[7] = first;
    bytes
}

/// First byte and payload length of the frame at the start of `have`, if all of it is there behind a header of `header`
/// bytes.
///
/// # Errors
///
/// A length that no honest peer announces.
#[inline]
pub fn whole_frame(have: &[u8], header: usize) -> Result<Option<(u8, usize)>, Garbage> {
    let Some(word) = have.first_chunk().map(|word| u64::from_le_bytes(*word)) else { return Ok(None) };
    let length = word & ((1 << 56) - 1);
    if length > MAX_LENGTH {
        return Err(Garbage);
    }
    let length = usize::try_from(length).map_err(|_| Garbage)?;
    Ok((have.len() >= header && have.len() - header >= length).then_some(((word >> 56) as u8, length)))
}

/// Bytes that have arrived and are not used yet.
#[derive(Debug, Default)]
pub struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    /// Where to read more bytes into; never empty.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > KEEP {
                self.buffer = Vec::new();
            }
        }
        if self.end == self.buffer.len() {
            if self.start > 0 {
                self.buffer.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else {
                self.buffer.resize((self.buffer.len() * 2).max(FIRST), 0);
            }
        }
        &mut self.buffer[self.end..]
    }

    /// Says that `count` bytes were read into the space.
    pub fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// What is there.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Takes the first `count` bytes; they stay readable until more is read.
    ///
    /// # Panics
    ///
    /// When so many are not there.
    #[inline]
    pub fn take(&mut self, count: usize) -> &[u8] {
        assert!(count <= self.end - self.start, "an inbox was asked for more than it has");
        let at = self.start;
        self.start += count;
        &self.buffer[at..self.start]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_there_when_all_of_it_is() {
        let frame = [&word(3, 5)[..], b"id", b"hello"].concat();
        for have in 0..frame.len() {
            assert_eq!(whole_frame(&frame[..have], WORD + 2), Ok(None), "{have}");
        }
        assert_eq!(whole_frame(&frame, WORD + 2), Ok(Some((3, 5))));
    }

    #[test]
    fn garbage_is_found_before_memory_is_taken() {
        let mut inbox = Inbox::default();
        inbox.space()[..8].copy_from_slice(&[0xff; 8]);
        inbox.filled(8);
        assert_eq!(whole_frame(inbox.bytes(), WORD), Err(Garbage));
        assert!(inbox.buffer.len() <= FIRST);
    }

    #[test]
    fn a_large_buffer_is_given_back_once_it_is_empty() {
        let mut inbox = Inbox::default();
        while inbox.buffer.len() <= KEEP {
            let count = inbox.space().len();
            inbox.filled(count);
        }
        let all = inbox.bytes().len();
        inbox.take(all);
        assert_eq!(inbox.space().len(), FIRST);
    }
}
