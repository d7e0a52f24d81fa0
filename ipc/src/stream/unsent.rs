//! Bytes that a stream has not taken yet, in order.

use super::Stream;
use std::io;

/// Most that one write offers, so that nobody holds a lock around it for long.
const CHUNK: usize = 256 * 1024;

/// A buffer that grew beyond this is given back when it is empty.
const KEEP: usize = 1 << 20;

/// What waits to be written.
#[derive(Debug, Default)]
pub struct Unsent {
    bytes: Vec<u8>,
    /// How many of `bytes` are written.
    start: usize,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Everything is written.
    All,
    /// A part of it; the rest waits.
    Part,
    /// Nothing: the stream takes no more now.
    Blocked,
    /// The other side is gone.
    Gone,
}

impl Unsent {
    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Puts bytes behind all others.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes `bytes` at once if nothing waits, and keeps what the stream does not take.
    ///
    /// # Errors
    ///
    /// The kernel's answer to send(2).
    pub fn send(&mut self, bytes: &[u8], stream: &Stream) -> io::Result<Written> {
        if !self.is_empty() {
            self.push(bytes);
            return Ok(Written::Blocked);
        }
        match stream.try_write(bytes)? {
            Some(0) => Ok(Written::Gone),
            Some(count) if count == bytes.len() => Ok(Written::All),
            Some(count) => {
                self.push(&bytes[count..]);
                Ok(Written::Part)
            }
            None => {
                self.push(bytes);
                Ok(Written::Blocked)
            }
        }
    }

    /// Writes what the stream takes in one go.
    ///
    /// # Errors
    ///
    /// The kernel's answer to send(2).
    pub fn write(&mut self, stream: &Stream) -> io::Result<Written> {
        if self.is_empty() {
            return Ok(Written::All);
        }
        let end = self.bytes.len().min(self.start + CHUNK);
        match stream.try_write(&self.bytes[self.start..end])? {
            Some(0) => return Ok(Written::Gone),
            Some(count) => self.start += count,
            None => return Ok(Written::Blocked),
        }
        if self.is_empty() {
            self.start = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEEP);
            return Ok(Written::All);
        }
        if self.start >= KEEP && self.start * 2 >= self.bytes.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        Ok(Written::Part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stream_does_not_take_follows_in_order() {
        let (a, b) = Stream::pair().unwrap();
        let mut unsent = Unsent::default();
        let sent: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
        let (first, second) = sent.split_at(2_000_000);
        assert_eq!(unsent.send(first, &a).unwrap(), Written::Part);
        assert_eq!(unsent.send(second, &a).unwrap(), Written::Blocked);
        let (mut came, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
        while came.len() < sent.len() {
            if let Some(count) = b.try_read(&mut buffer).unwrap() {
                came.extend_from_slice(&buffer[..count]);
            }
            unsent.write(&a).unwrap();
        }
        assert!(came == sent && unsent.is_empty());
        assert_eq!(unsent.send(b"x", &a).unwrap(), Written::All);
        drop(b);
        assert_eq!(unsent.send(b"x", &a).unwrap(), Written::Gone);
    }
}
