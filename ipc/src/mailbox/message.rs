//! Values as messages.
//!
//! A value is encoded before anything of the queue is touched, so what cannot travel is an error of whoever puts it. A `Vec` of
//! numbers and a `String` are not encoded: their bytes go from where they are into the queue, and those of a `Vec<u8>` and a
//! `String` from there into the value. Everything else passes through a buffer that its thread keeps.
//!
//! What goes through an isolated queue has no handles and no descriptors: they are refused where they are met, before they are
//! counted, or left with anybody. So are those in bytes that come out, which whoever wrote them had no business to put there.

use super::queue::{SharedQueue, Wait};
use super::ring::Got;
use crate::codec::{self, Raw, Wire};
use crate::sync::tasks;
use crate::{Error, Result, travel};
use std::cell::Cell;

/// Largest buffer that a thread keeps: 32 MiB. Fresh memory costs more than what is done with it, page by page.
const MOST_KEPT: usize = 32 << 20;

/// What a thread keeps in any case: 1 MiB.
const LITTLE: usize = 1 << 20;

/// After so many values that need less than a quarter of it, a buffer of more than that is given back.
const MOST_IDLE: u32 = 16;

/// The buffer of a thread.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// How many values have needed little of it, one after the other.
    idle: u32,
}

impl Buffer {
    /// What is worth keeping after a value.
    fn settled(mut self) -> Self {
        let (used, size) = (self.bytes.len(), self.bytes.capacity());
        self.idle = if used > size / 4 { 0 } else { self.idle.saturating_add(1) };
        let is_idle = size > LITTLE && self.idle >= MOST_IDLE;
        if size > MOST_KEPT || is_idle { Self::default() } else { self }
    }
}

thread_local! {
    /// Taken while it is used, since a value's own code may use a queue too.
    static BUFFER: Cell<Buffer> = const { Cell::new(Buffer { bytes: Vec::new(), idle: 0 }) };
}

/// Calls `run` with an empty buffer.
fn with_buffer<T>(run: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.bytes.clear();
    let done = run(&mut buffer.bytes);
    // Not when the thread ends.
    let _ = BUFFER.try_with(|kept| kept.set(buffer.settled()));
    done
}

/// What passes through an isolated queue, for errors.
const ISOLATED: &str = "a message of an isolated queue";

impl SharedQueue {
    /// Puts a value.
    ///
    /// # Errors
    ///
    /// [`Error::Codec`] if it cannot travel; those of [`put`](Self::put).
    #[inline]
    pub fn put_value<T: Wire>(&self, value: &T, wait: Wait) -> Result<()> {
        if let Some((length, content)) = codec::raw_parts(value) {
            return self.put(&[&length, content], wait);
        }
        with_buffer(|buffer| {
            if self.is_isolated() {
                travel::plain(ISOLATED, || codec::encode_checked::<T, T>(value, buffer))?;
                return self.put(&[buffer], wait);
            }
            let ((), pins) = travel::once(|| codec::encode_checked::<T, T>(value, buffer))?;
            if pins.is_empty() {
                return self.put(&[buffer], wait);
            }
            let manifest = codec::encode(&pins.manifest())?;
            self.put_carrying(manifest.len(), &[&manifest, buffer], wait)?;
            pins.leave();
            Ok(())
        })
    }

    /// Gets a value.
    ///
    /// # Errors
    ///
    /// [`Error::QueueClosed`]; [`Error::Codec`] if the message is no such value: it is taken out all the same; those of
    /// [`take`](Self::take).
    #[inline]
    pub fn get_value<T: Wire>(&self, wait: Wait) -> Result<T> {
        self.assert_open()?;
        self.take_value(wait)
    }

    /// As [`get_value`](Self::get_value), also of a closed handle, which then waits for nothing.
    ///
    /// # Errors
    ///
    /// As for [`get_value`](Self::get_value); [`Error::QueueClosed`] if it is closed and nothing is left.
    #[inline]
    pub fn take_value<T: Wire>(&self, wait: Wait) -> Result<T> {
        if let Some(mut raw) = Raw::<T>::new() {
            let (length, content) = raw.parts();
            let got = self.take(length, content, wait)?;
            if got.manifest > 0 {
                return self.unpack(&[length, content.as_slice()].concat(), got);
            }
            return Ok(raw.value()?);
        }
        with_buffer(|buffer| match self.take(&mut [], buffer, wait)? {
            got if got.manifest > 0 || self.is_isolated() => self.unpack(buffer, got),
            _ => Ok(codec::decode_wire(buffer)?),
        })
    }

    /// Reads a value that carries something, or comes from memory of which nothing may.
    fn unpack<T: Wire>(&self, message: &[u8], got: Got) -> Result<T> {
        match (self.is_isolated(), got.manifest) {
            (false, manifest) => {
                travel::arrive(message.get(..got.length).unwrap_or(message), manifest, codec::decode_wire)
            }
            (true, 0) => travel::plain(ISOLATED, || codec::decode_wire(message)),
            (true, _) => Err(Error::Isolated { what: ISOLATED }),
        }
    }

    /// As [`put_value`](Self::put_value), and waits without blocking the thread. Given up, nothing was put.
    ///
    /// # Errors
    ///
    /// As for [`put_value`](Self::put_value); the thread that waits for tasks cannot be started.
    pub async fn put_value_async<T: Wire>(&self, value: &T) -> Result<()> {
        let put = || match self.put_value(value, Wait::Never) {
            Err(Error::Full) => None,
            done => Some(done),
        };
        // What does not fit is not encoded.
        let try_put = || if self.is_full() && !self.is_closed() { None } else { put() };
        match try_put() {
            Some(done) => done,
            None => tasks::wait_for(self.space(), try_put).await?,
        }
    }

    /// As [`get_value`](Self::get_value), and waits without blocking the thread. Given up, nothing was taken out.
    ///
    /// # Errors
    ///
    /// As for [`get_value`](Self::get_value); the thread that waits for tasks cannot be started.
    pub async fn get_value_async<T: Wire>(&self) -> Result<T> {
        let try_get = || match self.get_value(Wait::Never) {
            Err(Error::Empty) => None,
            done => Some(done),
        };
        match try_get() {
            Some(done) => done,
            None => tasks::wait_for(self.items(), try_get).await?,
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    fn kept_after(length: usize) -> usize {
        with_buffer(|buffer| buffer.resize(length, 0));
        with_buffer(|buffer| buffer.capacity())
    }

    #[test]
    fn a_large_buffer_is_kept_while_it_is_used_and_never_a_huge_one() {
        let size = kept_after(MOST_KEPT / 2);
        assert!(size >= MOST_KEPT / 2);
        assert_eq!(kept_after(MOST_KEPT / 3), size);
        assert!((0..MOST_IDLE).map(|_| kept_after(100)).any(|size| size <= LITTLE));
        assert_eq!(kept_after(LITTLE), kept_after(100), "what is little stays");
        assert_eq!(kept_after(MOST_KEPT + 1), 0);
    }
}
