//! Items in: encoding a caller's items into chunks and handing them to the pool.

use super::dispatch::{Patience, Shared};
use super::frame::{begin_task, finish_task};
use super::job::{Bundle, Job, Place};
use super::verbs::{ARGUMENT, CallOptions};
use crate::Result;
use procession_ipc::codec;
use procession_ipc::start::target::TaskArg;
use procession_ipc::start::{Border, TaskId};
use procession_ipc::travel::{self, Kept};
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
    /// What lies between the caller and the workers.
    border: Border,
    size: Size,
    /// Place of the next chunk; its number of items is known when it is cut.
    next: Place,
    /// Items of the chunk that is being filled.
    items: u32,
    /// Task frames: a row of whole chunks, all of the same size, then the one that is being filled, from `open` on.
    frames: Vec<u8>,
    open: usize,
    /// The handles of shared objects in the row, and in the chunk that is being filled.
    kept: Kept,
    open_kept: Kept,
    /// The row: place of its first chunk, and how many there are.
    row: Option<(Place, usize)>,
    /// Rows that have ended, and how many bytes they have.
    batch: Vec<Bundle>,
    batch_bytes: usize,
}

impl Chunker {
    pub(super) fn new(
        job: Arc<Job>,
        task: TaskId,
        options: CallOptions,
        hint: (usize, Option<usize>),
        (workers, border): (usize, Border),
    ) -> Self {
        Self {
            job,
            task,
            retries: options.retries,
            border,
            size: Size::choose(options.chunksize, hint, workers),
            next: Place { ordinal: 0, first: 0, items: 0 },
            items: 0,
            frames: Vec::new(),
            open: 0,
            kept: Kept::default(),
            open_kept: Kept::default(),
            row: None,
            batch: Vec::new(),
            batch_bytes: 0,
        }
    }

    /// Adds an item to the chunk; `true` when a batch is ready to be handed over.
    ///
    /// An item that cannot be encoded is an error and leaves no trace.
    pub(super) fn push<T: TaskArg<M>, M>(&mut self, item: &T) -> Result<bool> {
        let before = self.frames.len();
        if let Err(error) = self.append::<T, M>(item) {
            self.frames.truncate(before);
            return Err(error);
        }
        self.items += 1;
        if !self.size.is_full(self.items, self.frames.len() - self.open) {
            return Ok(false);
        }
        self.cut();
        let tasks =
            self.batch.iter().map(Bundle::len).sum::<usize>() + self.row.map_or(0, |(_, chunks)| chunks);
        Ok(tasks >= BATCH_TASKS || self.batch_bytes + self.open >= BATCH_BYTES)
    }

    fn append<T: TaskArg<M>, M>(&mut self, item: &T) -> Result<()> {
        let (frames, is_first) = (&mut self.frames, self.items == 0);
        if is_first {
            begin_task(frames);
        }
        let mut encode = || {
            if is_first {
                codec::encode_checked::<T, T::Owned>(item, frames)
            } else {
                codec::encode_into(item, frames)
            }
        };
        if !travel::may_carry::<T::Owned>() {
            return Ok(encode()?);
        }
        travel::often_into(&mut self.open_kept, encode)?;
        let checked = self.border.check(ARGUMENT, !self.open_kept.is_empty());
        // Nothing is kept for a closed border, so it is this item's.
        checked.inspect_err(|_| self.open_kept = Kept::default())?;
        Ok(())
    }

    /// Ends the chunk that is being filled.
    pub(super) fn cut(&mut self) {
        if self.items == 0 {
            return;
        }
        finish_task(&mut self.frames, self.open, self.items);
        let place = self.next_place(self.items);
        match &mut self.row {
            Some((first, chunks)) if first.items == place.items => *chunks += 1,
            _ => {
                self.end_row();
                self.row = Some((place, 1));
            }
        }
        self.open = self.frames.len();
        self.kept.append(&mut self.open_kept);
        self.items = 0;
        self.size.chunk_ended();
    }

    /// Takes the place of one item that has its outcome already.
    pub(super) fn skip(&mut self) -> Place {
        self.cut();
        self.end_row();
        self.next_place(1)
    }

    /// Makes the row a bundle; what is behind it stays.
    fn end_row(&mut self) {
        let Some((first, chunks)) = self.row.take() else { return };
        let behind = self.frames.split_off(self.open);
        let frames = std::mem::replace(&mut self.frames, behind);
        // The next row is likely to be as long.
        self.frames.reserve(frames.len());
        self.open = 0;
        self.batch_bytes += frames.len();
        let job = (Arc::clone(&self.job), self.task);
        let kept = std::mem::take(&mut self.kept);
        self.batch.push(Bundle::new(job, self.retries, first, chunks, (frames, kept)));
    }

