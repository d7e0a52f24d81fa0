//! Typed views of memory that processes share.
//!
//! A view is made of an offset that was read from who knows where, so it is checked; what it shows consists of atomics, so it
//! may change at any moment. Bytes are copied in and out, and never seen as a slice: somebody may be writing there.
//!
//! States of a region: mapped, for good. Nothing takes its addresses away, so a view lives as long as the process; what it shows may be
//! replaced as a whole by another file of the same length, which for a view is a change like any other.
#![allow(unsafe_code)]

use crate::sys::memory::Map;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr;

/// What may lie in shared memory.
///
/// # Safety
///
/// The type is `repr(C)` and consists of atomics alone (padding aside), without a pointer among them: every content is a
/// valid one, and may change at any time by whatever another process does.
pub(crate) unsafe trait Shareable: Sync + 'static {}

// SAFETY: one atomic.
unsafe impl Shareable for crate::atomic::AtomicU32 {}
// SAFETY: one atomic.
unsafe impl Shareable for crate::atomic::AtomicU64 {}
// SAFETY: `repr(C)`, one atomic.
unsafe impl Shareable for crate::sync::lock::Lock {}
// SAFETY: `repr(C)`, atomics.
unsafe impl Shareable for crate::arena::cell::Cell {}
// SAFETY: `repr(C)`, atomics.
unsafe impl Shareable for crate::arena::cell::Header {}
// SAFETY: `repr(C)`, atomics, in structs of the same kind.
unsafe impl Shareable for crate::arena::Header {}
// SAFETY: `repr(C)`, atomics.
unsafe impl Shareable for crate::arena::segments::Entry {}
// SAFETY: `repr(C)`, atomics, in structs of the same kind.
unsafe impl Shareable for crate::mailbox::ring::Ring {}
// SAFETY: `repr(C)`, atomics, in structs of the same kind.
unsafe impl Shareable for crate::mailbox::queue::Words {}
// SAFETY: `repr(C)`, atomics.
unsafe impl Shareable for crate::liveness::Slot {}
// SAFETY: `repr(C)`, atomics.
unsafe impl Shareable for crate::liveness::Header {}
// SAFETY: `repr(C)`, an array of structs that are `repr(C)` and one atomic each.
unsafe impl Shareable for crate::liveness::Marks {}

/// A mapped memory file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Region(Map);

impl Region {
    /// What `map` maps.
    pub(crate) fn new(map: Map) -> Self {
        Self(map)
    }

    /// Its length in bytes.
    pub(crate) fn length(&self) -> usize {
        self.0.length()
    }

    /// What lies at `at`; `None` if it does not lie inside, or not where such a thing may lie.
    pub(crate) fn view<T: Shareable>(&self, at: usize) -> Option<&'static T> {
        self.views(at, 1)?.first()
    }

    /// `count` of them in a row.
    pub(crate) fn views<T: Shareable>(&self, at: usize, count: usize) -> Option<&'static [T]> {
        let start = self.part(at, size_of::<T>().checked_mul(count)?)?.cast::<T>();
        // SAFETY: the part is mapped for good, and aligned: the caller of `part` is told so below. The contract of
        // `Shareable` makes any content a valid one, and changes by others are those of atomics.
        start.is_aligned().then(|| unsafe { std::slice::from_raw_parts(start, count) })
    }

    /// Copies `bytes` to `at`. `None`, and nothing is done, if they do not fit inside.
    pub(crate) fn write(&self, at: usize, bytes: &[u8]) -> Option<()> {
        let to = self.part(at, bytes.len())?;
        // SAFETY: the part is mapped and writable for that many bytes, and no slice of ours lies in a region.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        Some(())
    }

    /// Copies what lies at `at`. `None`, and nothing is done, if that does not lie inside.
    pub(crate) fn read(&self, at: usize, into: &mut [u8]) -> Option<()> {
        let from = self.part(at, into.len())?;
        // SAFETY: the part is mapped for that many bytes, and `into` is no part of a region.
        unsafe { ptr::copy_nonoverlapping(from, into.as_mut_ptr(), into.len()) };
        Some(())
    }

    /// Appends the `length` bytes at `at` to `out`, if it has room for them and they lie inside.
    pub(crate) fn append(&self, at: usize, length: usize, out: &mut Vec<u8>) -> Option<()> {
        let from = self.part(at, length)?;
        let to = out.spare_capacity_mut().get_mut(..length)?;
        // SAFETY: the part is mapped for that many bytes, and `to` has room for them.
        unsafe { ptr::copy_nonoverlapping(from, to.as_mut_ptr().cast(), length) };
        let end = out.len() + length;
        // SAFETY: the bytes up to `end` have just been written, and lie within the capacity.
        unsafe { out.set_len(end) };
        Some(())
    }

    /// Takes memory for whole pages now.
    ///
    /// # Errors
    ///
    /// No memory left.
    pub(crate) fn take_memory(&self, at: usize, length: usize) -> io::Result<()> {
        self.0.take_memory(at, length)
    }

    /// Gives the memory of whole pages back.
    ///
    /// # Errors
    ///
    /// The kernel's answer.
    pub(crate) fn give_memory_back(&self, at: usize, length: usize) -> io::Result<()> {
        self.0.give_memory_back(at, length)
    }

    /// Shows another file from now on: fixed memory of the same length.
    ///
    /// # Errors
    ///
    /// The file is none such; the kernel's answer.
    pub(crate) fn replace(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        self.0.replace(file)
    }

    /// One system call that stores into the region, as `read` of a program would: for the test of what the dying store.
    #[cfg(test)]
    pub(crate) fn fill_from(&self, file: BorrowedFd<'_>, at: usize, length: usize) -> isize {
        use std::os::fd::AsRawFd;
        let to = self.part(at, length).unwrap();
        // SAFETY: the part is mapped and writable for that many bytes.
        unsafe { nix::libc::read(file.as_raw_fd(), to.cast(), length) }
    }

    /// Where the `length` bytes at `at` are, if they lie inside.
    fn part(&self, at: usize, length: usize) -> Option<*mut u8> {
        let is_inside = at.checked_add(length)? <= self.0.length();
        // SAFETY: the offset lies within the mapping, or just behind it.
        is_inside.then(|| unsafe { self.0.start().as_ptr().add(at) })
    }
}

#[cfg(test)]
mod tests;
