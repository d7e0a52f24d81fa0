//! Views of shared memory: inside, aligned, or none.

use super::*;
use crate::atomic::{AtomicU64, Ordering};
use crate::sys::memory::{memory_taken, sparse_memory};
use std::os::fd::AsFd;

/// One of `length` bytes.
fn region(length: u64) -> Region {
    Region::new(Map::new(sparse_memory(length).unwrap().as_fd()).unwrap())
}

#[test]
fn a_view_lies_inside_and_is_aligned() {
    let region = region(4096);
    let table = [
        (0, true),
        (8, true),
        (4088, true),
        (4, false),
        (4089, false),
        (4096, false),
        (usize::MAX - 3, false),
    ];
    for (at, expected) in table {
        assert_eq!(region.view::<AtomicU64>(at).is_some(), expected, "{at}");
    }
    assert!(region.views::<AtomicU64>(0, 512).is_some());
    assert!(region.views::<AtomicU64>(0, 513).is_none());
    assert!(region.views::<AtomicU64>(8, usize::MAX / 4).is_none());
}

#[test]
fn bytes_are_copied_whole_or_not_at_all() {
    let region = region(4096);
    assert_eq!(region.write(4094, b"ab"), Some(()));
    assert_eq!(region.write(4095, b"ab"), None);
    let mut two = [0; 2];
    assert_eq!((region.read(4094, &mut two), two), (Some(()), *b"ab"));
    assert_eq!(region.read(usize::MAX, &mut two), None);
    let mut out = b"x".to_vec();
    out.reserve(2);
    assert_eq!((region.append(4094, 2, &mut out), &out[..]), (Some(()), &b"xab"[..]));
    assert_eq!(region.append(4095, 2, &mut out), None);
    let full = out.capacity() - out.len() + 1;
    assert_eq!(region.append(0, full, &mut out), None, "no room");
}

#[test]
fn two_maps_of_one_file_show_the_same() {
    let file = sparse_memory(1 << 36).unwrap();
    let [one, other] = [(), ()].map(|()| Region::new(Map::new(file.as_fd()).unwrap()));
    let at = (1 << 36) - 8;
    one.view::<AtomicU64>(at).unwrap().store(77, Ordering::Relaxed);
    assert_eq!(other.view::<AtomicU64>(at).unwrap().load(Ordering::Relaxed), 77);
    assert!(memory_taken(file.as_fd()).unwrap() <= 8192, "of 64 GiB");
}
