//! Bytes of one thread that another may read while the first is busy, without a lock for either.
//!
//! The *owner* adds bytes behind those that it has shown, and never changes one that is shown, so a reader finds them as they
//! were added. Only [`clear`](Mirror::clear) takes bytes back; owner and readers agree by other means on when that is.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const WORD: usize = size_of::<u64>();

/// What is shown.
#[derive(Debug)]
pub(super) struct Mirror {
    words: Box<[AtomicU64]>,
    /// How many bytes are shown.
    length: AtomicUsize,
}

impl Mirror {
    /// Room for so many bytes.
    pub(super) fn new(capacity: usize) -> Self {
        let words = (0..capacity.div_ceil(WORD)).map(|_| AtomicU64::new(0)).collect();
        Self { words, length: AtomicUsize::new(0) }
    }

    /// The owner's: shows `bytes`, which begin with those that are shown already. What is beyond the room is not shown.
    pub(super) fn show(&self, bytes: &[u8]) {
        let shown = self.length.load(Ordering::Relaxed);
        let bytes = &bytes[..bytes.len().min(self.words.len() * WORD)];
        // A word of which a part is shown is stored again, with the same bytes in that part.
        let first = shown / WORD;
        let (words, rest) = bytes[first * WORD..].as_chunks::<WORD>();
        let (rooms, room) = self.words[first..].split_at(words.len());
        for (room, word) in rooms.iter().zip(words) {
            room.store(u64::from_le_bytes(*word), Ordering::Relaxed);
        }
        if let (Some(room), false) = (room.first(), rest.is_empty()) {
            let mut word = [0; WORD];
            word[..rest.len()].copy_from_slice(rest);
            room.store(u64::from_le_bytes(word), Ordering::Relaxed);
        }
        // Pairs with the load in `read`: who sees the length sees the bytes.
        self.length.store(bytes.len(), Ordering::Release);
    }

    /// The owner's: shows nothing any more.
    pub(super) fn clear(&self) {
        self.length.store(0, Ordering::Relaxed);
    }

    /// Anybody's: the bytes that are shown.
    pub(super) fn read(&self) -> Vec<u8> {
        let length = self.length.load(Ordering::Acquire);
        let words = self.words[..length.div_ceil(WORD)].iter();
        words.flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes()).take(length).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_piece_by_piece_is_read_whole() {
        let all: Vec<u8> = (1..=40).collect();
        for step in 1..=17 {
            let mirror = Mirror::new(40);
            for _ in 0..2 {
                assert_eq!(mirror.read(), []);
                for end in (0..all.len()).step_by(step).chain([all.len()]) {
                    mirror.show(&all[..end]);
                    assert_eq!(mirror.read(), all[..end], "{step}");
                }
                mirror.clear();
            }
        }
    }

    #[test]
    fn there_is_never_more_than_fits() {
        let mirror = Mirror::new(16);
        mirror.show(&[5; 10]);
        mirror.show(&[5; 30]);
        assert_eq!(mirror.read(), [5; 16]);
    }

    #[test]
    fn a_reader_beside_its_owner_sees_a_beginning_of_what_is_there() {
        let all: Vec<u8> = (0..4000_u32).map(|n| (n % 251) as u8).collect();
        let mirror = Mirror::new(all.len());
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = 0;
                while seen < all.len() {
                    let bytes = mirror.read();
                    assert!(bytes.len() >= seen && bytes == all[..bytes.len()]);
                    seen = bytes.len();
                }
            });
            (0..=all.len()).step_by(5).for_each(|end| mirror.show(&all[..end]));
            mirror.show(&all);
            reader.join().unwrap();
        });
    }
}
