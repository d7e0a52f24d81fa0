//! The ring, used by one after the other: a queue like any other, whatever its memory looks like.

use super::chain::Chain;
use super::memory::{Alone, Memory};
use super::record::longest_inline;
use super::ring::{Actor, GetError, PutError, Ring};
use super::segment::{Cursor, Segment, Segments, State};
use crate::atomic::Ordering;
use crate::liveness::ProcessId;
use proptest::prelude::*;
use std::collections::VecDeque;

const QUEUE: u32 = 9;

fn actor(memory: &Memory) -> Actor<'_, Memory, Alone> {
    let own = ProcessId::new(1, 1).unwrap();
    Actor { queue: QUEUE, own, segments: memory, park: &Alone, deadline: None }
}

fn got(ring: &Ring, memory: &Memory) -> Result<Vec<u8>, GetError> {
    let (mut start, mut rest) = ([0; 3], Vec::new());
    let length = ring.get(&actor(memory), &mut start, &mut rest)?.length;
    let start = start.get(..length).unwrap_or(&start);
    Ok([start, &rest].concat())
}

fn halves(payload: &[u8]) -> [&[u8]; 2] {
    let (one, other) = payload.split_at(payload.len() / 2);
    [one, other]
}

/// Puts a message, as what it is by its length.
fn put(ring: &Ring, memory: &Memory, most: u32, payload: &[u8]) -> Result<(), PutError> {
    let (actor, parts) = (actor(memory), halves(payload));
    if payload.len() <= longest_inline(memory) {
        return ring.put(&actor, most, 0, &parts);
    }
    let chain = Chain::write(memory, actor.own, 0, &parts)?;
    ring.put_large(&actor, most, &chain).inspect_err(|_| chain.free(memory, actor.own))
}

proptest! {
    /// Against `VecDeque`: bounded and not, segments so small that almost every message needs the next one.
    #[test]
    fn the_ring_is_a_queue(
        room in 4_u32..20,
        most in 1_u32..30,
        steps in prop::collection::vec(prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100).prop_map(Some),
            Just(None),
        ], 0..200),
    ) {
        let memory: Memory = Memory::new(12, room * 8);
        let (ring, mut model) = (Ring::new(), VecDeque::new());
        for step in steps {
            match step {
                Some(payload) => match put(&ring, &memory, most, &payload) {
                    Ok(()) => model.push_back(payload),
                    Err(PutError::Full) => prop_assert_eq!(model.len(), most as usize),
                    Err(PutError::NoSpace) => {
                        let need = payload.len().div_ceil(room as usize * 8).max(1);
                        prop_assert!(12 - memory.in_use() <= need, "{} in use", memory.in_use());
                    }
                    Err(other) => prop_assert!(false, "{:?}", other),
                },
                None => prop_assert_eq!(got(&ring, &memory).ok(), model.pop_front()),
            }
            prop_assert_eq!(ring.len() as usize, model.len());
        }
        for left in model {
            prop_assert_eq!(got(&ring, &memory), Ok(left));
        }
        prop_assert_eq!(got(&ring, &memory), Err(GetError::Empty));
        prop_assert!(memory.in_use() <= 1, "a queue without messages keeps one segment");
    }

    /// Whatever a wild store leaves in the words: an error or some bytes, no panic, no loop.
    #[test]
    fn nonsense_is_an_error(
        words in prop::collection::vec((0_usize..6, any::<u64>(), any::<u32>()), 1..6),
        bytes in prop::collection::vec(any::<u8>(), 64),
    ) {
        let memory: Memory = Memory::new(8, 64);
        let ring = Ring::new();
        let (positions, journals) = ring.words_for_tests();
        put(&ring, &memory, u32::MAX, &[5; 150]).unwrap();
        for _ in 0..6 {
            ring.put(&actor(&memory), u32::MAX, 0, &[b"0123456789"]).unwrap();
        }
        for (which, word, number) in words {
            let segment = Segment::new(number % 8 + 1).unwrap();
            match which {
                0 => memory.state(segment).unwrap().store(word, Ordering::Relaxed),
                1 => memory.link(segment).unwrap().store(number % 10, Ordering::Relaxed),
                2 => memory.write(segment, 0, &bytes),
                3 => journals[(number % 4) as usize].store(word, Ordering::Relaxed),
                4 => positions[(number % 4) as usize].store(word, Ordering::Relaxed),
                _ => {
                    let cursor = Cursor { segment: Some(segment), offset: number % 9 * 8, count: number % 8 };
                    positions[(word % 4) as usize].store(cursor.word(), Ordering::Relaxed);
                }
            }
            let _ = got(&ring, &memory);
            let _ = ring.put(&actor(&memory), u32::MAX, 2, &[b"abc"]);
            let _ = ring.give_up(&actor(&memory));
            let _ = put(&ring, &memory, u32::MAX, &[7; 100]);
        }
    }
}

#[test]
fn the_positions_go_round() {
    let memory: Memory = Memory::new(4, 64);
    let ring = Ring::new();
    ring.put(&actor(&memory), 10, 0, &[b"first"]).unwrap();
    assert_eq!(got(&ring, &memory).unwrap(), b"first");
    // As if 2^24 - 2 messages had passed.
    for word in ring.words_for_tests().0 {
        let cursor = Cursor { count: (1 << 24) - 2, ..Cursor::from_word(word.load(Ordering::Relaxed)) };
        word.store(cursor.word(), Ordering::Relaxed);
    }
    for number in 0..5_u8 {
        ring.put(&actor(&memory), 5, 0, &[&[number]]).unwrap();
        assert_eq!(ring.len(), u32::from(number) + 1);
    }
    assert_eq!(ring.put(&actor(&memory), 5, 0, &[b"more"]), Err(PutError::Full));
    for number in 0..5_u8 {
        assert_eq!(got(&ring, &memory).unwrap(), [number]);
    }
    assert_eq!(ring.len(), 0);
}

#[test]
fn segments_are_used_again_and_their_versions_tell() {
    let memory: Memory = Memory::new(3, 32);
    let ring = Ring::new();
    for round in 0..1000_u32 {
        ring.put(&actor(&memory), 10, 0, &[&round.to_ne_bytes()]).unwrap();
        ring.put(&actor(&memory), 10, 0, &[&[7; 20]]).unwrap();
        assert_eq!(got(&ring, &memory).unwrap(), round.to_ne_bytes());
        assert_eq!(got(&ring, &memory).unwrap(), [7; 20]);
    }
    let version = |number| {
        let word = memory.state(Segment::new(number).unwrap()).unwrap().load(Ordering::Relaxed);
        State::from_word(word).unwrap().version
    };
    assert!(version(1) + version(2) + version(3) >= 1000, "each round has left a segment");
}

#[test]
fn a_message_that_is_too_long_for_a_record_is_not_put_as_one() {
    let memory: Memory = Memory::new(3, 64);
    let ring = Ring::new();
    assert_eq!(ring.put(&actor(&memory), 10, 0, &[&[7; 57]]), Err(PutError::TooLong));
    assert_eq!((ring.len(), memory.in_use()), (0, 0));
}
