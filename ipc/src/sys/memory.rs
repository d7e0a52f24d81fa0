//! Memory files: sealed ones, which carry a message, and sparse ones, which processes share; where those are mapped.

use super::check;
use super::fd::beyond_standard_streams;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::fstat;
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};
use nix::sys::uio::pwrite;
use nix::unistd::{SysconfVar, sysconf};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU32;

/// Puts the parts, one after the other, into a new anonymous memory file that can no longer change.
///
/// # Errors
///
/// No memory, or no descriptor left; more than RLIMIT_FSIZE allows.
pub fn sealed_memory(parts: &[&[u8]]) -> io::Result<OwnedFd> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut file = new_file(length as u64)?;
    for part in parts {
        file.write_all(part)?;
    }
    let seals =
        SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

/// Reads a memory file whose announced length is `len`; the file itself is the judge of that.
///
/// # Errors
///
/// A length that does not agree, or the kernel's answer.
pub fn read_memory(memory: OwnedFd, len: u64) -> io::Result<Vec<u8>> {
    let mut file = File::from(memory);
    let has = file.metadata()?.len();
    if has != len {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a memory file of {has} bytes was announced with {len}"),
        ));
    }
    file.rewind()?;
    let mut bytes = Vec::new();
    let want = usize::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    bytes.try_reserve_exact(want).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    file.take(len).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A memory file of `length` bytes of which none takes memory before it is touched. Its length can never change.
///
/// # Errors
///
/// No descriptor left; more than RLIMIT_FSIZE allows.
pub fn sparse_memory(length: u64) -> io::Result<OwnedFd> {
    let file = new_file(length)?;
    file.set_len(length)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(fixed()))?;
    // It stays open for good; under the number of a standard stream it would be printed to.
    beyond_standard_streams(file.into())
}

/// The length can never change, and the content always.
fn fixed() -> SealFlag {
    SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL
}

/// Whether a file of unknown origin is as [`sparse_memory`] makes it, apart from its content: it can be mapped and written, no access
/// meets its end, and nobody can change that.
///
/// # Errors
///
/// The kernel's answer to fstatfs(2) or fcntl(2).
pub fn is_fixed_memory(file: BorrowedFd<'_>) -> io::Result<bool> {
    // Pages of another size come from a store of their own, and a touch fails when that is empty.
    if fstatfs(file)?.filesystem_type() != TMPFS_MAGIC {
        return Ok(false);
    }
    let can_write = fcntl(file, FcntlArg::F_GETFL)? & libc::O_ACCMODE == libc::O_RDWR;
    let seals = match fcntl(file, FcntlArg::F_GET_SEALS) {
        // A device or a pipe in such a file system.
        Err(Errno::EINVAL) => return Ok(false),
        seals => SealFlag::from_bits_truncate(seals?),
    };
    let forbids_writing = seals.intersects(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_FUTURE_WRITE);
    Ok(can_write && seals.contains(fixed()) && !forbids_writing)
}

/// A memory file that will have `length` bytes.
fn new_file(length: u64) -> io::Result<File> {
    // The kernel would end this process by SIGXFSZ.
    if length > file_size_limit()? {
        return Err(Errno::EFBIG.into());
    }
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    Ok(File::from(memfd_create("procession", flags)?))
}

/// Writes `bytes` into a memory file.
///
/// # Errors
///
/// No memory left.
pub fn write_at(file: BorrowedFd<'_>, at: u64, mut bytes: &[u8]) -> io::Result<()> {
    let mut at = i64::try_from(at).map_err(|_| Errno::EFBIG)?;
    while !bytes.is_empty() {
        let written = match pwrite(file, bytes, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Err(Errno::EINTR) => continue,
            written => written?,
        };
        (at, bytes) = (at + written as i64, &bytes[written..]);
    }
    Ok(())
}

/// Most bytes that a file of this process may have.
///
/// # Errors
///
/// The kernel's answer to getrlimit(2).
pub fn file_size_limit() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_FSIZE)?.0)
}

/// Most bytes of addresses that this process may have.
///
/// # Errors
///
/// The kernel's answer to getrlimit(2).
pub fn address_limit() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_AS)?.0)
}

/// Bytes of memory that the machine has, if it says so.
#[must_use]
pub fn physical_memory() -> Option<u64> {
    let value = |name| sysconf(name).ok().flatten().and_then(|value| u64::try_from(value).ok());
    value(SysconfVar::_PHYS_PAGES)?.checked_mul(value(SysconfVar::PAGE_SIZE)?)
}

