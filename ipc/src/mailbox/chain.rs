//! Large messages: segments of their own, written and read while no lock is held.
//!
//! The state of the first segment says who has the message: the process that writes it, the queue, the process that reads it.
//! The states of the others name the first one, so the message changes hands by one store. They are linked in the order of
//! the bytes.
//!
//! The others are freed before the first one is. So whoever is killed in the middle, or in the middle of freeing, leaves
//! segments that say whose they are: a sweep looks through all of them, and frees what the process that is gone had.

use super::record::Record;
use super::ring::{GetError, Got, PutError};
use super::segment::{Moving, NoSpace, Owned, Owner, Segment, Segments, change, look, take_free};
use crate::atomic::Ordering;
use crate::liveness::ProcessId;

/// A large message: where it begins, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(super) first: Moving,
    pub(super) length: usize,
    /// How many bytes of it are its manifest.
    pub(super) manifest: usize,
}

impl Chain {
    /// Bytes of the record that stands for it in the queue.
    const SIZE: usize = 2 * size_of::<u64>();

    /// Writes a message into segments that become this process's. It begins with so many bytes of manifest.
    pub(crate) fn write(
        segments: &impl Segments,
        own: ProcessId,
        manifest: usize,
        parts: &[&[u8]],
    ) -> Result<Self, PutError> {
        let length = parts.iter().map(|part| part.len()).sum();
        let first = take_free(segments, None, Owner::Process(own), |_| ()).ok_or(PutError::NoSpace)?;
        segments.may_die();
        let written = Writer::begin(segments, first.segment)
            .and_then(|mut writer| parts.iter().try_for_each(|part| writer.write(part)));
        let chain = Self { first, length, manifest };
        match written {
            Ok(()) => Ok(chain),
            Err(NoSpace) => {
                chain.free(segments, own);
                Err(PutError::NoSpace)
            }
        }
    }

    /// The segments of this process become free.
    pub(crate) fn free(&self, segments: &impl Segments, own: ProcessId) {
        free(segments, self.first.owned_by(Owner::Process(own)));
    }

    /// As the payload of a record.
    pub(super) fn bytes(&self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let (first, length) = bytes.split_at_mut(size_of::<u64>());
        first.copy_from_slice(&self.first.word().to_ne_bytes());
        length.copy_from_slice(&(self.length as u64).to_ne_bytes());
        bytes
    }

    /// What the payload of a record says.
    pub(super) fn read(segments: &impl Segments, record: &Record) -> Option<Self> {
        let mut words = [[0; size_of::<u64>()]; 2];
        if record.length as usize != Self::SIZE {
            return None;
        }
        for (word, at) in words.iter_mut().zip([0, size_of::<u64>() as u32]) {
            segments.read(record.segment, record.payload() + at, word)?;
        }
        let [first, length] = words.map(u64::from_ne_bytes);
        // Nobody can have written more than there is.
        let most = u64::from(segments.used()) * u64::from(segments.room());
        let length = usize::try_from(length).ok().filter(|_| length <= most)?;
        let manifest = usize::try_from(record.manifest).ok().filter(|manifest| *manifest <= length)?;
        Some(Self { first: Moving::from_word(first)?, length, manifest })
    }

    /// The manifest, while `owner` has the message.
    pub(super) fn read_manifest(&self, segments: &impl Segments, owner: Owner) -> Option<Vec<u8>> {
        look(segments, self.first.segment).filter(|state| *state == self.first.owned_by(owner).state)?;
        let mut bytes = Vec::new();
        bytes.try_reserve(self.manifest).ok()?;
        Self { length: self.manifest, ..*self }.copy(segments, &mut [], &mut bytes)?;
        Some(bytes)
    }

