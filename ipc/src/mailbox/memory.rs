//! An arena for tests: segments on the heap of one process, and deaths at any point.

use super::segment::{NoSpace, Segment, Segments, State};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::{Park, Parked};
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::time::Instant;

/// The segments 1 to the number asked for.
#[derive(Debug)]
pub(super) struct Memory<const JOURNALS: bool = true> {
    room: u32,
    segments: Vec<(AtomicU64, AtomicU32, Mutex<Vec<u8>>)>,
    /// How many points are left until the process is killed; 0: it is not.
    pub(super) fuse: AtomicU32,
}

/// What a killed process unwinds with.
pub(super) struct Killed;

impl<const JOURNALS: bool> Memory<JOURNALS> {
    pub(super) fn new(segments: u32, room: u32) -> Self {
        let segment = || (AtomicU64::new(0), AtomicU32::new(0), Mutex::new(vec![0xAA; room as usize]));
        Self { room, segments: (0..segments).map(|_| segment()).collect(), fuse: AtomicU32::new(0) }
    }

    fn get(&self, segment: Segment) -> Option<&(AtomicU64, AtomicU32, Mutex<Vec<u8>>)> {
        self.segments.get(segment.number() as usize - 1)
    }

    /// How many belong to a queue.
    pub(super) fn in_use(&self) -> usize {
        let states = self.segments.iter().map(|(state, ..)| State::from_word(state.load(Ordering::Relaxed)));
        states.filter(|state| !state.unwrap().is_free()).count()
    }
}

impl<const JOURNALS: bool> Segments for Memory<JOURNALS> {
    const KEEPS_JOURNALS: bool = JOURNALS;

    fn room(&self) -> u32 {
        self.room
    }

    fn used(&self) -> u32 {
        self.segments.len() as u32
    }

    fn state(&self, segment: Segment) -> Option<&AtomicU64> {
        self.get(segment).map(|(state, ..)| state)
    }

    fn link(&self, segment: Segment) -> Option<&AtomicU32> {
        self.get(segment).map(|(_, link, _)| link)
    }

    fn find_free(&self) -> Option<Segment> {
        let is_free = |(state, ..): &(AtomicU64, _, _)| {
            State::from_word(state.load(Ordering::Relaxed)).is_some_and(State::is_free)
        };
        let index = self.segments.iter().position(is_free)?;
        Segment::new(u32::try_from(index).ok()? + 1)
    }

    fn back(&self, _segment: Segment, end: u32) -> Result<(), NoSpace> {
        assert!(end <= self.room);
        Ok(())
    }

    fn write(&self, segment: Segment, at: u32, bytes: &[u8]) {
        let mut memory = self.get(segment).unwrap().2.lock().unwrap();
        // Half of it first: whoever is killed in the middle leaves half.
        let (half, rest) = bytes.split_at(bytes.len() / 2);
        memory[at as usize..][..half.len()].copy_from_slice(half);
        drop(memory);
        self.may_die();
        let mut memory = self.get(segment).unwrap().2.lock().unwrap();
        memory[at as usize + half.len()..][..rest.len()].copy_from_slice(rest);
    }

    fn read(&self, segment: Segment, at: u32, into: &mut [u8]) -> Option<()> {
        let memory = self.get(segment)?.2.lock().unwrap();
        into.copy_from_slice(memory.get(at as usize..)?.get(..into.len())?);
        Some(())
    }

    fn append(&self, segment: Segment, at: u32, length: u32, out: &mut Vec<u8>) -> Option<()> {
        let memory = self.get(segment)?.2.lock().unwrap();
        out.extend_from_slice(memory.get(at as usize..)?.get(..length as usize)?);
        Some(())
    }

    fn may_die(&self) {
        let before = self.fuse.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if before == Ok(1) {
            resume_unwind(Box::new(Killed));
        }
    }
}

/// Nobody sleeps where one acts after the other.
#[derive(Debug)]
pub(super) struct Alone;

impl Park for Alone {
    fn park(&self, _word: &AtomicU32, _expected: u32, _deadline: Option<Instant>) -> Parked {
        panic!("a lock is held by nobody who lives");
    }

    fn wake(&self, _word: &AtomicU32, _count: u32) {}
}
