//! Memory that processes share: sparse memory files, and where they are mapped.

use super::check;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU32;

/// A memory file of `length` bytes of which none takes memory before it is touched. Its length can never change.
///
/// # Errors
///
/// No descriptor left; more than RLIMIT_FSIZE allows.
pub fn sparse_memory(length: u64) -> io::Result<OwnedFd> {
    // The kernel would end this process by SIGXFSZ.
    if length > file_size_limit()? {
        return Err(Errno::EFBIG.into());
    }
    let file = File::from(memfd_create("procession", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    file.set_len(length)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    beyond_standard_streams(file.into())
}

/// Where standard streams are closed, a new descriptor gets the number of one, and would be printed to.
fn beyond_standard_streams(file: OwnedFd) -> io::Result<OwnedFd> {
    // The standard library's duplicates have higher numbers.
    if file.as_raw_fd() > libc::STDERR_FILENO { Ok(file) } else { file.try_clone() }
}

/// Writes `bytes` into a memory file.
///
/// # Errors
///
/// No memory left.
pub fn write_at(file: BorrowedFd<'_>, at: u64, bytes: &[u8]) -> io::Result<()> {
    File::from(file.try_clone_to_owned()?).write_all_at(bytes, at)
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
    let blocks = nix::sys::stat::fstat(file)?.st_blocks;
    Ok(u64::try_from(blocks).unwrap_or(0) * 512)
}

/// A memory file in the addresses of this process, for good: nothing takes it away again, so what points into it may be
/// kept.
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
        let length = File::from(file.try_clone_to_owned()?).metadata()?.len();
        let length = usize::try_from(length).map_err(|_| Errno::ENOMEM)?;
        let (rights, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_NORESERVE);
        let start = map(length, rights, flags, file.as_raw_fd())?;
        let map = Self { start, length };
        map.advise(0, length, libc::MADV_DONTDUMP)?;
        Ok(map)
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

/// A word that is 0 in each new process: after a fork, of whatever kind, the copy finds it wiped (MADV_WIPEONFORK).
///
/// # Errors
///
/// No memory; a kernel before 4.14.
pub fn word_per_process() -> io::Result<&'static AtomicU32> {
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    // One page is the least; the kernel rounds up to it.
    let length = size_of::<AtomicU32>();
    let start = map(length, rights, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)?;
    let page = Map { start, length };
    page.advise(0, length, libc::MADV_WIPEONFORK)?;
    // SAFETY: the page is aligned, zeroed, never taken away, and nobody else knows of it.
    Ok(unsafe { page.start.cast::<AtomicU32>().as_ref() })
}

fn map(length: usize, rights: libc::c_int, flags: libc::c_int, file: libc::c_int) -> io::Result<NonNull<u8>> {
    // SAFETY: no address is asked for, so nothing that is mapped already is touched.
    let start = unsafe { libc::mmap(ptr::null_mut(), length, rights, flags, file, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| Errno::ENOMEM.into())
}