/// Bytes of memory that a memory file takes now.
///
/// # Errors
///
/// The kernel's answer to fstat(2).
pub fn memory_taken(file: BorrowedFd<'_>) -> io::Result<u64> {
    let blocks = fstat(file)?.st_blocks;
    Ok(u64::try_from(blocks).unwrap_or(0) * 512)
}

/// How memory is mapped that processes share.
const SHARED_RIGHTS: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;
const SHARED: libc::c_int = libc::MAP_SHARED | libc::MAP_NORESERVE;

/// A memory file in the addresses of this process. They are there for good, so what points into them may be kept; what is seen there may
/// be [another file's](Self::replace) one day.
#[derive(Debug, Clone, Copy)]
pub struct Map {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: an address and a length; what is done with the memory behind them is the business of whoever does it.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// Maps the whole file, shared with whoever else maps it. It is left out of core dumps, which would read its holes and
    /// so fill them.
    ///
    /// # Errors
    ///
    /// No addresses left (RLIMIT_AS).
    pub fn new(file: BorrowedFd<'_>) -> io::Result<Self> {
        let length = usize::try_from(fstat(file)?.st_size).map_err(|_| Errno::ENOMEM)?;
        // SAFETY: it is nowhere in particular.
        let start = unsafe { map(ptr::null_mut(), length, SHARED_RIGHTS, SHARED, file.as_raw_fd()) }?;
        let map = Self { start, length };
        let advised = map.advise(0, length, libc::MADV_DONTDUMP);
        // SAFETY: nobody else has seen it.
        advised.inspect_err(|_| unsafe { map.unmap() })?;
        Ok(map)
    }

    /// Takes it out of the addresses of this process.
    ///
    /// # Safety
    ///
    /// Nobody uses it any more.
    unsafe fn unmap(self) {
        // SAFETY: the range is that of this map, of which the caller says that nobody uses it.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }

    /// Has this map show `file` in place of the file that it has shown, whose memory this process no longer keeps.
    ///
    /// # Errors
    ///
    /// The file is no [fixed memory](is_fixed_memory) of the same length; the kernel's answer.
    pub fn replace(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        if !is_fixed_memory(file)? || usize::try_from(fstat(file)?.st_size) != Ok(self.length) {
            return Err(Errno::EINVAL.into());
        }
        let place = self.start.as_ptr().cast();
        // SAFETY: the range is that of this map and of nothing else. Only atomics and copies of bytes go there (`shm`), for which any
        // content will do, and it may change at any time; as before, no access meets the end of the file, since its length is the
        // same and can never change. What the kernel could object to, it looks at before it takes the old file away: that the
        // file can be written was checked, and that it stays so. What it could still lack then is the little memory of a mapping's
        // description, for which it rather ends a process than refuses it.
        unsafe { map(place, self.length, SHARED_RIGHTS, SHARED | libc::MAP_FIXED, file.as_raw_fd()) }?;
        self.advise(0, self.length, libc::MADV_DONTDUMP)
    }

    /// Where it begins; aligned to a page.
    #[must_use]
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Takes memory for whole pages now, so that touching them later cannot fail (MADV_POPULATE_WRITE).
    ///
    /// # Errors
    ///
    /// No memory left.
    pub fn take_memory(&self, at: usize, length: usize) -> io::Result<()> {
        self.advise(at, length, libc::MADV_POPULATE_WRITE)
    }

    /// Gives the memory of whole pages back; what was there reads as zeros (MADV_REMOVE).
    ///
    /// # Errors
    ///
    /// The kernel's answer to madvise(2).
    pub fn give_memory_back(&self, at: usize, length: usize) -> io::Result<()> {
        self.advise(at, length, libc::MADV_REMOVE)
    }

    fn advise(&self, at: usize, length: usize, advice: libc::c_int) -> io::Result<()> {
        if at.checked_add(length).is_none_or(|end| end > self.length) {
            return Err(Errno::EINVAL.into());
        }
        // SAFETY: the offset lies within the mapping, as was checked.
        let start = unsafe { self.start.as_ptr().add(at) };
        loop {
            // SAFETY: the range lies within this mapping, which nothing of Rust points into but atomics and copies: of
            // the advices used here, one zeroes pages that their owner gives up, the others leave the content alone.
            match check(unsafe { libc::madvise(start.cast(), length, advice) }) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map(drop),
            }
        }
    }
}

