//! Unix sockets: pairs, and bytes with descriptors beside them.

use super::check;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, accept4, getsockopt, recvmsg, sendmsg,
    setsockopt, socketpair, sockopt,
};
use nix::sys::time::TimeVal;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Most descriptors that the kernel lets one message carry (SCM_MAX_FD, unix(7)).
pub const MAX_DESCRIPTORS: usize = 253;

/// A connected pair of sockets that keep message boundaries: a message arrives whole or not at all.
///
/// # Errors
///
/// No descriptor left.
pub fn packet_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// A connected pair of byte stream sockets.
///
/// # Errors
///
/// No descriptor left.
pub fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?)
}

/// How long each call on a socket that may block does so: receiving, sending and connecting are EAGAIN then. `None`: for as long as it
/// takes.
///
/// # Errors
///
/// The kernel's answer to setsockopt(2).
pub fn set_patience(socket: BorrowedFd<'_>, patience: Option<Duration>) -> io::Result<()> {
    // The kernel takes 0 for no bound.
    let patience = patience.map_or(Duration::ZERO, |patience| patience.max(Duration::from_millis(1)));
    let seconds = libc::time_t::try_from(patience.as_secs()).unwrap_or(libc::time_t::MAX);
    let most = TimeVal::new(seconds, libc::suseconds_t::from(patience.subsec_micros().cast_signed()));
    setsockopt(&socket, sockopt::ReceiveTimeout, &most)?;
    Ok(setsockopt(&socket, sockopt::SendTimeout, &most)?)
}

/// Sends the bytes of `parts` and, with the first of them, `descriptors`; returns how many bytes went out.
///
/// A peer that is gone is an error, never SIGPIPE.
///
/// # Errors
///
/// The kernel's answer to sendmsg(2).
#[inline]
pub fn send(
    socket: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    descriptors: &[BorrowedFd<'_>],
    flags: MsgFlags,
) -> io::Result<usize> {
    let flags = flags | MsgFlags::MSG_NOSIGNAL;
    loop {
        let sent = match descriptors {
            [] => send_bytes(socket, parts, flags),
            _ => send_beside(socket, parts, descriptors, flags),
        };
        match sent {
            Err(Errno::EINTR) => {}
            other => return Ok(other?),
        }
    }
}

/// Not by nix: in a copy of a process, its code would have to be mapped for this alone.
#[inline]
fn send_bytes(socket: BorrowedFd<'_>, parts: &[IoSlice<'_>], flags: MsgFlags) -> nix::Result<usize> {
    // SAFETY: all zero is a message of nothing, to nobody.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // An `IoSlice` is an iovec.
    (message.msg_iov, message.msg_iovlen) = (parts.as_ptr().cast_mut().cast(), parts.len());
    // SAFETY: the message points to live slices, as many as it says, which are only read.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &message, flags.bits()) };
    Errno::result(sent).map(isize::unsigned_abs)
}

fn send_beside(
    socket: BorrowedFd<'_>,
    parts: &[IoSlice<'_>],
    descriptors: &[BorrowedFd<'_>],
    flags: MsgFlags,
) -> nix::Result<usize> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    sendmsg::<()>(socket.as_raw_fd(), parts, &[ControlMessage::ScmRights(&raw)], flags, None)
}

/// Receives bytes into `into`, and the descriptors that came beside them (close-on-exec) into `descriptors`.
///
/// Returns how many bytes came; 0 is the end of the stream.
///
/// # Errors
///
/// The kernel's answer to recvmsg(2); more descriptors than there is room for.
pub fn receive(
    socket: BorrowedFd<'_>,
    into: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    flags: MsgFlags,
) -> io::Result<usize> {
    match receive_or_cut(socket, into, descriptors, flags)? {
        (count, false) => Ok(count),
        (_, true) => Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors of a message were cut off")),
    }
}

/// [`receive`] that also says whether descriptors were cut off, for want of room or of free descriptors.
///
/// # Errors
///
/// The kernel's answer to recvmsg(2).
pub fn receive_or_cut(
    socket: BorrowedFd<'_>,
    into: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    flags: MsgFlags,
) -> io::Result<(usize, bool)> {
    let mut control = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    loop {
        let mut parts = [IoSliceMut::new(into)];
        let flags = flags | MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
            Err(Errno::EINTR) => continue,
            other => other?,
        };
        let (bytes, is_cut) = (message.bytes, message.flags.contains(MsgFlags::MSG_CTRUNC));
        descriptors.append(&mut take_descriptors(&control));
        return Ok((bytes, is_cut));
    }
}

/// The descriptors in what recvmsg(2) has written into `control`, which was all zero before.
///
/// Not by nix, which gives none of them when some were cut off: those that came would stay open for ever.
fn take_descriptors(control: &[u8]) -> Vec<OwnedFd> {
    /// In front of the descriptors, cmsg(3): its whole length, the level, the type.
    const HEADER: usize = size_of::<libc::cmsghdr>();
    let Some((header, rest)) = control.split_at_checked(HEADER) else { return Vec::new() };
    // SAFETY: any bytes are a cmsghdr, which is integers; a Vec of bytes may lie anywhere, so it is read unaligned.
    let header = unsafe { header.as_ptr().cast::<libc::cmsghdr>().read_unaligned() };
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
        return Vec::new();
    }
    let length = header.cmsg_len.saturating_sub(HEADER).min(rest.len());
    let (numbers, _) = rest[..length].as_chunks();
    // SAFETY: the kernel has just installed these numbers for us and nobody else knows them.
    numbers.iter().map(|&number| unsafe { OwnedFd::from_raw_fd(RawFd::from_ne_bytes(number)) }).collect()
}