    fn next_place(&mut self, items: u32) -> Place {
        let place = Place { items, ..self.next };
        self.next = place.nth(1);
        place
    }

    /// Hands the batch over, all of it also where the pool refuses a part; waits while the pool's queue is full.
    pub(super) fn flush(&mut self, shared: &Shared) -> Result<()> {
        self.end_row();
        self.batch_bytes = 0;
        let submit = |bundle| shared.submit(bundle, Patience::Wait);
        self.batch.drain(..).map(submit).fold(Ok(()), Result::and)
    }

    /// How many chunks were made, those not handed over yet included.
    pub(super) fn chunks(&self) -> u64 {
        self.next.ordinal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use procession_ipc::start::target::ByValue;
    use procession_ipc::sync::SharedLock;
    use serde::{Deserialize, Serialize};

    const ALONE: (usize, Border) = (1, Border::Open);

    /// Places of the chunks that are ready.
    fn places(mut chunker: Chunker) -> Vec<Place> {
        chunker.end_row();
        chunker.batch.iter().flat_map(Bundle::places).collect()
    }

    fn sizes(fixed: u32, hint: (usize, Option<usize>), count: u64) -> Vec<u32> {
        let options = CallOptions { chunksize: NonZero::new(fixed), retries: 0 };
        let mut chunker = Chunker::new(Job::new("f"), TaskId(0), options, hint, (2, Border::Open));
        for item in 0..count {
            chunker.push::<u64, ByValue>(&item).unwrap();
        }
        chunker.cut();
        assert_eq!(chunker.next.first, count);
        places(chunker).iter().map(|place| place.items).collect()
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
        let mut chunker =
            Chunker::new(Job::new("f"), TaskId(0), CallOptions::default(), (100, Some(100)), ALONE);
        let item = vec![0_u8; CHUNK_BYTES];
        for _ in 0..3 {
            chunker.push::<Vec<u8>, ByValue>(&item).unwrap();
        }
        assert_eq!(chunker.chunks(), 3);
    }

    #[test]
    fn batch_is_full_at_its_number_of_tasks_whatever_rows_they_are_in() {
        let options = CallOptions { chunksize: NonZero::new(1), retries: 0 };
        let mut chunker = Chunker::new(Job::new("f"), TaskId(0), options, (0, None), ALONE);
        for item in 1..BATCH_TASKS as u64 {
            assert!(!chunker.push::<u64, ByValue>(&item).unwrap(), "{item} tasks");
            if item % 100 == 0 {
                chunker.skip();
            }
        }
        assert!(chunker.push::<u64, ByValue>(&0).unwrap());
    }

    #[test]
    fn item_that_cannot_be_read_back_leaves_no_trace() {
        #[derive(Serialize, Deserialize)]
        struct Lossy {
            lock: SharedLock,
            #[serde(skip_serializing)]
            text: String,
        }
        let mut chunker = Chunker::new(Job::new("f"), TaskId(0), CallOptions::default(), (0, None), ALONE);
        let item = Lossy { lock: SharedLock::new().unwrap(), text: String::new() };
        assert!(chunker.push::<Lossy, ByValue>(&item).is_err());
        assert!(chunker.open_kept.is_empty() && chunker.frames.is_empty() && chunker.items == 0);
        chunker.push::<SharedLock, ByValue>(&item.lock).unwrap();
        assert!(!chunker.kept.is_empty() && places(chunker).len() == 1);
        drop(item.text);
    }

    #[test]
    fn places_are_consecutive_also_around_a_skipped_item() {
        let options = CallOptions { chunksize: NonZero::new(2), retries: 0 };
        let mut chunker = Chunker::new(Job::new("f"), TaskId(0), options, (0, None), ALONE);
        chunker.push::<u8, ByValue>(&1).unwrap();
        let skipped = chunker.skip();
        chunker.push::<u8, ByValue>(&2).unwrap();
        chunker.cut();
        assert_eq!(skipped, Place { ordinal: 1, first: 1, items: 1 });
        let around = [Place { ordinal: 0, first: 0, items: 1 }, Place { ordinal: 2, first: 2, items: 1 }];
        assert_eq!(places(chunker), around);
    }
}
