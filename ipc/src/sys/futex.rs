//! Sleeping on words of memory that processes share: futex(2), futex_waitv(2), and the list of words that the kernel marks
//! when a thread ends.

use super::check;
use nix::libc::{self, c_long};
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Set by the kernel in a marked word: the thread whose id it holds has ended.
pub const OWNER_DIED: u32 = libc::FUTEX_OWNER_DIED;

/// Most words that one thread can sleep on at a time (FUTEX_WAITV_MAX).
pub const MOST_WORDS: usize = 128;

/// How a sleep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slept {
    /// Somebody woke us, a signal came, or the word had another value.
    Awake,
    /// The time is over.
    TimedOut,
}

/// Sleeps while `word` is `expected`, until somebody wakes us or `deadline` has come.
///
/// # Errors
///
/// The kernel's answer, if it is none of the expected ones.
pub fn wait(word: &AtomicU32, expected: u32, deadline: Option<Instant>) -> io::Result<Slept> {
    let left = deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
    let timeout = left.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word and the timespec (or null) are alive during the call; the kernel only reads them.
    let waited =
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, expected, timeout) };
    slept(check(waited))
}

/// Wakes up to `count` threads that sleep on `word`, in whatever process.
pub fn wake(word: &AtomicU32, count: u32) {
    // SAFETY: the kernel uses the address only to find who sleeps there. It cannot fail for an address that is mapped.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
}

/// One of the words to sleep on, as the kernel wants it (`struct futex_waitv`).
#[repr(C)]
#[derive(Debug)]
struct Waiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// Size of the word: 32 bits; shared between processes, since FUTEX2_PRIVATE is not set.
const FUTEX2_SIZE_U32: u32 = 2;

/// Sleeps while each of `words` has its expected value, until somebody wakes us on one of them or `timeout` is over.
///
/// # Errors
///
/// More than [`MOST_WORDS`]; a kernel before 5.16.
pub fn wait_any(words: &[(&AtomicU32, u32)], timeout: Option<Duration>) -> io::Result<Slept> {
    let waiter = |&(word, expected): &(&AtomicU32, u32)| Waiter {
        value: expected.into(),
        address: word.as_ptr() as u64,
        flags: FUTEX2_SIZE_U32,
        reserved: 0,
    };
    let waiters: Vec<Waiter> = words.iter().map(waiter).collect();
    let deadline = timeout.map(after).transpose()?;
    let deadline = deadline.as_ref().map_or(ptr::null(), ptr::from_ref);
    let (first, count) = (waiters.as_ptr(), waiters.len() as c_long);
    let clock = c_long::from(libc::CLOCK_MONOTONIC);
    let none: c_long = 0;
    // SAFETY: the list and the timespec (or null) are alive during the call; the words are borrowed. All are only read.
    let waited = unsafe { libc::syscall(libc::SYS_futex_waitv, first, count, none, deadline, clock) };
    slept(check(waited))
}

/// Whether the kernel has futex_waitv(2).
#[must_use]
pub fn has_wait_any() -> bool {
    let word = AtomicU32::new(0);
    // The word has another value, so this returns at once.
    wait_any(&[(&word, 1)], None).is_ok()
}

fn slept(result: io::Result<i64>) -> io::Result<Slept> {
    match result {
        Ok(_) => Ok(Slept::Awake),
        Err(error) => match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Ok(Slept::Awake),
            Some(libc::ETIMEDOUT) => Ok(Slept::TimedOut),
            _ => Err(error),
        },
    }
}

fn timespec(duration: Duration) -> libc::timespec {
    let seconds = libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX);
    libc::timespec { tv_sec: seconds, tv_nsec: duration.subsec_nanos().into() }
}

/// The moment after `duration`, on the monotonic clock.
fn after(duration: Duration) -> io::Result<libc::timespec> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    check(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) })?;
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0) + u64::from(duration.subsec_nanos());
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0).saturating_add(duration.as_secs());
    Ok(timespec(Duration::from_secs(seconds) + Duration::from_nanos(nanos)))
}