/// Two words that are 0 in each new process: after a fork, of whatever kind, the copy finds them wiped (MADV_WIPEONFORK). Dropped,
/// they are given back.
#[derive(Debug)]
pub struct WordsPerProcess(Map);

impl WordsPerProcess {
    /// Makes them.
    ///
    /// # Errors
    ///
    /// No memory; a kernel before 4.14.
    pub fn new() -> io::Result<Self> {
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // One page is the least; the kernel rounds up to it.
        let length = size_of::<[AtomicU32; 2]>();
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: it is nowhere in particular.
        let start = unsafe { map(ptr::null_mut(), length, rights, flags, -1) }?;
        let words = Self(Map { start, length });
        words.0.advise(0, length, libc::MADV_WIPEONFORK)?;
        Ok(words)
    }

    /// They are there for good.
    #[must_use]
    pub fn keep(self) -> &'static [AtomicU32; 2] {
        let words = ManuallyDrop::new(self).0.start.cast::<[AtomicU32; 2]>();
        // SAFETY: the page is aligned, zeroed, and now never taken away.
        unsafe { words.as_ref() }
    }
}

impl Drop for WordsPerProcess {
    fn drop(&mut self) {
        // SAFETY: nobody has seen a word of it: `keep` drops nothing.
        unsafe { self.0.unmap() };
    }
}

/// Maps at an address of the kernel's choice, or at `place` with MAP_FIXED among the flags.
///
/// # Safety
///
/// With MAP_FIXED, whatever is mapped at `place` so far may become something else.
unsafe fn map(
    place: *mut libc::c_void,
    length: usize,
    rights: libc::c_int,
    flags: libc::c_int,
    file: libc::c_int,
) -> io::Result<NonNull<u8>> {
    // SAFETY: without MAP_FIXED nothing that is mapped already is touched, and with it the caller answers for that.
    let start = unsafe { libc::mmap(place, length, rights, flags, file, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| Errno::ENOMEM.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    #[test]
    fn sealed_memory_comes_back_and_cannot_change() {
        let memory = sealed_memory(&[b"ab", b"", b"cde"]).unwrap();
        let mut writer = File::from(memory.try_clone().unwrap());
        writer.rewind().unwrap();
        assert!(writer.write_all(b"x").is_err());
        assert!(read_memory(memory.try_clone().unwrap(), 4).is_err());
        assert_eq!(read_memory(memory, 5).unwrap(), b"abcde");
    }

    #[test]
    fn sparse_memory_keeps_its_length_and_what_is_written() {
        let memory = sparse_memory(1 << 30).unwrap();
        write_at(memory.as_fd(), 5000, b"abc").unwrap();
        assert_eq!(Map::new(memory.as_fd()).unwrap().length(), 1 << 30);
        assert!(memory_taken(memory.as_fd()).unwrap() < 1 << 20);
        let (file, mut read) = (File::from(memory), [0; 4]);
        file.read_exact_at(&mut read, 4999).unwrap();
        assert_eq!(&read, b"\0abc");
        assert!(file.set_len(1).is_err());
    }

    #[test]
    fn a_map_shows_another_file_at_the_same_place_and_lets_go_of_the_first() {
        let files = [1, 2].map(|byte| {
            let file = sparse_memory(1 << 20).unwrap();
            write_at(file.as_fd(), 4096, &[byte; 10]).unwrap();
            file
        });
        let map = Map::new(files[0].as_fd()).unwrap();
        let byte = || {
            let at = map.start().as_ptr().wrapping_add(4096 + 9);
            // SAFETY: within the map, to which nobody else writes.
            unsafe { at.read_volatile() }
        };
        assert_eq!(byte(), 1);
        for round in 1..5 {
            map.replace(files[round % 2].as_fd()).unwrap();
            assert_eq!(usize::from(byte()), round % 2 + 1);
        }
        for unfit in [sparse_memory(2 << 20).unwrap(), sealed_memory(&[&[0; 1 << 20]]).unwrap()] {
            assert!(map.replace(unfit.as_fd()).is_err());
        }
        assert_eq!(byte(), 1, "a refusal changes nothing");
        map.take_memory(0, 1 << 20).unwrap();
        assert_eq!(memory_taken(files[0].as_fd()).unwrap(), 1 << 20);
    }
}
