//! Items in: encoding a caller's items into chunks and handing them to the pool.

use super::dispatch::{Patience, Shared};
use super::job::{Bundle, Chunk, Job, Payload, Place};
use super::verbs::CallOptions;
use crate::Result;
use procession_ipc::codec;
use procession_ipc::start::TaskId;
use procession_ipc::start::target::TaskArg;
use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::Arc;

/// A chunk whose size we choose ends when its bytes reach this: large enough to be cheap, small enough that encoding, the
/// workers and decoding overlap, and that its memory is used again.
const CHUNK_BYTES: usize = 128 * 1024;

/// Chunks are handed over in batches of at most this many, or this many bytes.
const BATCH_TASKS: usize = 512;
const BATCH_BYTES: usize = 256 * 1024;

/// Chunks for each worker when the number of items is known: Python's rule (`Pool._map_async`).
const CHUNKS_PER_WORKER: usize = 4;

/// How many items go into a chunk.
#[derive(Debug, Clone, Copy)]
enum Size {
    /// So many, as the caller said.
    Fixed(u32),
    /// So many, or [`CHUNK_BYTES`]: the number of items was known.
    Share(u32),
    /// Unknown input: doubles each time that all workers had their chunks, up to [`CHUNK_BYTES`].
    Growing { now: u32, left: usize, round: usize },
}

impl Size {
    fn choose(fixed: Option<NonZero<u32>>, hint: (usize, Option<usize>), workers: usize) -> Self {
        let round = CHUNKS_PER_WORKER * workers;
        match (fixed, hint) {
            (Some(items), _) => Self::Fixed(items.get()),
            (None, (low, Some(high))) if low == high => {
                Self::Share(u32::try_from(high.div_ceil(round).max(1)).unwrap_or(u32::MAX))
            }
            _ => Self::Growing { now: 1, left: round, round },
        }
    }

    fn is_full(self, items: u32, bytes: usize) -> bool {
        match self {
            Self::Fixed(limit) => items >= limit,
            Self::Share(limit) | Self::Growing { now: limit, .. } => items >= limit || bytes >= CHUNK_BYTES,
        }
    }

    fn chunk_ended(&mut self) {
        if let Self::Growing { now, left, round } = self {
            *left -= 1;
            if *left == 0 {
                (*now, *left) = (now.saturating_mul(2), *round);
            }
        }
    }
}

/// Turns items into tasks.
#[derive(Debug)]
pub(super) struct Chunker {
    job: Arc<Job>,
    task: TaskId,
    retries: u32,
    size: Size,
    /// The chunk that is being filled: room for the number of items, then the items.
    payload: Vec<u8>,
    items: u32,
    /// Place of the next chunk.
    ordinal: u64,
    first: u64,
    batch: VecDeque<Chunk>,
    batch_bytes: usize,
}

impl Chunker {
    pub(super) fn new(
        job: Arc<Job>,
        task: TaskId,
        options: CallOptions,
        hint: (usize, Option<usize>),
        workers: usize,
    ) -> Self {
        Self {
            job,
            task,
            retries: options.retries,
            size: Size::choose(options.chunksize, hint, workers),
            payload: vec![0; 8],
            items: 0,
            ordinal: 0,
            first: 0,
            batch: VecDeque::new(),
            batch_bytes: 0,
        }
    }

    /// Adds an item to the chunk; `true` when a batch is ready to be handed over.
    ///
    /// An item that cannot be encoded is an error and leaves no trace.
    pub(super) fn push<T: TaskArg<M>, M>(&mut self, item: &T) -> Result<bool> {
        let start = self.payload.len();
        codec::encode_into(item, &mut self.payload)?;
        if self.items == 0
            && let Err(error) = codec::check_encoded::<T, T::Owned>(&self.payload[start..])
        {
            self.payload.truncate(start);
            return Err(error.into());
        }
        self.items += 1;
        if self.size.is_full(self.items, self.payload.len()) {
            self.cut();
        }
        Ok(self.batch.len() >= BATCH_TASKS || self.batch_bytes >= BATCH_BYTES)
    }

