//! One message over a start socket: a fixed header, bytes, descriptors.
//!
//! ```text
//! magic:u64  image:u64  kind:u32  memory:u32  length:u64  | bytes, unless memory = 1
//! ```
//!
//! All numbers are little endian. With `memory = 1` the first descriptor is a sealed memory file of `length` bytes:
//! anything larger than [`INLINE_LIMIT`] goes that way, so a send never waits for the receiver. The socket keeps
//! message boundaries: a parcel arrives whole or not at all, whatever happens to its sender.
//!
//! Who reads a parcel trusts nothing in it: the magic number, the build and each length are checked, and the sender was
//! checked by the kernel's credentials before (see `entry`).

use crate::sys::image::main_image;
use crate::sys::memory::{read_memory, sealed_memory};
use crate::sys::socket::{self, MAX_DESCRIPTORS};
use crate::{Error, Result};
use nix::sys::socket::MsgFlags;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const MAGIC: u64 = u64::from_le_bytes(*b"PROCESN1");

/// Size of the header in bytes.
pub(super) const HEADER: usize = 32;

/// Largest payload that travels in the packet itself: with its header one page, which is all that a receiver touches, and
/// far below the default send buffer (net.core.wmem_default).
const INLINE_LIMIT: usize = 4096 - HEADER;

/// For error texts.
const SENDING: &str = "send over a start socket";

/// For error texts.
const RECEIVING: &str = "receive over a start socket";

/// What a parcel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To an executed program: you are a child, the start message follows.
    BecomeChild = 1,
    /// To an executed program: you are the fork server.
    BecomeServer = 2,
    /// To a child: what to run.
    Start = 3,
    /// To the fork server: make a child; one descriptor, its start socket.
    Fork = 4,
    /// From the fork server: ready; or done, with the child's pid and pidfd.
    Done = 5,
    /// From the fork server: it cannot work here, with the reason.
    Refused = 6,
    /// From a child: the encoded result.
    Value = 7,
    /// From a child: why there is none.
    Failure = 8,
    /// From a child, before its result: the handles of shared objects in it.
    Luggage = 9,
}

impl Kind {
    fn from_number(number: u32) -> Option<Self> {
        use Kind::{BecomeChild, BecomeServer, Done, Failure, Fork, Luggage, Refused, Start, Value};
        [BecomeChild, BecomeServer, Start, Fork, Done, Refused, Value, Failure, Luggage]
            .into_iter()
            .find(|&kind| kind as u32 == number)
    }
}

/// A checked header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    in_memory: bool,
    length: u64,
}

impl Header {
    fn encode(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[8..16].copy_from_slice(&main_image().id().to_le_bytes());
        bytes[16..20].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes[20..24].copy_from_slice(&u32::from(self.in_memory).to_le_bytes());
        bytes[24..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// Checks the first bytes of a packet of `total` bytes.
    pub(super) fn decode(bytes: &[u8], total: usize) -> Result<Self> {
        const MALFORMED: Error = Error::Malformed { what: "start message" };
        let bytes: &[u8; HEADER] = bytes.first_chunk().ok_or(MALFORMED)?;
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let short = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        if long(0) != MAGIC {
            return Err(MALFORMED);
        }
        if long(8) != main_image().id() {
            return Err(Error::Malformed {
                what: "start message (it comes from another build of this program)",
            });
        }
        let kind = Kind::from_number(short(16)).ok_or(MALFORMED)?;
        let header = Self { kind, in_memory: short(20) == 1, length: long(24) };
        let inline = (total - HEADER) as u64;
        if inline == if header.in_memory { 0 } else { header.length } { Ok(header) } else { Err(MALFORMED) }
    }
}

/// A message with its descriptors.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) kind: Kind,
    pub(super) bytes: Vec<u8>,
    pub(super) handles: Vec<OwnedFd>,
}

impl Parcel {
    /// A parcel with a pid or an error number.
    pub(super) fn number(kind: Kind, number: i32) -> Self {
        Self { kind, bytes: number.to_le_bytes().to_vec(), handles: Vec::new() }
    }

