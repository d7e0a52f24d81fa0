//! Pipes: two connected ends for messages.

use crate::Result;
use procession_ipc::connection as ipc;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Makes two connected ends; each can send and receive.
///
/// # Errors
///
/// No descriptor left ([`ErrorKind::Os`](crate::ErrorKind::Os)).
///
/// # Examples
///
/// ```
/// use procession::prelude::*;
///
/// fn double(connection: Connection) -> Result<(), String> {
///     let x: u64 = connection.recv().map_err(|error| error.to_string())?;
///     connection.send(&(x * 2)).map_err(|error| error.to_string())
/// }
///
/// let (here, there) = pipe()?;
/// let process = Process::spawn(double, (there,))?;
/// here.send(&21_u64)?;
/// assert_eq!(here.recv::<u64>()?, 42);
/// process.result()?.unwrap();
/// # Ok::<(), Error>(())
/// ```
#[doc(alias = "Pipe")]
pub fn pipe() -> Result<(Connection, Connection)> {
    let (a, b) = ipc::Connection::pair()?;
    Ok((Connection(a), Connection(b)))
}

/// One end of a connection between two processes.
///
/// It may go wherever values go: in arguments and results, over another connection, in a queue, in tasks of a pool and calls of
/// an actor. It arrives also if its sender has ended by then. What is sent is a copy: the end of the connection comes when
/// all copies of the other end are closed, so drop yours once it is on its way. Several threads may use one end at the same
/// time; messages stay whole (in Python they may be torn).
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Connection(ipc::Connection);

impl Connection {
    /// Sends a value; waits while the other end does not read.
    ///
    /// # Errors
    ///
    /// A value that cannot travel ([`ErrorKind::Codec`](crate::ErrorKind::Codec),
    /// [`ErrorKind::NotRoundTrip`](crate::ErrorKind::NotRoundTrip)), found before anything is sent;
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected).
    pub fn send<T: Serialize + Deserialize<'static>>(&self, value: &T) -> Result<()> {
        Ok(self.0.send(value)?)
    }

    /// Receives a value; waits for it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected) when nothing is left and the other end is closed;
    /// [`ErrorKind::Codec`](crate::ErrorKind::Codec) when the message is no `T`.
    pub fn recv<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(self.0.recv()?)
    }

    /// Sends bytes as one message, for [`recv_bytes`](Self::recv_bytes).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected).
    pub fn send_bytes(&self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.send_bytes(bytes)?)
    }

    /// Receives one message as bytes; waits for it. An empty message is a message.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Disconnected`](crate::ErrorKind::Disconnected), [`ErrorKind::Torn`](crate::ErrorKind::Torn).
    pub fn recv_bytes(&self) -> Result<Vec<u8>> {
        Ok(self.0.recv_bytes()?)
    }

    /// Whether something can be received now: a message, or the end of the connection. Takes nothing.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn poll(&self) -> Result<bool> {
        self.poll_timeout(Duration::ZERO)
    }

    /// Waits, at most for `timeout`, until something can be received; says whether it can.
    ///
    /// # Errors
    ///
    /// The operating system's.
    pub fn poll_timeout(&self, timeout: Duration) -> Result<bool> {
        // A timeout beyond the end of time is none.
        Ok(self.0.poll(Instant::now().checked_add(timeout))?)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
