//! Objects come and go, and only in their family.

use super::cell::{Cell, HOLDER_WORDS, Kind, Mark, Place};
use super::deaths::cells;
use super::*;
use crate::sync::{Found, SharedLock};
use crate::sys::memory::sparse_memory;
use crate::travel::{Kept, often, once};
use crate::{codec, travel};
use std::convert::Infallible;

fn id(slot: u32, generation: u32) -> ProcessId {
    ProcessId::new(slot, generation).unwrap()
}

fn drop_last(cells: &Cells, place: Place, own: ProcessId) {
    cells.leave(place.index, own).into_iter().for_each(|ended| cells.free(ended));
}

fn has(cells: &Cells, place: Place) -> bool {
    cells.cell(place.index).unwrap().has(Mark::new(place.generation, place.kind))
}

#[test]
fn cells_are_used_again_with_another_generation_and_an_empty_body() {
    let (cells, region) = cells();
    let body = region.view::<AtomicU32>(1024 + Cell::BODY).unwrap();
    let own = id(1, 3);
    for generation in 0..100 {
        let place = cells.make(Kind::Lock, own).unwrap();
        let expected = Place { index: 0, generation, kind: Kind::Lock };
        assert_eq!((place, body.load(Ordering::Relaxed)), (expected, 0));
        body.store(77, Ordering::Relaxed);
        drop_last(&cells, place, own);
        drop_last(&cells, place, own);
        assert!(!has(&cells, place));
    }
}

#[test]
fn all_cells_can_be_taken_and_holes_are_found() {
    let (cells, _region) = cells();
    let own = id(1, 3);
    let mut places: Vec<_> = std::iter::from_fn(|| cells.make(Kind::Lock, own)).collect();
    assert_eq!(places.len(), 8);
    for hole in [5, 2, 7, 0] {
        drop_last(&cells, places[hole], own);
        places[hole] = cells.make(Kind::Lock, own).unwrap();
        assert_eq!(places[hole].index as usize, hole);
    }
    assert_eq!(cells.make(Kind::Lock, own), None);
}

/// Whoever sweeps for a slot's last holder, and is late, leaves the handles of its next holder alone.
#[test]
fn a_late_sweep_takes_no_handle_of_the_next_holder_of_a_slot() {
    let (cells, _region) = cells();
    let (old, new, other) = (id(40, 1), id(40, 2), id(9, 1));
    let place = cells.make(Kind::Lock, new).unwrap();
    assert!(cells.share(place, new));
    assert!(cells.sweep(place.index, old, other, || false).is_none());
    assert!(has(&cells, place));
    assert!(cells.sweep(place.index, new, other, || true).is_some());
    assert!(!has(&cells, place));
}

#[test]
fn a_handle_that_nobody_counts_lives_with_the_family() {
    let (cells, _region) = cells();
    let (own, other) = (id(1, 1), id(2, 1));
    let place = cells.make(Kind::Lock, own).unwrap();
    assert!(cells.pin(place, own) && cells.outlive(place, own));
    cells.unpin(place);
    drop_last(&cells, place, own);
    assert!(has(&cells, place) && cells.adopt(place, other, false));
    drop_last(&cells, place, other);
    assert!(has(&cells, place));
}

/// What is in the bytes of a handle of the family.
type Parts = (u32, u64, u32, u32, u8, bool);

/// Whether the lock is there of which these are a handle. Asking so does not touch its handles.
fn is_there(handle: &[u8]) -> bool {
    let (_, _, index, generation, ..) = codec::decode_prefix::<Parts>(handle).unwrap().0;
    has(arena().unwrap().cells(), Place { index, generation, kind: Kind::Lock })
}

#[test]
fn a_lock_travels_and_ends_with_its_last_handle() {
    let lock = SharedLock::new().unwrap();
    let place = format!("{lock:?}");
    drop(lock);
    let lock = SharedLock::new().unwrap();
    assert_ne!(format!("{lock:?}"), place, "the same cell, another generation");
    let (bytes, pins) = once(|| codec::encode(&lock)).unwrap();
    pins.leave();
    let (found, holder) = lock.acquire(None).unwrap().unwrap();
    assert_eq!(found, Found::Free);
    drop(lock);
    let lock: SharedLock = codec::decode(&bytes).unwrap();
    assert!(lock.is_locked() && lock.try_acquire().unwrap().is_none());
    lock.release_by(holder);
    assert!(matches!(lock.release(), Err(Error::NotHeld)));
    // Its bytes again, while there is another handle.
    let again: SharedLock = codec::decode(&bytes).unwrap();
    drop(lock);
    assert!(again.try_acquire().unwrap().is_some());
    assert!(is_there(&bytes));
    drop(again);
    assert!(!is_there(&bytes));
    assert!(codec::decode::<SharedLock>(&bytes).unwrap_err().to_string().contains("is gone"));

    let (form, family, index, generation, kind, pinned): Parts = codec::decode(&bytes).unwrap();
    let table = [
        ("another family", (form, family ^ 1, index, generation, kind, pinned), "belongs to another family"),
        ("an old object", (form, family, index, generation.wrapping_sub(1), kind, pinned), "is gone"),
        ("no cell", (form, family, u32::MAX, generation, kind, pinned), "is gone"),
        ("an empty cell", (form, family, 50_000, 0, kind, pinned), "is gone"),
        ("no kind", (form, family, index, generation, 9, pinned), "malformed"),
    ];
    for (name, handle, expected) in table {
        let error = codec::decode::<SharedLock>(&codec::encode(&handle).unwrap()).unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
    }
}