    /// Copies the message of this process, for which `out` has room behind what fills `start`, and frees its segments.
    pub(super) fn take(
        self,
        segments: &impl Segments,
        own: ProcessId,
        start: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<Got, GetError> {
        let copied = self.copy(segments, start, out);
        segments.may_die();
        self.free(segments, own);
        let got = Got { length: self.length, manifest: self.manifest };
        copied.map(|()| got).ok_or(GetError::Corrupt)
    }

    fn copy(&self, segments: &impl Segments, start: &mut [u8], out: &mut Vec<u8>) -> Option<()> {
        let mut left = self.length;
        let mut segment = self.first.segment;
        // As much of it as there is goes to the start, which is shorter than a segment.
        let mut skip = start.len().min(left).min(segments.room() as usize) as u32;
        segments.read(segment, 0, start.get_mut(..skip as usize)?)?;
        left -= skip as usize;
        loop {
            // Not more than the room of a segment.
            let here = left.min((segments.room() - skip) as usize) as u32;
            segments.append(segment, skip, here, out)?;
            left -= here as usize;
            if left == 0 {
                return Some(());
            }
            skip = 0;
            segment = Segment::new(segments.link(segment)?.load(Ordering::Relaxed))?;
            look(segments, segment).filter(|state| state.owner == Owner::First(self.first.segment))?;
        }
    }
}

/// Where the next bytes of a message go.
struct Writer<'a, S> {
    segments: &'a S,
    first: Segment,
    last: Segment,
    at: u32,
}

impl<'a, S: Segments> Writer<'a, S> {
    fn begin(segments: &'a S, first: Segment) -> Result<Self, NoSpace> {
        segments.link(first).ok_or(NoSpace)?.store(0, Ordering::Relaxed);
        Ok(Self { segments, first, last: first, at: 0 })
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), NoSpace> {
        while !bytes.is_empty() {
            if self.at == self.segments.room() {
                self.extend()?;
            }
            let (here, rest) = bytes.split_at(bytes.len().min((self.segments.room() - self.at) as usize));
            // Within the room of a segment.
            let end = self.at + here.len() as u32;
            self.segments.back(self.last, end)?;
            self.segments.write(self.last, self.at, here);
            self.segments.may_die();
            (bytes, self.at) = (rest, end);
        }
        Ok(())
    }

    fn extend(&mut self) -> Result<(), NoSpace> {
        let owner = Owner::First(self.first);
        let next = take_free(self.segments, None, owner, |_| ()).ok_or(NoSpace)?.segment;
        self.segments.may_die();
        self.segments.link(next).ok_or(NoSpace)?.store(0, Ordering::Relaxed);
        self.segments.link(self.last).ok_or(NoSpace)?.store(next.number(), Ordering::Relaxed);
        (self.last, self.at) = (next, 0);
        Ok(())
    }
}

/// Frees a segment, if it still has that owner at that version, and before it those that are linked behind it and name it.
pub(super) fn free(segments: &impl Segments, first: Owned) {
    if look(segments, first.segment) != Some(first.state) {
        // It was done before.
        return;
    }
    let follower = |segment| Segment::new(segments.link(segment)?.load(Ordering::Relaxed));
    let mut next = follower(first.segment);
    while let Some(segment) = next {
        let Some(state) = look(segments, segment) else { break };
        if state.owner != Owner::First(first.segment) {
            break;
        }
        next = follower(segment);
        free_one(segments, Owned { segment, state });
        segments.may_die();
    }
    free_one(segments, first);
}

/// Frees the segments of a large message that is not in the queue and says that it is the queue's. Whoever is killed meanwhile
/// has it, and a sweep goes on.
pub(super) fn take_back(segments: &impl Segments, first: Moving, queue: u32, own: ProcessId) {
    let ours = first.owned_by(Owner::Process(own));
    if change(segments, first.owned_by(Owner::Queue(queue)), ours) {
        segments.may_die();
        free(segments, ours);
    }
}

/// Frees everything that `owner` has: a process that is gone, or a queue that nobody uses any more. May be cut off anywhere, and
/// be done by several at the same time.
pub(crate) fn free_all(segments: &impl Segments, owner: Owner) {
    let all = || (1..=segments.used()).filter_map(Segment::new);
    let owned = |segment| look(segments, segment).filter(|state| state.owner == owner);
    for segment in all() {
        let Some(state) = look(segments, segment) else { continue };
        // Looked at after its follower: so at that moment the follower belonged to it as it is now.
        if let Owner::First(first) = state.owner
            && owned(first).is_some()
        {
            free_one(segments, Owned { segment, state });
            segments.may_die();
        }
    }
    for segment in all() {
        if let Some(state) = owned(segment) {
            free_one(segments, Owned { segment, state });
            segments.may_die();
        }
    }
}

fn free_one(segments: &impl Segments, owned: Owned) {
    let freed = Owned { state: owned.state.freed(), ..owned };
    // Release, in `change`: whoever takes it writes after we have read. Failing means that it was done before.
    if change(segments, owned, freed) {
        segments.note_free(owned.segment);
    }
}