    /// The number of such a parcel.
    pub(super) fn as_number(&self) -> Option<i32> {
        self.bytes.as_slice().try_into().map(i32::from_le_bytes).ok()
    }

    /// A parcel that only says its kind.
    pub(super) fn bare(kind: Kind) -> Self {
        Self { kind, bytes: Vec::new(), handles: Vec::new() }
    }

    /// Sends without ever waiting for the receiver to read.
    #[inline]
    pub(super) fn send(&self, socket: &impl AsFd) -> Result<()> {
        if self.bytes.len() <= INLINE_LIMIT && self.handles.is_empty() {
            return self.send_packet(socket.as_fd(), Some(&self.bytes), &[]);
        }
        self.send_with_descriptors(socket.as_fd())
    }

    fn send_with_descriptors(&self, socket: BorrowedFd<'_>) -> Result<()> {
        let in_memory = self.bytes.len() > INLINE_LIMIT;
        let memory = in_memory.then(|| sealed_memory(&[&self.bytes])).transpose();
        let memory = memory.map_err(|e| Error::os(SENDING, e))?;
        let handles: Vec<BorrowedFd<'_>> = memory.iter().chain(&self.handles).map(AsFd::as_fd).collect();
        if handles.len() > MAX_DESCRIPTORS {
            let error =
                crate::codec::CodecError::TooManyHandles { count: handles.len(), limit: MAX_DESCRIPTORS };
            return Err(error.into());
        }
        let inline = (!in_memory).then_some(&*self.bytes);
        self.send_packet(socket, inline, &handles)
    }

    /// One packet, which holds the bytes unless they are in the first of the descriptors.
    #[inline]
    fn send_packet(
        &self,
        socket: BorrowedFd<'_>,
        inline: Option<&[u8]>,
        handles: &[BorrowedFd<'_>],
    ) -> Result<()> {
        let length = self.bytes.len() as u64;
        let header = Header { kind: self.kind, in_memory: inline.is_none(), length }.encode();
        let parts = [IoSlice::new(&header), IoSlice::new(inline.unwrap_or_default())];
        match socket::send(socket, &parts, handles, MsgFlags::empty()) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                Err(Error::Disconnected)
            }
            Err(error) => Err(Error::os(SENDING, error)),
        }
    }

    /// Receives the next parcel; waits for it.
    ///
    /// `Disconnected` when the other end is gone and nothing is left.
    pub(super) fn receive(socket: &impl AsFd) -> Result<Self> {
        Self::receive_with(socket, MsgFlags::empty()).and_then(Self::whole)
    }

    /// Receives the next parcel, and says whether descriptors of it were cut off; waits for it.
    pub(super) fn receive_or_cut(socket: &impl AsFd) -> Result<(Self, bool)> {
        Self::receive_with(socket, MsgFlags::empty())
    }

    /// Receives the next parcel if one is there: what a process that has ended left behind.
    pub(super) fn try_receive(socket: &impl AsFd) -> Result<Option<Self>> {
        match Self::receive_with(socket, MsgFlags::MSG_DONTWAIT).and_then(Self::whole) {
            Err(Error::Disconnected) => Ok(None),
            Err(Error::Os { source, .. }) if source.kind() == ErrorKind::WouldBlock => Ok(None),
            other => other.map(Some),
        }
    }

    fn whole((parcel, is_cut): (Self, bool)) -> Result<Self> {
        if !is_cut {
            return Ok(parcel);
        }
        Err(Error::os(
            RECEIVING,
            io::Error::new(ErrorKind::InvalidData, "descriptors of a message were cut off"),
        ))
    }