#[test]
fn what_was_not_sent_keeps_nothing_alive() {
    let lock = SharedLock::new().unwrap();
    let (bytes, pins) = once(|| codec::encode(&(&lock, &lock))).unwrap();
    drop(lock);
    assert!(is_there(&bytes));
    drop(pins);
    assert!(!is_there(&bytes));

    let lock = SharedLock::new().unwrap();
    let mut bytes = Vec::new();
    let failed = once(|| {
        bytes = codec::encode(&lock).map_err(drop)?;
        Err::<Infallible, _>(())
    });
    assert!(failed.is_err() && is_there(&bytes));
    drop(lock);
    assert!(!is_there(&bytes));
}

#[test]
fn what_is_decoded_often_lives_as_long_as_it_is_kept() {
    let lock = SharedLock::new().unwrap();
    let (bytes, kept) = often(|| codec::encode(&lock)).unwrap();
    codec::check_round_trip::<_, SharedLock>(&lock).unwrap();
    drop(lock);
    for _ in 0..3 {
        codec::decode::<SharedLock>(&bytes).unwrap().try_acquire().unwrap();
    }
    let (sent, pins) = once(|| codec::encode(&kept)).unwrap();
    pins.leave();
    drop(kept);
    let kept: Kept = codec::decode(&sent).unwrap();
    assert!(codec::decode::<SharedLock>(&bytes).unwrap().is_locked());
    assert!(is_there(&bytes));
    drop(kept);
    assert!(!is_there(&bytes));
}

#[test]
fn bytes_of_which_nothing_is_known_keep_an_object_for_good() {
    let lock = SharedLock::new().unwrap();
    let bytes = codec::encode(&lock).unwrap();
    drop(lock);
    drop(codec::decode::<SharedLock>(&bytes).unwrap());
    assert!(is_there(&bytes));
    assert_eq!(travel::way(), travel::Way::Unknown);
}

#[test]
fn arenas_of_all_lengths_have_their_parts_inside() {
    for length in [8 << 20, 64 << 20, 3 << 30, 64 << 30] {
        let region = Region::new(Map::new(sparse_memory(length).unwrap().as_fd()).unwrap());
        let layout = Layout::of(region.length()).unwrap();
        assert!(layout.table(&region).is_some() && layout.cells(&region).is_some(), "{length}");
        assert_eq!(layout.header(&region).unwrap().family(), None, "no magic number");
        let last = (0..).take_while(|index| layout.body_of(*index).is_some()).last().unwrap();
        assert!(region.view::<Lock>(layout.body_of(last).unwrap()).is_some());
        assert_eq!(layout.length() / 1024 / size_of::<Cell>() * HOLDER_WORDS * 8, layout.length() / 64);
    }
    for length in [0, 4096, (8 << 20) - 1, (8 << 20) + 4096] {
        assert!(Layout::of(length).is_none(), "{length}");
    }
}

/// There, pids and start times are others: who lives would be taken for gone.
#[test]
fn a_process_in_other_namespaces_is_refused() {
    const PART: &str = "PROCESSION_TEST_NAMESPACE";
    if let Ok(expected) = std::env::var(PART) {
        adopt(&[], vec![std::io::stdin().as_fd().try_clone_to_owned().unwrap()]);
        let made = SharedLock::new();
        let refused = matches!(&made, Err(Error::NoSharedMemory { reason }) if reason.contains("namespace"));
        assert_eq!(refused, expected == "refused", "{made:?}");
        return;
    }
    let run = |wrapper: &[&str], expected: &str, program: &std::ffi::OsStr| {
        let mut command = std::process::Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(program);
        command.args(["--exact", "arena::tests::a_process_in_other_namespaces_is_refused"]);
        let (_, files) = offer().unwrap();
        let file = files.into_iter().next().unwrap();
        command.env(PART, expected).stdin(file).stdout(std::process::Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let own = std::env::current_exe().unwrap();
    assert!(run(&["env"], "welcome", own.as_os_str()));
    for kind in ["--pid", "--time"] {
        let wrapper = ["unshare", kind, "--fork", "--mount-proc"];
        if run(&wrapper, "", "true".as_ref()) {
            assert!(run(&wrapper, "refused", own.as_os_str()), "{kind}");
        } else {
            eprintln!("notice: unshare {kind} does not work here, this part of the test is skipped");
        }
    }
}

/// An encoding inside another one, and a panic in the middle of one, disturb nobody.
#[test]
fn encodings_go_on_after_those_inside_them() {
    let lock = SharedLock::new().unwrap();
    let (kept, pins) = once(|| {
        let first = codec::encode(&lock)?;
        let (_, kept) = often(|| codec::encode(&lock))?;
        let panicked = std::panic::catch_unwind(|| {
            once(|| -> Result<(), codec::CodecError> { std::panic::resume_unwind(Box::new(())) })
        });
        assert!(panicked.is_err() && travel::way() == travel::Way::Once);
        drop(first);
        Ok::<_, codec::CodecError>(kept)
    })
    .unwrap();
    assert_eq!(format!("{pins:?}").matches("Place").count(), 1);
    assert_eq!(format!("{kept:?}").matches("Place").count(), 1);
}
