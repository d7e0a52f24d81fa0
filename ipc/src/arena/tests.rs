//! Objects come and go, also when their maker is killed in between, and only in their family.

use super::cell::{Cell, Cells, Header, Kind, Place};
use super::*;
use crate::codec;
use crate::sync::{Found, SharedLock};
use crate::sys::memory::sparse_memory;
use std::cell::RefCell;

fn id(slot: u32) -> ProcessId {
    ProcessId::new(slot, 3).unwrap()
}

/// Cells of their own, with room for eight.
fn cells() -> (Cells, Region) {
    let region = Region::new(Map::new(sparse_memory(4 << 20).unwrap().as_fd()).unwrap());
    let annexes = Layout::of(region.length()).unwrap().annexes(&region).unwrap();
    let cells = region.views::<Cell>(1024, 8).unwrap();
    (Cells::new(region.view::<Header>(0).unwrap(), cells, annexes), region)
}

fn swept(cells: &Cells, gone: ProcessId) -> Vec<u32> {
    let seen = RefCell::new(Vec::new());
    cells.sweep(gone, id(9), |index, kind| {
        assert_eq!(kind, Kind::Lock);
        seen.borrow_mut().push(index);
    });
    seen.into_inner()
}

#[test]
fn an_object_ends_with_its_maker_unless_it_was_shared() {
    let (cells, _region) = cells();
    let [one, two, three] = [1, 2, 2].map(|slot| cells.make(Kind::Lock, id(slot)).unwrap());
    assert_eq!([one, two, three].map(|place| place.index), [0, 1, 2]);
    assert!(cells.share(two, Kind::Lock));
    assert_eq!(swept(&cells, id(2)), [0, 1, 2], "all objects, since the dead may have held any");
    assert_eq!([one, two, three].map(|place| cells.has(place, Kind::Lock)), [true, true, false]);
    cells.abandon(two, Kind::Lock, id(2));
    cells.abandon(one, Kind::Lock, id(2));
    assert!(cells.has(one, Kind::Lock) && cells.has(two, Kind::Lock), "shared, and another one's");
    cells.abandon(one, Kind::Lock, id(1));
    assert!(!cells.has(one, Kind::Lock));
    assert!(!cells.share(one, Kind::Lock), "a handle of what is gone");
}

#[test]
fn cells_are_used_again_with_another_generation_and_an_empty_body() {
    let (cells, region) = cells();
    let body = region.view::<AtomicU32>(1024 + Cell::BODY).unwrap();
    for generation in 0..100 {
        let place = cells.make(Kind::Lock, id(1)).unwrap();
        assert_eq!((place, body.load(Ordering::Relaxed)), (Place { index: 0, generation }, 0));
        body.store(77, Ordering::Relaxed);
        cells.abandon(place, Kind::Lock, id(1));
        cells.abandon(place, Kind::Lock, id(1));
        assert!(!cells.has(place, Kind::Lock));
    }
}

#[test]
fn all_cells_can_be_taken_and_holes_are_found() {
    let (cells, _region) = cells();
    let mut places: Vec<_> = std::iter::from_fn(|| cells.make(Kind::Lock, id(1))).collect();
    assert_eq!(places.len(), 8);
    for hole in [5, 2, 7, 0] {
        cells.abandon(places[hole], Kind::Lock, id(1));
        places[hole] = cells.make(Kind::Lock, id(1)).unwrap();
        assert_eq!(places[hole].index as usize, hole);
    }
    assert_eq!(cells.make(Kind::Lock, id(1)), None);
}

#[test]
fn a_lock_travels_and_a_handle_of_what_is_gone_is_an_error() {
    let lock = SharedLock::new().unwrap();
    let place = format!("{lock:?}");
    drop(lock);
    let lock = SharedLock::new().unwrap();
    assert_ne!(format!("{lock:?}"), place, "the same cell, another generation");
    let bytes = codec::encode(&lock).unwrap();
    let (found, holder) = lock.acquire(None).unwrap().unwrap();
    assert_eq!(found, Found::Free);
    drop(lock);
    let lock: SharedLock = codec::decode(&bytes).unwrap();
    assert!(lock.is_locked() && lock.try_acquire().unwrap().is_none());
    lock.release_by(holder);
    assert!(matches!(lock.release(), Err(Error::NotHeld)));

    let (family, index, generation): (u64, u32, u32) = codec::decode(&bytes).unwrap();
    let table = [
        ("another family", (family ^ 1, index, generation), "belongs to another family"),
        ("an old object", (family, index, generation.wrapping_sub(1)), "is gone"),
        ("no cell", (family, u32::MAX, generation), "is gone"),
        ("an empty cell", (family, 100_000, 0), "is gone"),
    ];
    for (name, handle, expected) in table {
        let error = codec::decode::<SharedLock>(&codec::encode(&handle).unwrap()).unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
}

#[test]
fn arenas_of_all_lengths_have_their_parts_inside() {
    for length in [4 << 20, 64 << 20, 3 << 30, 64 << 30] {
        let region = Region::new(Map::new(sparse_memory(length).unwrap().as_fd()).unwrap());
        let layout = Layout::of(region.length()).unwrap();
        assert!(layout.table(&region).is_some() && layout.cells(&region).is_some(), "{length}");
        assert!(layout.annexes(&region).unwrap().ring(0).is_some(), "{length}");
        assert_eq!(layout.header(&region).unwrap().family(), None, "no magic number");
        let last = (0..).take_while(|index| layout.body_of(*index).is_some()).last().unwrap();
        assert!(region.view::<Words>(layout.body_of(last).unwrap()).is_some());
    }
    for length in [0, 4096, (4 << 20) - 1, (4 << 20) + 4096] {
        assert!(Layout::of(length).is_none(), "{length}");
    }
}