    /// Ends the chunk that is being filled.
    pub(super) fn cut(&mut self) {
        if self.items == 0 {
            return;
        }
        self.payload[..8].copy_from_slice(&u64::from(self.items).to_le_bytes());
        let place = self.next_place(self.items);
        let payload = Payload::new(&self.payload);
        self.batch_bytes += self.payload.len();
        self.batch.push_back(Chunk { place, payload, retries: self.retries, may_hold: false });
        self.payload.truncate(8);
        self.items = 0;
        self.size.chunk_ended();
    }

    /// Takes the place of one item that has its outcome already.
    pub(super) fn skip(&mut self) -> Place {
        self.cut();
        self.next_place(1)
    }

    fn next_place(&mut self, items: u32) -> Place {
        let place = Place { ordinal: self.ordinal, first: self.first, items };
        self.ordinal += 1;
        self.first += u64::from(items);
        place
    }

    /// Hands the batch over; waits while the pool's queue is full.
    pub(super) fn flush(&mut self, shared: &Shared) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.batch_bytes = 0;
        let chunks = std::mem::replace(&mut self.batch, VecDeque::with_capacity(BATCH_TASKS));
        shared.submit(Bundle { job: Arc::clone(&self.job), task: self.task, chunks }, Patience::Wait)
    }

    /// How many chunks were made, those not handed over yet included.
    pub(super) fn chunks(&self) -> u64 {
        self.ordinal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use procession_ipc::start::target::ByValue;

    fn sizes(fixed: u32, hint: (usize, Option<usize>), count: u64) -> Vec<u32> {
        let options = CallOptions { chunksize: NonZero::new(fixed), retries: 0 };
        let mut chunker = Chunker::new(Job::new("f"), TaskId(0), options, hint, 2);
        for item in 0..count {
            chunker.push::<u64, ByValue>(&item).unwrap();
        }
        chunker.cut();
        assert_eq!(chunker.first, count);
        chunker.batch.iter().map(|chunk| chunk.place.items).collect()
    }

    #[test]
    fn chunk_sizes_follow_the_rule() {
        let known = |count: u64| (count as usize, Some(count as usize));
        assert_eq!(sizes(3, known(7), 7), [3, 3, 1]);
        assert_eq!(sizes(0, known(0), 0), []);
        assert_eq!(sizes(0, known(1), 1), [1]);
        // Python: ceil(17 / (4 * 2)) = 3.
        assert_eq!(sizes(0, known(17), 17), [3, 3, 3, 3, 3, 2]);
        assert_eq!(sizes(0, (0, None), 20), [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
    }

    #[test]
    fn large_items_end_a_chunk_whose_size_we_choose() {
        let mut chunker = Chunker::new(Job::new("f"), TaskId(0), CallOptions::default(), (100, Some(100)), 1);
        let item = vec![0_u8; CHUNK_BYTES];
        for _ in 0..3 {
            chunker.push::<Vec<u8>, ByValue>(&item).unwrap();
        }
        assert_eq!(chunker.chunks(), 3);
    }

    #[test]
    fn places_are_consecutive_also_around_a_skipped_item() {
        let options = CallOptions { chunksize: NonZero::new(2), retries: 0 };
        let mut chunker = Chunker::new(Job::new("f"), TaskId(0), options, (0, None), 1);
        chunker.push::<u8, ByValue>(&1).unwrap();
        let skipped = chunker.skip();
        chunker.push::<u8, ByValue>(&2).unwrap();
        chunker.cut();
        assert_eq!(skipped, Place { ordinal: 1, first: 1, items: 1 });
        assert_eq!(chunker.batch[1].place, Place { ordinal: 2, first: 2, items: 1 });
    }
}
