//! Segments are used again before others are, never beyond the budget, and give their memory back.

use super::super::layout::Layout;
use super::*;
use crate::mailbox::chain::free_all;
use crate::mailbox::segment::take_free;
use crate::sys::memory::{Map, memory_taken, sparse_memory};
use std::os::fd::{AsFd, OwnedFd};

fn own() -> ProcessId {
    ProcessId::new(1, 1).unwrap()
}

/// The segments of an arena of `length` bytes, of which `budget` may be used.
fn table(length: usize, budget: u32) -> (SegmentTable, OwnedFd) {
    let file = sparse_memory(length as u64).unwrap();
    let region = Region::new(Map::new(file.as_fd()).unwrap());
    let table = *Layout::of(length).unwrap().annexes(&region).unwrap().segments();
    table.header.budget.store(budget, Ordering::Relaxed);
    (table, file)
}

impl SegmentTable {
    /// A free one becomes that queue's.
    fn take(&self, queue: u32) -> Option<Segment> {
        Some(take_free(self, None, Owner::Queue(queue), |_| ())?.segment)
    }

    fn free(&self, segment: Segment) {
        self.free_silently(segment);
        self.note_free(segment);
    }

    fn free_silently(&self, segment: Segment) {
        let state = look(self, segment).unwrap();
        assert!(change(self, Owned { segment, state }, Owned { segment, state: state.freed() }));
    }
}

fn numbers(segments: &[Segment]) -> Vec<u32> {
    segments.iter().map(|segment| segment.number()).collect()
}

#[test]
fn a_lower_budget_takes_nothing_away_and_a_higher_one_is_there_at_once() {
    let (table, _file) = table(64 << 20, 200);
    let taken: Vec<_> = std::iter::from_fn(|| table.take(5)).collect();
    table.set_limit(10 * SIZE as u64 + 5);
    assert_eq!((table.limit(), table.in_use()), (10 * SIZE as u64, 200 * SIZE as u64));
    table.free(taken[150]);
    assert_eq!(table.take(5), None);
    table.free(taken[9]);
    assert_eq!(table.take(5), Some(taken[9]));
    table.set_limit(151 * SIZE as u64);
    assert_eq!(table.take(5), Some(taken[150]));
    for (bytes, segments) in [(0, 1), (1, 1), (u64::MAX, table.entries.len() as u64)] {
        table.set_limit(bytes);
        assert_eq!(table.limit(), segments * SIZE as u64);
    }
}

#[test]
fn segments_are_taken_up_to_the_budget_and_holes_are_found() {
    let (table, _file) = table(64 << 20, 200);
    let taken: Vec<_> = std::iter::from_fn(|| table.take(5)).collect();
    assert_eq!(numbers(&taken), (1..=200).collect::<Vec<_>>());
    assert_eq!((table.in_use(), table.limit()), (200 * SIZE as u64, 200 * SIZE as u64));
    for hole in [150, 7, 199, 0] {
        table.free(taken[hole]);
        assert_eq!(table.take(5), Some(taken[hole]));
    }
    // As if whoever freed it had been killed before it could say so.
    table.free_silently(taken[3]);
    assert_eq!(table.take(5), Some(taken[3]));
    assert_eq!(table.take(5), None);
}

#[test]
fn free_segments_are_used_before_new_ones() {
    let (table, _file) = table(64 << 20, 200);
    for _ in 0..1000 {
        let two = [table.take(1).unwrap(), table.take(2).unwrap()];
        assert_eq!(numbers(&two), [1, 2]);
        two.into_iter().for_each(|segment| table.free(segment));
    }
    assert_eq!(table.used(), 2);
}

#[test]
fn what_a_queue_has_is_freed_and_nothing_else() {
    let (table, _file) = table(64 << 20, 200);
    let owners = [1, 2, 1, 2, 2].map(|queue| (queue, table.take(queue).unwrap()));
    free_all(&table, Owner::Queue(2));
    for (queue, segment) in owners {
        assert_eq!(look(&table, segment).unwrap().is_free(), queue == 2);
    }
    assert_eq!(table.in_use(), 2 * SIZE as u64);
}

#[test]
fn memory_is_taken_before_it_is_used_and_little_by_little() {
    let (table, file) = table(64 << 20, 200);
    let segment = table.take(1).unwrap();
    let before = memory_taken(file.as_fd()).unwrap();
    table.back(segment, 1).unwrap();
    assert_eq!(memory_taken(file.as_fd()).unwrap(), before + u64::from(PAGE));
    for end in (1..=ROOM).step_by(999) {
        table.back(segment, end).unwrap();
    }
    table.back(segment, ROOM).unwrap();
    assert_eq!(memory_taken(file.as_fd()).unwrap(), before + SIZE as u64);
    assert_eq!(table.back(segment, ROOM + 1), Err(NoSpace));
    assert_eq!(table.back(Segment::new(10_000).unwrap(), 1), Err(NoSpace));
}

/// Frees many of those that were taken, and says how many have memory then.
fn warm_after(trim: impl Fn(&SegmentTable)) -> u64 {
    let (table, file) = table(2 << 30, 6000);
    let taken: Vec<_> = (0..4000).map(|_| table.take(1).unwrap()).collect();
    // A page of each.
    taken.iter().for_each(|segment| table.back(*segment, 1).unwrap());
    let before = memory_taken(file.as_fd()).unwrap() / u64::from(PAGE) - 4000;
    for segment in &taken[..3990] {
        table.free(*segment);
        trim(&table);
    }
    let left = memory_taken(file.as_fd()).unwrap() / u64::from(PAGE) - before;
    // What was given back is as good as new.
    let again: Vec<_> = (0..3990).map(|_| table.take(2).unwrap()).collect();
    again.iter().for_each(|segment| table.back(*segment, ROOM).unwrap());
    assert_eq!(table.used(), 4000);
    left
}

#[test]
fn the_memory_of_free_segments_is_given_back() {
    let left = warm_after(|table| table.trim(own()));
    assert!((1024..=2058).contains(&left), "{left} of 4000 have memory");
    let left = warm_after(|table| table.trim_while(own(), || true));
    assert!((128..=202).contains(&left), "{left} of 4000 have memory");
    let left = warm_after(|table| table.trim_while(own(), || false));
    assert!((128..=400).contains(&left), "one at a time: {left} of 4000 have memory");
}
