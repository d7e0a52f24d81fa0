//! Where processes of one family find each other that share no pipe: an abstract Unix socket with a random name.
//!
//! A name is 128 random bits, so nobody meets by accident and nobody guesses it; it leaves nothing in the file system and
//! is gone with its last descriptor, which no copy of this process has. A [`Listener`] travels as its descriptor, so that whoever starts a process can bind the
//! name first, and a supervisor can keep it and hand it to each incarnation: callers that arrive in between wait in its queue.
//!
//! Both sides look at the kernel's record of the other one's user (SO_PEERCRED, unix(7)). That the other one belongs to
//! the family is proved next, see [`auth`](crate::connection::auth); before that, no byte of it is decoded.

use crate::authkey::random_bytes;
use crate::gate::{self, PrivateFd};
use crate::stream::Stream;
use crate::sys::socket::{accept, peer, set_patience};
use crate::{Error, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect as connect_socket, listen, socket,
};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

/// The name of a rendezvous. It may be known to anybody: the key is what counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Address([u8; 16]);

impl Address {
    /// A name that nobody has.
    ///
    /// # Errors
    ///
    /// The kernel has no random bytes.
    pub fn random() -> Result<Self> {
        Ok(Self(random_bytes()?))
    }

    /// The name of these bytes, which belong to one process of one family.
    pub(crate) fn of(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    fn socket_address(self) -> Result<UnixAddr> {
        UnixAddr::new_abstract(self.to_string().as_bytes())
            .map_err(|error| Error::os(format!("form the socket address {self}"), error))
    }
}

/// As /proc/net/unix shows it, without the `@` of the abstract names.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "procession-{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A bound name, where callers queue.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listener {
    socket: PrivateFd,
    address: Address,
}

impl Listener {
    /// Binds a new name.
    ///
    /// # Errors
    ///
    /// No random bytes, or no descriptor left.
    pub fn new() -> Result<Self> {
        Self::bind(Address::random()?)
    }

    /// Binds this name.
    ///
    /// # Errors
    ///
    /// The name is taken, or no descriptor is left.
    pub fn bind(address: Address) -> Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let failed = |error: Errno| Error::os(format!("listen at {address}"), error);
        let _passage = gate::enter("opening a rendezvous");
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed)?;
        bind(socket.as_raw_fd(), &address.socket_address()?).map_err(failed)?;
        listen(&socket, Backlog::MAXCONN).map_err(failed)?;
        Ok(Self { socket: socket.into(), address })
    }

    /// Its name.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// Another descriptor of the same queue.
    ///
    /// # Errors
    ///
    /// No descriptor left.
    pub fn try_clone(&self) -> Result<Self> {
        let _passage = gate::enter("opening a rendezvous");
        let socket = self.socket.as_fd().try_clone_to_owned();
        let socket = socket.map_err(|error| Error::os(format!("duplicate {}", self.address), error))?;
        Ok(Self { socket: socket.into(), address: self.address })
    }

    /// Takes the next caller of our own user out of the queue; `None` when there is none. It has proved nothing yet.
    ///
    /// # Errors
    ///
    /// No descriptor left.
    pub fn try_accept(&self) -> io::Result<Option<Stream>> {
        let _passage = gate::enter("taking a caller in");
        while let Some(socket) = accept(self.as_fd())? {
            if check_user(socket.as_fd()).is_ok() {
                return Ok(Some(socket.into()));
            }
        }
        Ok(None)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// Calls `address`: the connection, which has proved nothing yet, or `None` when nobody listens there. It waits only if more
/// callers than the kernel keeps (net.core.somaxconn, 4,096) wait for somebody who does not accept them: for `patience`, or for as
/// long as it takes.
///
/// # Errors
///
/// No descriptor left; somebody of another user listens; [`Error::TimedOut`].
pub fn connect(address: Address, patience: Option<Duration>) -> Result<Option<Stream>> {
    let failed = |error: Errno| Error::os(format!("call {address}"), error);
    let passage = gate::enter("opening a socket");
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    let socket = PrivateFd::from(socket.map_err(failed)?);
    drop(passage);
    let bound = |patience| {
        set_patience(socket.as_fd(), patience).map_err(|error| Error::os(format!("call {address}"), error))
    };
    if patience.is_some() {
        bound(patience)?;
    }
    loop {
        match connect_socket(socket.as_fd().as_raw_fd(), &address.socket_address()?) {
            Ok(()) => break,
            Err(Errno::EINTR) => {}
            Err(Errno::ECONNREFUSED) => return Ok(None),
            Err(Errno::EAGAIN) => {
                let after = patience.unwrap_or_default();
                return Err(Error::TimedOut {
                    what: "getting through to a process that many others call",
                    after,
                });
            }
            Err(errno) => return Err(failed(errno)),
        }
    }
    if patience.is_some() {
        bound(None)?;
    }
    check_user(socket.as_fd())?;
    Ok(Some(socket.into()))
}

fn check_user(socket: BorrowedFd<'_>) -> Result<()> {
    let (_pid, uid) = peer(socket).map_err(|error| Error::os("ask who the other process is", error))?;
    if uid == nix::unistd::geteuid().as_raw() { Ok(()) } else { Err(Error::ForeignUser { uid }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::fd::wait_readable;
    use crate::sys::storm::outlast_signals;

    #[test]
    fn callers_meet_the_listener_and_find_nobody_once_it_is_gone() {
        let listener = Listener::new().unwrap();
        assert!(listener.try_accept().unwrap().is_none());
        let here = connect(listener.address(), None).unwrap().unwrap();
        let there = listener.try_clone().unwrap().try_accept().unwrap().unwrap();
        assert!(here.write_all(b"x").unwrap());
        assert_eq!(there.read(&mut [0; 2], &mut crate::spin::Spin::default()).unwrap(), 1);
        let address = listener.address();
        assert!(matches!(Listener::bind(address), Err(Error::Os { .. })), "the name is taken");
        drop(listener);
        assert!(connect(address, None).unwrap().is_none());
    }

    #[test]
    fn a_caller_waits_in_the_queue_for_whoever_serves_it_next() {
        let kept = Listener::new().unwrap();
        let first = kept.try_clone().unwrap();
        let here = connect(kept.address(), None).unwrap().unwrap();
        drop(first);
        assert!(kept.try_accept().unwrap().is_some());
        drop(here);
    }

    /// As when the process that should accept them was stopped.
    #[test]
    fn a_caller_whom_nobody_takes_in_gives_up_in_time() {
        let listener = Listener::new().unwrap();
        let patience = Some(Duration::from_millis(100));
        let refusal = (0..100_000).find_map(|_| connect(listener.address(), patience).err());
        assert!(matches!(refusal, Some(Error::TimedOut { .. })), "{refusal:?}");
        assert!(listener.try_accept().unwrap().is_some());
        assert!(connect(listener.address(), patience).unwrap().is_some());
    }

    /// T182 (TestIgnoreEINTR.test_ignore_listener).
    #[test]
    fn a_listener_goes_on_when_signals_interrupt_it() {
        let listener = Listener::new().unwrap();
        let address = listener.address();
        let (sender, calls) = std::sync::mpsc::channel();
        let accepted = outlast_signals(
            || {
                assert!(wait_readable(listener.as_fd(), None).unwrap());
                listener.try_accept().unwrap()
            },
            || sender.send(connect(address, None).unwrap().unwrap()).unwrap(),
        );
        assert!(accepted.is_some() && calls.recv().is_ok());
    }
}
