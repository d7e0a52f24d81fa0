//! What processes that share memory can see of each other: the bytes of the family's memory file.

use std::fs::{self, File};
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use nix::unistd::{Whence, lseek};

/// Where the marks lie that the kernel makes; objects, queues and segments lie behind them. Whoever watches a process writes to its
/// marks, when it has time; so a change there is none of the act of a process.
pub const MARKS: Range<u64> = 512 << 10..5 << 20;

/// The memory of this process's family.
#[derive(Debug)]
pub struct Shared {
    file: File,
    /// What lies behind is not looked at.
    end: u64,
    /// How much memory there is: as long as it stays the same, it is where it was.
    blocks: u64,
    /// Where there is memory, and what was there when [`has_changed`](Self::has_changed) was last asked.
    seen: Vec<(u64, Vec<u8>)>,
}

impl Shared {
    /// What lies before `end`. The family has its memory already.
    pub fn up_to(end: u64) -> Self {
        let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let is_it = |path: &PathBuf| {
            fs::read_link(path).is_ok_and(|target| target.as_os_str() == "/memfd:procession (deleted)")
        };
        let path = entries.map(|entry| entry.path()).find(is_it).expect("this family shares no memory yet");
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut this = Self { file, end, blocks: 0, seen: Vec::new() };
        this.has_changed();
        this
    }

    /// Where these bytes lie.
    pub fn find(bytes: &[u8]) -> Option<u64> {
        let found = |part: &Vec<u8>| part.windows(bytes.len()).position(|window| window == bytes);
        let parts = Self::up_to(u64::MAX).seen;
        parts.into_iter().find_map(|(at, part)| Some(at + found(&part)? as u64))
    }

    /// The file that has it.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// What was there when that was last looked at: parts that are no holes, each from an offset on.
    pub fn seen(&self) -> &[(u64, Vec<u8>)] {
        &self.seen
    }

    /// Whether it is another one than the last time, but for marks.
    pub fn has_changed(&mut self) -> bool {
        let blocks = self.file.metadata().unwrap().blocks();
        if blocks != self.blocks {
            self.blocks = blocks;
            self.seen = self.parts().into_iter().map(|(at, length)| (at, self.read(at, length))).collect();
            return true;
        }
        let now: Vec<_> = self.seen.iter().map(|(at, part)| (*at, self.read(*at, part.len()))).collect();
        let has_changed = now.iter().zip(&self.seen).any(|((at, now), (_, seen))| differ(*at, now, seen));
        self.seen = now;
        has_changed
    }

    fn read(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at).unwrap();
        bytes
    }

    /// The parts that are no holes: begin and length.
    fn parts(&self) -> Vec<(u64, usize)> {
        let mut parts = Vec::new();
        let mut from = 0;
        // ENXIO: no more behind.
        while let Ok(begin) = lseek(self.file.as_fd(), from, Whence::SeekData) {
            let end = lseek(self.file.as_fd(), begin, Whence::SeekHole).unwrap();
            from = end;
            let (begin, end) = (begin.unsigned_abs(), end.unsigned_abs().min(self.end));
            if begin >= end {
                break;
            }
            parts.push((begin, usize::try_from(end - begin).unwrap()));
        }
        parts
    }
}

/// Whether what lies at `at` is another one, but for marks.
fn differ(at: u64, now: &[u8], seen: &[u8]) -> bool {
    let [start, end] = [MARKS.start, MARKS.end].map(|edge| now.len().min(edge.saturating_sub(at) as usize));
    now[..start] != seen[..start] || now[end..] != seen[end..]
}
