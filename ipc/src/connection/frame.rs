//! Reading and writing one frame. See the module above for its form.

use crate::sys::socket::{self, MAX_DESCRIPTORS};
use crate::{Error, Result};
use nix::sys::socket::MsgFlags;
use std::io::{ErrorKind, IoSlice};
use std::os::fd::{BorrowedFd, OwnedFd};

/// Largest message that is read, in bytes: 1 TiB. A peer that announces more is refused before anything is read.
pub const MAX_MESSAGE: u64 = 1 << 40;

/// Memory is taken in steps of at most this, as bytes arrive: a header alone costs nothing.
const STEP: usize = 1 << 20;

/// The header of a message of `length` bytes: 4 or 12 bytes.
fn header(length: usize, buffer: &mut [u8; 12]) -> &[u8] {
    match i32::try_from(length) {
        Ok(short) => {
            buffer[..4].copy_from_slice(&short.to_be_bytes());
            &buffer[..4]
        }
        Err(_) => {
            buffer[..4].copy_from_slice(&(-1_i32).to_be_bytes());
            buffer[4..].copy_from_slice(&(length as u64).to_be_bytes());
            &buffer[..]
        }
    }
}

/// Writes a whole message; waits while the peer does not read.
pub(super) fn write(socket: BorrowedFd<'_>, bytes: &[u8], handles: &[BorrowedFd<'_>]) -> Result<()> {
    if handles.len() > MAX_DESCRIPTORS {
        let error = crate::codec::CodecError::TooManyHandles { count: handles.len(), limit: MAX_DESCRIPTORS };
        return Err(error.into());
    }
    let mut buffer = [0; 12];
    let (mut head, mut body, mut handles) = (header(bytes.len(), &mut buffer), bytes, handles);
    loop {
        let parts = [IoSlice::new(head), IoSlice::new(body)];
        let sent = socket::send(socket, &parts, handles, MsgFlags::empty()).map_err(disconnection)?;
        handles = &[];
        let of_head = sent.min(head.len());
        head = &head[of_head..];
        body = &body[sent - of_head..];
        if head.is_empty() && body.is_empty() {
            return Ok(());
        }
    }
}

/// Reads a whole message of at most `limit` bytes, and the descriptors beside it.
pub(super) fn read(socket: BorrowedFd<'_>, limit: u64) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut handles = Vec::new();
    let fill = &mut |into: &mut [u8]| {
        socket::receive(socket, into, &mut handles, MsgFlags::empty()).map_err(disconnection)
    };
    let bytes = read_from(fill, limit)?;
    Ok((bytes, handles))
}

/// Writes bytes that are frames already.
pub(super) fn write_frames(socket: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let sent = socket::send(socket, &[IoSlice::new(bytes)], &[], MsgFlags::empty());
        bytes = &bytes[sent.map_err(disconnection)?..];
    }
    Ok(())
}

/// Reads a frame from anything that fills a part of a buffer and says how much; 0 is the end.
fn read_from(fill: &mut dyn FnMut(&mut [u8]) -> Result<usize>, limit: u64) -> Result<Vec<u8>> {
    let mut short = [0; 4];
    match fill_all(fill, &mut short)? {
        0 => return Err(Error::Disconnected),
        4 => {}
        have => return Err(Error::Torn { have: have as u64, want: 4 }),
    }
    let mut long = [0; 8];
    if is_long(short) {
        let have = fill_all(fill, &mut long)?;
        if have != 8 {
            return Err(Error::Torn { have: have as u64, want: 8 });
        }
    }
    read_body(fill, length(short, long, limit)?)
}

/// Whether a second part of the header follows.
fn is_long(short: [u8; 4]) -> bool {
    i32::from_be_bytes(short) == -1
}

/// The length that a header announces, at most `limit`.
fn length(short: [u8; 4], long: [u8; 8], limit: u64) -> Result<u64> {
    let length = if is_long(short) {
        u64::from_be_bytes(long)
    } else {
        let short = i32::from_be_bytes(short);
        // CPython reads other negative lengths as an empty message; here they are refused.
        u64::try_from(short).map_err(|_| Error::TooLong { claimed: i64::from(short), limit })?
    };
    if length > limit {
        return Err(Error::TooLong { claimed: i64::try_from(length).unwrap_or(i64::MAX), limit });
    }
    Ok(length)
}

/// Appends a short message with its header.
pub(super) fn put(message: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(header(message.len(), &mut [0; 12]));
    out.extend_from_slice(message);
}

/// The first message of `have` and the bytes that it takes up there, if all of it is there.
pub(super) fn whole(have: &[u8], limit: usize) -> Result<Option<(&[u8], usize)>> {
    let Some((short, rest)) = have.split_first_chunk() else { return Ok(None) };
    let (long, rest) = match rest.split_first_chunk() {
        Some((long, after)) if is_long(*short) => (*long, after),
        None if is_long(*short) => return Ok(None),
        _ => ([0; 8], rest),
    };
    let length = usize::try_from(length(*short, long, limit as u64)?).unwrap_or(usize::MAX);
    let taken = have.len() - rest.len();
    Ok(rest.get(..length).map(|message| (message, taken + length)))
}

fn read_body(fill: &mut dyn FnMut(&mut [u8]) -> Result<usize>, length: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < length {
        let have = bytes.len();
        let step = usize::try_from(length - have as u64).unwrap_or(STEP).min(STEP.max(have));
        bytes
            .try_reserve_exact(step)
            .map_err(|e| Error::os("take memory for a message", std::io::Error::other(e)))?;
        bytes.resize(have + step, 0);
        let came = fill_all(fill, &mut bytes[have..])?;
        if came < step {
            return Err(Error::Torn { have: (have + came) as u64, want: length });
        }
    }
    Ok(bytes)
}