    fn receive_with(socket: &impl AsFd, flags: MsgFlags) -> Result<(Self, bool)> {
        let doing = RECEIVING;
        let mut packet = vec![0; HEADER + INLINE_LIMIT];
        let mut handles = Vec::new();
        let (total, is_cut) = loop {
            match socket::receive_or_cut(socket.as_fd(), &mut packet, &mut handles, flags) {
                Ok((0, _)) => return Err(Error::Disconnected),
                Ok(received) => break received,
                // The other end was closed with something unread. That is told once, and before what it sent.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
                Err(error) => return Err(Error::os(doing, error)),
            }
        };
        packet.truncate(total);
        let header = Header::decode(&packet, total)?;
        let bytes = if header.in_memory {
            let missing =
                || io::Error::new(ErrorKind::InvalidData, "the memory file of a message is missing");
            let memory = if handles.is_empty() { Err(missing()) } else { Ok(handles.remove(0)) };
            memory.and_then(|memory| read_memory(memory, header.length)).map_err(|e| Error::os(doing, e))?
        } else {
            packet.drain(..HEADER);
            packet
        };
        Ok((Self { kind: header.kind, bytes, handles }, is_cut))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_parcels_arrive_with_their_descriptors() {
        let (a, b) = socket::packet_pair().unwrap();
        for length in [0, 1, INLINE_LIMIT, INLINE_LIMIT + 1, 5 << 20] {
            let bytes: Vec<u8> = (0..length).map(|i| i as u8).collect();
            let handles = vec![sealed_memory(&[b"beside"]).unwrap()];
            Parcel { kind: Kind::Value, bytes: bytes.clone(), handles }.send(&a).unwrap();
            let came = Parcel::receive(&b).unwrap();
            assert_eq!(
                (came.kind, came.bytes == bytes, came.handles.len()),
                (Kind::Value, true, 1),
                "{length}"
            );
        }
    }

    #[test]
    fn the_end_of_the_socket_is_told_apart_from_nothing_yet() {
        let (a, b) = socket::packet_pair().unwrap();
        assert!(Parcel::try_receive(&b).unwrap().is_none());
        drop(a);
        assert!(matches!(Parcel::receive(&b), Err(Error::Disconnected)));
        assert!(matches!(Parcel::bare(Kind::Fork).send(&b), Err(Error::Disconnected)));
    }

    #[test]
    fn a_reset_does_not_hide_what_was_sent_before() {
        let (a, b) = socket::packet_pair().unwrap();
        Parcel::bare(Kind::Start).send(&a).unwrap();
        Parcel::number(Kind::Value, 7).send(&b).unwrap();
        drop(a);
        assert_eq!(Parcel::receive(&b).unwrap().kind, Kind::Start);
        assert!(matches!(Parcel::receive(&b), Err(Error::Disconnected)));
    }

    #[test]
    fn hostile_headers_are_refused() {
        let good = Header { kind: Kind::Start, in_memory: false, length: 3 }.encode();
        assert!(Header::decode(&good, HEADER + 3).is_ok());
        assert!(Header::decode(&good, HEADER + 2).is_err(), "length does not agree");
        assert!(Header::decode(&good[..HEADER - 1], HEADER - 1).is_err(), "cut short");
        for at in [0, 7, 8, 15, 16, 19, 24, 31] {
            let mut bad = good;
            bad[at] ^= 0x80;
            assert!(Header::decode(&bad, HEADER + 3).is_err(), "byte {at}");
        }
    }

    #[test]
    fn an_announced_memory_file_must_be_there() {
        let (a, b) = socket::packet_pair().unwrap();
        let header = Header { kind: Kind::Start, in_memory: true, length: 1 << 40 }.encode();
        socket::send(a.as_fd(), &[IoSlice::new(&header)], &[], MsgFlags::empty()).unwrap();
        assert!(Parcel::receive(&b).is_err());
        let small = sealed_memory(&[b"x"]).unwrap();
        socket::send(a.as_fd(), &[IoSlice::new(&header)], &[small.as_fd()], MsgFlags::empty()).unwrap();
        assert!(Parcel::receive(&b).is_err());
    }
}
