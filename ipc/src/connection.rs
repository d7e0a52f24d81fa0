//! Framed messages over a stream socket, with descriptors beside them.
//!
//! The frame is CPython's (`Lib/multiprocessing/connection.py`, `_send_bytes`): a signed 32-bit length, big endian, then
//! the bytes; a longer message has length -1 and an unsigned 64-bit length after it. Descriptors travel beside the
//! first byte of the header.
//!
//! Reading and writing have a lock each, so several threads may use one end: messages are never torn or merged.
//! Lengths that a peer announces are checked before memory is taken, and memory grows with the bytes that arrive.

pub mod auth;
mod frame;

pub use frame::{MAX_MESSAGE, fuzz_frame};

use crate::codec::{self, HandleFd};
use crate::gate::{self, PrivateFd};
use crate::stream::Stream;
use crate::sys::fd::wait_readable;
use crate::sys::socket::{set_patience, stream_pair};
use crate::{Error, Result, travel};
use auth::Handshake;
use nix::sys::socket::{Shutdown, shutdown};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One end of a connection between two processes.
#[derive(Debug)]
pub struct Connection {
    socket: PrivateFd,
    reading: Mutex<()>,
    writing: Mutex<()>,
}

impl Connection {
    /// Two connected ends.
    ///
    /// # Errors
    ///
    /// No descriptor left.
    pub fn pair() -> Result<(Self, Self)> {
        let _passage = gate::enter("opening a socket pair");
        let (a, b) = stream_pair().map_err(|e| Error::os("open a socket pair", e))?;
        Ok((a.into(), b.into()))
    }

    /// Sends one value; it is encoded before anything is written.
    ///
    /// # Errors
    ///
    /// A value that cannot travel, or [`Error::Disconnected`].
    pub fn send<T: Serialize + Deserialize<'static>>(&self, value: &T) -> Result<()> {
        let ((bytes, handles), pins) = travel::once(|| codec::encode_checked_with_handles::<T, T>(value))?;
        let handles: Vec<BorrowedFd<'_>> = handles.iter().map(AsFd::as_fd).collect();
        self.write(&bytes, &handles)?;
        pins.leave();
        Ok(())
    }

    /// Receives one value; waits for it.
    ///
    /// # Errors
    ///
    /// [`Error::Disconnected`] when the other end is closed and nothing is left, [`Error::Torn`] in mid-message, or
    /// bytes that are no `T` (the message is taken all the same).
    pub fn recv<T: for<'de> Deserialize<'de>>(&self) -> Result<T> {
        let (bytes, handles) = self.read()?;
        Ok(codec::decode_with_handles(&bytes, handles)?)
    }

    /// Sends bytes as one message.
    ///
    /// # Errors
    ///
    /// [`Error::Disconnected`].
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<()> {
        self.write(bytes, &[])
    }

    /// Receives one message as bytes; descriptors beside it are closed.
    ///
    /// # Errors
    ///
    /// [`Error::Disconnected`] or [`Error::Torn`].
    pub fn recv_bytes(&self) -> Result<Vec<u8>> {
        Ok(self.read()?.0)
    }

    /// Whether a message, or the end of the connection, can be read now or before `deadline`; takes nothing.
    ///
    /// # Errors
    ///
    /// The kernel's answer to poll(2).
    pub fn poll(&self, deadline: Option<Instant>) -> Result<bool> {
        wait_readable(self.as_fd(), deadline).map_err(|e| Error::os("wait for a connection", e))
    }

    /// Ends the connection in both directions, also for a thread that waits in it now. What has arrived can still be read.
    pub fn hang_up(&self) {
        // Fails only if the other end is gone already.
        let _ = shutdown(self.as_fd().as_raw_fd(), Shutdown::Both);
    }

    /// A connection of its own over the socket of a stream, on which nobody waits longer than that for a step.
    pub(crate) fn of_stream(stream: &Stream, patience: Duration) -> Result<Self> {
        let doing = |error| Error::os("set up a connection", error);
        let _passage = gate::enter("opening a socket");
        let socket = stream.as_fd().try_clone_to_owned().map_err(doing)?;
        set_patience(socket.as_fd(), Some(patience)).map_err(doing)?;
        Ok(Self { socket: socket.into(), reading: Mutex::new(()), writing: Mutex::new(()) })
    }

    /// Goes through a handshake that begins with sending `first`, on a connection that nobody else uses.
    pub(crate) fn prove(&self, mut handshake: Handshake, first: Vec<u8>) -> Result<()> {
        let mut out = first;
        loop {
            frame::write_frames(self.as_fd(), &out)?;
            out.clear();
            let (message, _) = frame::read(self.as_fd(), auth::MAX_MESSAGE as u64)?;
            let received = handshake.receive(&message, &mut out);
            if !matches!(received, Ok(false)) {
                frame::write_frames(self.as_fd(), &out)?;
                return received.map(drop);
            }
        }
    }

    fn write(&self, bytes: &[u8], handles: &[BorrowedFd<'_>]) -> Result<()> {
        let _one_writer = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        frame::write(self.as_fd(), bytes, handles)
    }

    fn read(&self) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
        let _one_reader = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        frame::read(self.as_fd(), MAX_MESSAGE)
    }
}

impl From<OwnedFd> for Connection {
    fn from(socket: OwnedFd) -> Self {
        Self { socket: PrivateFd::captured(socket), reading: Mutex::new(()), writing: Mutex::new(()) }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A connection travels as its descriptor; the sender's own end stays open until it is dropped.
impl Serialize for Connection {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.socket.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Connection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(HandleFd::deserialize(deserializer)?.into_owned().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::storm::outlast_signals;
    use std::fs::File;
    use std::thread;

    /// T181 (TestIgnoreEINTR.test_ignore).
    #[test]
    fn messages_are_whole_when_signals_interrupt_both_ways() {
        let (here, there) = Connection::pair().unwrap();
        let message: Vec<u8> = (0..8 << 20).map(|n: u32| n as u8).collect();
        thread::scope(|scope| {
            let (reader, expected) = (&there, &message);
            // Nobody reads at first, so the writer sleeps in mid-message.
            let read = || drop(scope.spawn(move || assert_eq!(&reader.recv_bytes().unwrap(), expected)));
            outlast_signals(|| here.send_bytes(&message), read).unwrap();
        });
        let received = outlast_signals(|| here.recv_bytes(), || there.send_bytes(&message).unwrap());
        assert_eq!(received.unwrap(), message);
        assert!(outlast_signals(|| here.poll(None), || there.send(&()).unwrap()).unwrap());
    }

    /// T159 (TestInvalidHandle.test_invalid_handles). That there is a descriptor at all is what its type says.
    #[test]
    fn descriptor_that_is_no_socket_is_an_error_of_each_call() {
        let no_socket = || Connection::from(OwnedFd::from(File::open("/dev/null").unwrap()));
        let refusals = [
            no_socket().send(&1).unwrap_err(),
            no_socket().recv::<u8>().unwrap_err(),
            no_socket().send_bytes(b"x").unwrap_err(),
            no_socket().recv_bytes().unwrap_err(),
        ];
        for refusal in refusals {
            assert!(matches!(refusal, Error::Os { .. }), "{refusal:?}");
        }
        no_socket().hang_up();
    }
}