/// Fills as much of `into` as there is before the end.
fn fill_all(fill: &mut dyn FnMut(&mut [u8]) -> Result<usize>, into: &mut [u8]) -> Result<usize> {
    let mut have = 0;
    while have < into.len() {
        match fill(&mut into[have..])? {
            0 => break,
            came => have += came,
        }
    }
    Ok(have)
}

fn disconnection(error: std::io::Error) -> Error {
    match error.kind() {
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Error::Disconnected,
        _ => Error::os("use a connection", error),
    }
}

/// Reads one frame from bytes of a stranger, as they arrive and in what has arrived. For the fuzzer: whatever the bytes are,
/// both return and find the same.
#[doc(hidden)]
pub fn fuzz_frame(bytes: &[u8]) {
    let mut left = bytes;
    let read = read_from(
        &mut |into| {
            let (now, later) = left.split_at(left.len().min(into.len()));
            into[..now.len()].copy_from_slice(now);
            left = later;
            Ok(now.len())
        },
        MAX_MESSAGE,
    );
    let found = whole(bytes, usize::try_from(MAX_MESSAGE).unwrap_or(usize::MAX)).ok().flatten();
    let read = read.ok().map(|message| (message, bytes.len() - left.len()));
    assert_eq!(read.as_ref().map(|(message, used)| (&message[..], *used)), found);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::each_mutant;
    use std::os::fd::AsFd;

    fn read_bytes(bytes: &[u8]) -> Result<Vec<u8>> {
        let mut left = bytes;
        read_from(
            &mut |into| {
                // One byte at a time: the worst that a stream may do.
                let Some((first, rest)) = left.split_first() else { return Ok(0) };
                into[0] = *first;
                left = rest;
                Ok(1)
            },
            MAX_MESSAGE,
        )
    }

    #[test]
    fn frames_are_those_of_cpython() {
        let mut buffer = [0; 12];
        assert_eq!(header(5, &mut buffer), [0, 0, 0, 5]);
        assert_eq!(header(0x7fff_ffff, &mut buffer), [0x7f, 0xff, 0xff, 0xff]);
        let long = [0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x80, 0, 0, 0];
        assert_eq!(header(0x8000_0000, &mut buffer), long);
        assert_eq!(read_bytes(b"\0\0\0\x03abc").unwrap(), b"abc");
        assert_eq!(read_bytes(b"\xff\xff\xff\xff\0\0\0\0\0\0\0\x02hi").unwrap(), b"hi");
        assert_eq!(read_bytes(b"\0\0\0\0").unwrap(), b"");
    }

    #[test]
    fn a_whole_frame_is_found_in_what_has_arrived() {
        let mut bytes = Vec::new();
        put(b"hello", &mut bytes);
        for have in 0..bytes.len() {
            assert_eq!(whole(&bytes[..have], 5).unwrap(), None, "{have}");
        }
        bytes.push(7);
        assert_eq!(whole(&bytes, 5).unwrap(), Some((&b"hello"[..], 9)));
        assert!(matches!(whole(&bytes[..4], 4), Err(Error::TooLong { claimed: 5, limit: 4 })));
        let long = b"\xff\xff\xff\xff\0\0\0\0\0\0\0\x02hi";
        assert_eq!(whole(long, 5).unwrap(), Some((&b"hi"[..], 14)));
        assert_eq!(whole(&long[..11], 5).unwrap(), None);
    }

    #[test]
    fn bad_frames_are_typed_errors() {
        let huge = b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0";
        assert!(matches!(read_bytes(b""), Err(Error::Disconnected)));
        assert!(matches!(read_bytes(b"\0\0"), Err(Error::Torn { have: 2, want: 4 })));
        assert!(matches!(read_bytes(b"\xff\xff\xff\xff\0"), Err(Error::Torn { have: 1, want: 8 })));
        assert!(matches!(read_bytes(b"\0\0\0\x09abc"), Err(Error::Torn { have: 3, want: 9 })));
        assert!(matches!(read_bytes(b"\xff\xff\xff\xfe"), Err(Error::TooLong { claimed: -2, .. })));
        assert!(matches!(read_bytes(huge), Err(Error::TooLong { .. })));
    }

    #[test]
    fn mutated_frames_are_read_or_refused() {
        let mut seeds = vec![b"\xff\xff\xff\xff\0\0\0\0\0\0\0\x02hi".to_vec(), Vec::new()];
        for message in [&b""[..], b"hello", &[7; 300]] {
            let mut frame = Vec::new();
            put(message, &mut frame);
            seeds.push(frame);
        }
        each_mutant(&seeds, 20_000, fuzz_frame);
    }

    #[test]
    fn an_announcement_alone_takes_no_memory() {
        // 1 TiB announced, three bytes sent: the buffer never grows past one step.
        let bytes = [&b"\xff\xff\xff\xff"[..], &(1_u64 << 40).to_be_bytes(), b"abc"].concat();
        assert!(matches!(read_bytes(&bytes), Err(Error::Torn { have: 3, .. })));
    }

    #[test]
    fn a_large_message_crosses_while_the_other_end_reads() {
        let (a, b) = socket::stream_pair().unwrap();
        let sent: Vec<u8> = (0..5_000_000_u32).map(|i| (i % 251) as u8).collect();
        let copy = sent.clone();
        let writer = std::thread::spawn(move || write(a.as_fd(), &copy, &[]).unwrap());
        assert!(read(b.as_fd(), MAX_MESSAGE).unwrap().0 == sent);
        writer.join().unwrap();
        assert!(matches!(read(b.as_fd(), MAX_MESSAGE), Err(Error::Disconnected)));
    }
}