/// Takes the next caller of a listening socket that does not block; `None` when there is none.
///
/// # Errors
///
/// The kernel's answer to accept4(2).
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    loop {
        match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            // SAFETY: the kernel has just made this number for us and nobody else knows it.
            Ok(raw) => return Ok(Some(unsafe { OwnedFd::from_raw_fd(raw) })),
            Err(Errno::EAGAIN) => return Ok(None),
            // The second: the caller has left again.
            Err(Errno::EINTR | Errno::ECONNABORTED) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Copies the start of the next message of a packet socket without taking it and without waiting.
///
/// Returns the whole message's length; descriptors beside it stay where they are.
///
/// # Errors
///
/// Nothing is queued, or `socket` is not a socket.
pub fn peek(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_TRUNC;
    // SAFETY: the pointer and length are those of a live, exclusively borrowed slice.
    let length = unsafe { libc::recv(socket.as_raw_fd(), into.as_mut_ptr().cast(), into.len(), flags) };
    Ok(usize::try_from(check(length as i64)?).unwrap_or(0))
}

/// Who made the other end of a Unix socket: process id and user id, as the kernel recorded them.
///
/// # Errors
///
/// Not a Unix socket.
pub fn peer(socket: BorrowedFd<'_>) -> io::Result<(i32, u32)> {
    let credentials = getsockopt(&socket, sockopt::PeerCredentials)?;
    Ok((credentials.pid(), credentials.uid()))
}

/// Whether `fd` is a connected packet socket of the Unix family.
#[must_use]
pub fn is_unix_packet(fd: BorrowedFd<'_>) -> bool {
    let unix = nix::sys::socket::getsockname::<nix::sys::socket::UnixAddr>(fd.as_raw_fd()).is_ok();
    unix && matches!(getsockopt(&fd.as_fd(), sockopt::SockType), Ok(SockType::SeqPacket))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::IntoRawFd;

    #[test]
    fn descriptors_travel_beside_the_bytes() {
        let (a, b) = packet_pair().unwrap();
        let file = crate::sys::memory::sealed_memory(&[b"x"]).unwrap();
        send(a.as_fd(), &[IoSlice::new(b"he"), IoSlice::new(b"y")], &[file.as_fd()], MsgFlags::empty())
            .unwrap();
        let mut start = [0; 2];
        assert_eq!(peek(b.as_fd(), &mut start).unwrap(), 3);
        let (mut bytes, mut came) = ([0; 8], Vec::new());
        assert_eq!(receive(b.as_fd(), &mut bytes, &mut came, MsgFlags::empty()).unwrap(), 3);
        assert_eq!((&bytes[..3], came.len()), (&b"hey"[..], 1));
        assert_eq!(peer(b.as_fd()).unwrap().0, nix::unistd::getpid().as_raw());
    }

    /// A limit keeps the kernel from installing all of them: those that came are given to the caller, or closed.
    #[test]
    fn descriptors_beside_a_cut_message_are_not_lost() {
        let control = |numbers: &[RawFd]| {
            let mut control = cmsg_space!([RawFd; MAX_DESCRIPTORS]);
            let header = libc::cmsghdr {
                cmsg_len: size_of::<libc::cmsghdr>() + size_of_val(numbers),
                cmsg_level: libc::SOL_SOCKET,
                cmsg_type: libc::SCM_RIGHTS,
            };
            // SAFETY: the buffer has room for a header, at any alignment.
            unsafe { control.as_mut_ptr().cast::<libc::cmsghdr>().write_unaligned(header) };
            let bytes = numbers.iter().flat_map(|number| number.to_ne_bytes());
            control[size_of::<libc::cmsghdr>()..].iter_mut().zip(bytes).for_each(|(to, byte)| *to = byte);
            control
        };
        let (a, b) = packet_pair().unwrap();
        let (a, b) = (a.into_raw_fd(), b.into_raw_fd());
        let taken = take_descriptors(&control(&[a, b]));
        assert_eq!(taken.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>(), [a, b]);
        assert!(take_descriptors(&control(&[])).is_empty());
        assert!(take_descriptors(&cmsg_space!([RawFd; MAX_DESCRIPTORS])).is_empty());
        assert!(take_descriptors(&[]).is_empty());
    }

    #[test]
    fn only_a_unix_packet_socket_is_one() {
        let (packet, _other) = packet_pair().unwrap();
        let (stream, _another) = stream_pair().unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let file = crate::sys::memory::sealed_memory(&[]).unwrap();
        let table =
            [(packet.as_fd(), true), (stream.as_fd(), false), (tcp.as_fd(), false), (file.as_fd(), false)];
        for (fd, expected) in table {
            assert_eq!(is_unix_packet(fd), expected, "{fd:?}");
        }
    }
}
