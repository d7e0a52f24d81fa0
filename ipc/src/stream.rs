//! Byte streams between two processes, and waiting for many of them: what a pool's data path is made of.
//!
//! A [`Stream`] has no frames; its users bring their own, with an [`Inbox`] to find them in and an
//! [`Unsent`] for what is not taken at once. The end of the stream and a reset are one thing here: the other
//! process is gone and everything that it sent before has been read.

mod inbox;
mod unsent;

pub use inbox::{Garbage, Inbox, MAX_LENGTH, WORD, whole_frame, word};
pub use unsent::{Unsent, Written};

use crate::gate::{self, PrivateFd};
use crate::spin::Spin;
use crate::sys::socket::stream_pair;
use crate::{Error, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// One end of a byte stream; travels to another process as its descriptor.
///
/// Copies of this process do not have it: both its ends must be able to see that the other one is gone.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stream(PrivateFd);

impl Stream {
    /// Two connected ends.
    ///
    /// # Errors
    ///
    /// No descriptor left.
    pub fn pair() -> Result<(Self, Self)> {
        let _passage = gate::enter("opening a socket pair");
        let (a, b) = stream_pair().map_err(|e| Error::os("open a socket pair", e))?;
        Ok((Self(a.into()), Self(b.into())))
    }

    /// Another descriptor of the same end.
    ///
    /// # Errors
    ///
    /// No descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(self.as_fd().try_clone_to_owned()?.into())
    }

    /// Waits for bytes, looking a few times before it sleeps; 0 is the end. A thread of the program that sleeps here is at
    /// [`rest`](gate::rest).
    ///
    /// # Errors
    ///
    /// The kernel's answer to recv(2).
    pub fn read(&self, into: &mut [u8], spin: &mut Spin) -> io::Result<usize> {
        match spin.look(|| self.try_read(into).transpose()) {
            Some(read) => read,
            None => {
                let _rest = gate::rest();
                self.receive(into, MsgFlags::empty()).map(Option::unwrap_or_default)
            }
        }
    }

    /// Takes the bytes that are there: `None` when there are none yet, 0 at the end.
    ///
    /// # Errors
    ///
    /// The kernel's answer to recv(2).
    pub fn try_read(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        self.receive(into, MsgFlags::MSG_DONTWAIT)
    }

    fn receive(&self, into: &mut [u8], flags: MsgFlags) -> io::Result<Option<usize>> {
        loop {
            match recv(self.as_fd().as_raw_fd(), into, flags) {
                Ok(count) => return Ok(Some(count)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::ECONNRESET) => return Ok(Some(0)),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Writes everything; waits while the other side does not read, at [`rest`](gate::rest). `false` when the other side is
    /// gone.
    ///
    /// # Errors
    ///
    /// The kernel's answer to send(2).
    pub fn write_all(&self, mut bytes: &[u8]) -> io::Result<bool> {
        while !bytes.is_empty() {
            let sent = match self.try_write(bytes)? {
                None => {
                    let _rest = gate::rest();
                    self.transmit(bytes, MsgFlags::empty())?
                }
                sent => sent,
            };
            match sent {
                Some(0) => return Ok(false),
                sent => bytes = &bytes[sent.unwrap_or_default()..],
            }
        }
        Ok(true)
    }

    /// Writes what fits now: `None` when nothing does, 0 when the other side is gone.
    ///
    /// # Errors
    ///
    /// The kernel's answer to send(2).
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        self.transmit(bytes, MsgFlags::MSG_DONTWAIT)
    }

    fn transmit(&self, bytes: &[u8], flags: MsgFlags) -> io::Result<Option<usize>> {
        loop {
            match send(self.as_fd().as_raw_fd(), bytes, flags | MsgFlags::MSG_NOSIGNAL) {
                Ok(count) => return Ok(Some(count)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Ok(Some(0)),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Ends the stream in both directions, also for a thread that waits in [`read`](Self::read) now. What has arrived can
    /// still be read.
    pub fn hang_up(&self) {
        // Fails only if the other end is gone already.
        let _ = shutdown(self.as_fd().as_raw_fd(), Shutdown::Both);
    }
}

impl From<PrivateFd> for Stream {
    fn from(socket: PrivateFd) -> Self {
        Self(socket)
    }
}

impl From<OwnedFd> for Stream {
    fn from(socket: OwnedFd) -> Self {
        Self(socket.into())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What the layers with a runtime ask for.
impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// Wakes a thread of this process out of [`wait_any`].
#[derive(Debug)]
pub struct Wake(EventFd);

impl Wake {
    /// A wake-up that nobody has asked for yet.
    ///
    /// # Errors
    ///
    /// No descriptor left.
    pub fn new() -> Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        EventFd::from_flags(flags).map(Self).map_err(|e| Error::os("open an event descriptor", e))
    }

    /// Asks for a wake-up; asking twice wakes once.
    pub fn wake(&self) {
        // The counter can only be full if nobody ever woke, and then it is readable.
        let _ = self.0.write(1);
    }

    /// Forgets the wake-ups asked for so far.
    pub fn clear(&self) {
        let _ = self.0.read();
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What is waited for at a descriptor. The end of a stream counts as both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// That it can be read.
    Read,
    /// That it can be written.
    Write,
    /// One of the two.
    Both,
}

impl Interest {
    fn events(self) -> PollFlags {
        match self {
            Self::Read => PollFlags::POLLIN,
            Self::Write => PollFlags::POLLOUT,
            Self::Both => PollFlags::POLLIN | PollFlags::POLLOUT,
        }
    }
}

/// Waits until at least one of the descriptors is ready, and says which are. Looks a few times before it sleeps.
///
/// # Errors
///
/// The kernel's answer to poll(2).
pub fn wait_any(fds: &[(BorrowedFd<'_>, Interest)], spin: &mut Spin) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|&(fd, interest)| PollFd::new(fd, interest.events())).collect();
    let mut once = |timeout: PollTimeout| match poll(&mut polled, timeout) {
        Ok(0) | Err(Errno::EINTR) => None,
        Err(errno) => Some(Err(io::Error::from(errno))),
        Ok(_) => Some(Ok(())),
    };
    let mut found = spin.look(|| once(PollTimeout::ZERO));
    while found.is_none() {
        found = once(PollTimeout::NONE);
    }
    found.transpose()?;
    Ok(polled.iter().map(|fd| fd.any().unwrap_or(true)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_ends_after_its_last_byte() {
        let (a, b) = Stream::pair().unwrap();
        let mut buffer = [0; 8];
        assert_eq!(b.try_read(&mut buffer).unwrap(), None);
        assert!(a.write_all(b"abc").unwrap());
        // Unread bytes at the dropped end make this a reset, which must not hide the bytes that it sent.
        assert!(b.write_all(b"unread").unwrap());
        drop(a);
        assert_eq!(b.read(&mut buffer, &mut Spin::default()).unwrap(), 3);
        assert_eq!(b.read(&mut buffer, &mut Spin::default()).unwrap(), 0);
        assert!(!b.write_all(b"x").unwrap());
    }

    #[test]
    fn hanging_up_ends_a_blocked_read() {
        let (a, _b) = Stream::pair().unwrap();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| a.read(&mut [0; 8], &mut Spin::default()).unwrap());
            a.hang_up();
            assert_eq!(reader.join().unwrap(), 0);
        });
    }

    #[test]
    fn wake_ups_collapse_and_can_be_forgotten() {
        let (wake, (a, b)) = (Wake::new().unwrap(), Stream::pair().unwrap());
        wake.wake();
        wake.wake();
        assert_eq!(
            wait_any(&[(wake.as_fd(), Interest::Read), (a.as_fd(), Interest::Read)], &mut Spin::default())
                .unwrap(),
            [true, false]
        );
        wake.clear();
        assert!(b.write_all(b"x").unwrap());
        assert_eq!(
            wait_any(&[(wake.as_fd(), Interest::Read), (a.as_fd(), Interest::Read)], &mut Spin::default())
                .unwrap(),
            [false, true]
        );
    }
}
