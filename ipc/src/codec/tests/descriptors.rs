//! Descriptors beside the bytes: none is lost, none is leaked, none is given twice.

use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::codec::*;

fn pipe() -> (std::io::PipeReader, HandleFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader, OwnedFd::from(writer).into())
}

/// Whether no writer is left: a read ends at once, with nothing.
fn is_closed(mut reader: std::io::PipeReader) -> bool {
    reader.read(&mut [0]).unwrap() == 0
}

#[test]
fn descriptors_travel_beside_the_bytes() {
    let (mut reader, handle) = pipe();
    let (bytes, handles) = encode_with_handles(&(1u8, &handle, vec![&handle])).unwrap();
    assert_eq!(handles.len(), 2);
    assert_ne!(handles[0].as_raw_fd(), handle.as_fd().as_raw_fd(), "a duplicate");
    drop(handle);
    let (one, first, rest): (u8, HandleFd, Vec<HandleFd>) = decode_with_handles(&bytes, handles).unwrap();
    assert_eq!((one, rest.len()), (1, 1));
    std::io::Write::write_all(&mut std::fs::File::from(first.into_owned()), b"x").unwrap();
    reader.read_exact(&mut [0]).unwrap();
    drop(rest);
    assert!(is_closed(reader));

    let mut out = vec![7];
    assert!(encode_wire_with_handles(&vec![1.5f64], &mut out).unwrap().is_empty());
    assert_eq!(decode_wire_with_handles::<Vec<f64>>(&out[1..], vec![]).unwrap(), [1.5]);
}

#[test]
fn descriptors_that_are_not_claimed_are_closed() {
    for claimed in [true, false] {
        let (reader, handle) = pipe();
        let result = if claimed {
            // Decoding fails after the descriptor was taken.
            let bytes = encode_with_handles(&handle).unwrap().0;
            decode_with_handles::<(HandleFd, u8)>(&bytes, vec![handle.into_owned()]).map(drop)
        } else {
            decode_with_handles::<u8>(&[1], vec![handle.into_owned()]).map(drop)
        };
        assert_eq!(result.is_err(), claimed);
        assert!(is_closed(reader));
    }
}

#[test]
fn a_descriptor_is_given_once_and_only_if_it_came() {
    // The first variant, and the index.
    let index = |n: u32| [0, n].map(u32::to_le_bytes).concat();
    let (_reader, handle) = pipe();
    let error =
        decode_with_handles::<[HandleFd; 2]>(&[index(0), index(0)].concat(), vec![handle.into_owned()]);
    assert!(error.unwrap_err().to_string().contains("descriptor 0 is claimed twice"));
    let error = decode_with_handles::<HandleFd>(&index(3), vec![]).unwrap_err();
    assert!(matches!(error, CodecError::Handle { .. }), "{error:?}");
    assert!(error.to_string().contains("descriptor 3 is missing: 0 came"), "{error}");
}

#[test]
fn a_descriptor_cannot_leave_without_a_scope() {
    let (_reader, handle) = pipe();
    let error = encode(&handle).unwrap_err().to_string();
    assert!(error.contains("a descriptor can only travel in what"), "{error}");
    assert!(decode::<HandleFd>(&[0; 4]).is_err());
    assert!(decode_with_handles::<u8>(&[0; 9], vec![]).is_err());
    assert!(encode(&handle).is_err(), "the scope ended with the error");

    struct Panics;
    impl Serialize for Panics {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("in Serialize")
        }
    }
    let (reader, lent) = pipe();
    let unwound = std::panic::catch_unwind(|| encode_with_handles(&(&lent, Panics)).map(drop));
    assert!(unwound.is_err());
    assert!(encode(&lent).is_err(), "the scope ended with the panic");
    drop(lent);
    assert!(is_closed(reader), "and closed its duplicate");
}

#[test]
fn a_message_carries_as_many_descriptors_as_the_kernel_takes() {
    let (_reader, handle) = pipe();
    let (_, handles) = encode_with_handles(&vec![&handle; MAX_HANDLES]).unwrap();
    assert_eq!(handles.len(), MAX_HANDLES);
    let error = encode_with_handles(&vec![&handle; MAX_HANDLES + 7]).unwrap_err();
    assert!(matches!(error, CodecError::TooManyHandles { count: 260, limit: 253 }), "{error:?}");
}

#[test]
fn the_check_takes_no_descriptor() {
    let (reader, handle) = pipe();
    check_round_trip::<HandleFd, HandleFd>(&handle).unwrap();
    let (bytes, handles) = encode_with_handles(&(&handle, 1u8)).unwrap();
    check_encoded::<(&HandleFd, u8), (HandleFd, u8)>(&bytes).unwrap();
    assert!(end_check::<Fault>().is_none(), "not in a check");
    let received = decode_with_handles::<(HandleFd, u8)>(&bytes, handles).unwrap();
    drop((received, handle));
    assert!(is_closed(reader));
}