/// A list with one node, as the kernel wants it (`struct robust_list_head`, with its node behind it).
#[repr(C)]
struct RobustList {
    /// First node.
    first: *const RobustNode,
    /// From a node to its word.
    offset: c_long,
    /// A node that is just being entered or taken out: none ever is.
    pending: *const RobustNode,
    node: RobustNode,
}

/// A node: where the next one is. The last one points to the head.
#[repr(C)]
struct RobustNode {
    next: *const RobustList,
}

/// Has the kernel mark `word` when this thread ends, however it ends (set_robust_list(2)), and wake one who sleeps there.
/// The thread's id is stored in `word` for that.
///
/// The thread must not use robust mutexes of libc: it has one such list.
///
/// # Errors
///
/// The kernel's answer to set_robust_list(2).
pub fn mark_at_end(word: &'static AtomicU32) -> io::Result<()> {
    // For as long as the thread lives, and a process has one such thread.
    let list: &'static mut RobustList = Box::leak(Box::new(RobustList {
        first: ptr::null(),
        offset: 0,
        pending: ptr::null(),
        node: RobustNode { next: ptr::null() },
    }));
    list.offset = (word.as_ptr() as c_long).wrapping_sub(ptr::from_ref(&list.node) as c_long);
    list.first = &raw const list.node;
    list.node.next = &raw const *list;
    // SAFETY: head and node are never freed or changed again; node and offset give the address of `word`, which lives for
    // ever too. The size is that of `struct robust_list_head`, three words.
    check(unsafe { libc::syscall(libc::SYS_set_robust_list, &raw const *list, 3 * size_of::<usize>()) })?;
    let thread = nix::unistd::gettid().as_raw().cast_unsigned();
    word.store(thread | libc::FUTEX_WAITERS, Ordering::Release);
    Ok(())
}

/// The thread whose end the kernel will mark in a word of this value; `None`: it is marked, or was never set.
#[must_use]
pub fn unmarked(value: u32) -> Option<u32> {
    let thread = value & libc::FUTEX_TID_MASK;
    (thread != 0 && value & OWNER_DIED == 0).then_some(thread)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn a_sleep_ends_at_its_deadline_when_the_word_differs_and_when_woken() {
        let word = AtomicU32::new(3);
        let soon = Instant::now() + Duration::from_millis(20);
        assert_eq!(wait(&word, 4, None).unwrap(), Slept::Awake);
        assert_eq!(wait(&word, 3, Some(soon)).unwrap(), Slept::TimedOut);
        assert!(Instant::now() >= soon);
        let start = Instant::now();
        assert_eq!(wait_any(&[(&word, 3)], Some(Duration::from_millis(20))).unwrap(), Slept::TimedOut);
        assert!(start.elapsed() >= Duration::from_millis(20));
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| {
                while word.load(Ordering::Relaxed) == 3 {
                    wait_any(&[(&AtomicU32::new(0), 0), (&word, 3)], None).unwrap();
                }
            });
            word.store(5, Ordering::Relaxed);
            while !sleeper.is_finished() {
                wake(&word, 1);
                thread::yield_now();
            }
        });
    }

    #[test]
    fn the_end_of_a_thread_is_marked() {
        let word: &'static AtomicU32 = Box::leak(Box::new(AtomicU32::new(0)));
        let thread = thread::spawn(move || {
            mark_at_end(word).unwrap();
            assert_eq!(unmarked(word.load(Ordering::Relaxed)), Some(nix::unistd::gettid().as_raw() as u32));
        });
        thread.join().unwrap();
        while word.load(Ordering::Acquire) & OWNER_DIED == 0 {
            thread::yield_now();
        }
        assert_eq!(unmarked(word.load(Ordering::Relaxed)), None);
        assert_eq!(unmarked(0), None);
    }
}
