//! Sleeping on words of memory that processes share: futex(2), futex_waitv(2), and the list of words that the kernel marks
//! when a thread ends.

use super::check;
use nix::libc::{self, c_long};
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

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

/// A word in which the kernel tells the end of a thread: one for each who wants to know, since it wakes one sleeper of each.
///
/// `FUTEX_WAITERS | FUTEX_OWNER_DIED | thread 30`: 0, then the thread's id, then marked. What was read is memory that others can
/// write.
#[repr(C, align(8))]
#[derive(Debug)]
pub struct Mark(AtomicU32);

impl Mark {
    /// Whether it says that the thread has not ended; not so if it was never set.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        is_alive(self.value())
    }

    /// Whether the kernel has marked it.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        self.value() & libc::FUTEX_OWNER_DIED != 0
    }

    /// Asks the kernel for a wake-up with the mark. The word to sleep on, and its value; `None`: that would be in vain, as
    /// [`is_alive`](Self::is_alive) says.
    #[must_use]
    pub fn await_end(&self) -> Option<(&AtomicU32, u32)> {
        let awaited = |value: u32| is_alive(value).then_some(value | libc::FUTEX_WAITERS);
        let before = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, awaited).ok()?;
        Some((&self.0, before | libc::FUTEX_WAITERS))
    }

    /// As it is.
    #[must_use]
    pub fn value(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// Says whose end it will tell.
    pub(crate) fn set(&self, thread: u32) {
        self.0.store(thread, Ordering::Release);
    }
}

fn is_alive(value: u32) -> bool {
    value & libc::FUTEX_TID_MASK != 0 && value & libc::FUTEX_OWNER_DIED == 0
}

/// A list of words, as the kernel wants it (`struct robust_list_head`).
#[repr(C)]
#[derive(Debug)]
struct RobustList {
    first: *const RobustNode,
    /// From each node to its word.
    offset: c_long,
    /// A node that is just being entered or taken out: none ever is.
    pending: *const RobustNode,
}

/// A node: where the next one is. The last one points to the head.
#[repr(C)]
#[derive(Debug)]
struct RobustNode {
    next: *const Self,
}

/// Nodes lie as far from each other as marks, so one offset fits them all.
const _: () = assert!(size_of::<RobustNode>() == size_of::<Mark>());

/// Has the kernel mark each of `marks` when this thread ends, however it ends (set_robust_list(2)). The thread's id is stored there
/// for that.
///
/// The thread must not use robust mutexes of libc: it has one such list.
///
/// # Errors
///
/// The kernel's answer to set_robust_list(2).
pub fn mark_at_end(marks: &'static [Mark]) -> io::Result<AtEnd> {
    // Both for as long as the thread lives, unless they are taken back.
    let nodes = Box::leak(marks.iter().map(|_| RobustNode { next: ptr::null() }).collect::<Box<[_]>>());
    let list = Box::leak(Box::new(RobustList { first: ptr::null(), offset: 0, pending: ptr::null() }));
    let mut next = ptr::from_ref(list).cast();
    for node in nodes.iter_mut().rev() {
        node.next = next;
        next = ptr::from_ref(node);
    }
    (list.first, list.offset) = (next, (marks.as_ptr() as c_long).wrapping_sub(nodes.as_ptr() as c_long));
    // SAFETY: head and nodes are not changed again, and freed by `take_back` alone, after the kernel has forgotten them; node and offset
    // give the address of a mark, which lives for ever. The size is that of `struct robust_list_head`.
    check(unsafe { libc::syscall(libc::SYS_set_robust_list, ptr::from_ref(list), size_of::<RobustList>()) })?;
    let thread = nix::unistd::gettid().as_raw().cast_unsigned();
    marks.iter().for_each(|mark| mark.set(thread));
    Ok(AtEnd { list, nodes })
}

/// What the kernel was told by [`mark_at_end`], for the thread that told it. Dropped, it stays in force.
#[derive(Debug)]
#[must_use = "it stays in force unless it is taken back"]
pub struct AtEnd {
    list: &'static mut RobustList,
    nodes: &'static mut [RobustNode],
}

impl AtEnd {
    /// This thread will end without a mark.
    pub fn take_back(self) {
        let none: *const RobustList = ptr::null();
        // SAFETY: the kernel gets nothing to read. A list has a raw pointer in it, so this is the thread that it was made by.
        let done = unsafe { libc::syscall(libc::SYS_set_robust_list, none, size_of::<RobustList>()) };
        if check(done).is_ok() {
            // SAFETY: it was leaked from a box, this is the only reference to it, and the kernel knows it no more.
            drop(unsafe { Box::from_raw(ptr::from_mut(self.list)) });
            // SAFETY: as above.
            drop(unsafe { Box::from_raw(ptr::from_mut(self.nodes)) });
        }
    }
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
    fn the_end_of_a_thread_is_told_to_each_who_waits_for_it() {
        const MANY: usize = 128;
        let marks: Vec<_> = (0..MANY).map(|_| Mark(AtomicU32::new(0))).collect();
        let marks: &'static [Mark] = Box::leak(marks.into_boxed_slice());
        assert!(marks.iter().all(|mark| !mark.is_alive() && !mark.is_marked() && mark.await_end().is_none()));
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let ends = thread::spawn(move || {
            let _at_end = mark_at_end(marks).unwrap();
            let _ = told.recv();
        });
        let is_alive = || marks.iter().all(Mark::is_alive);
        while !is_alive() {
            thread::yield_now();
        }
        let waiters = [0, 1, MANY - 1].map(|number| {
            let (word, value) = marks[number].await_end().unwrap();
            thread::spawn(move || wait(word, value, Some(Instant::now() + Duration::from_secs(60))).unwrap())
        });
        assert!(is_alive());
        drop(tell);
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Slept::Awake);
        }
        ends.join().unwrap();
        assert!(marks.iter().all(|mark| mark.is_marked() && !mark.is_alive() && mark.await_end().is_none()));
    }

    #[test]
    fn what_is_taken_back_is_marked_no_more() {
        let marks: &'static [Mark] = Box::leak(Box::new([Mark(AtomicU32::new(0))]));
        let thread = thread::spawn(move || {
            mark_at_end(marks).unwrap().take_back();
            mark_at_end(marks).unwrap().take_back();
            nix::unistd::gettid().as_raw()
        });
        let thread = thread.join().unwrap();
        while std::path::Path::new(&format!("/proc/self/task/{thread}")).exists() {
            thread::yield_now();
        }
        assert_eq!(marks[0].value(), thread.cast_unsigned());
    }
}
