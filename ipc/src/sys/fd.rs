//! Descriptors: polling, lifelines, standard streams, what a copy has of them.

use super::check;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags};
use nix::sys::stat::Mode;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Instant;

/// Waits until `fd` has something to read or its other end is gone; `None` waits without bound.
///
/// Returns whether it is ready. Signals do not end the wait (PEP 475's rule).
///
/// # Errors
///
/// The kernel's answer to poll(2).
pub fn wait_readable(fd: BorrowedFd<'_>, deadline: Option<Instant>) -> io::Result<bool> {
    wait_for(fd, PollFlags::POLLIN, deadline)
}

/// Waits until `fd` has room for something to be written or its other end is gone.
///
/// Returns whether it is ready. Signals do not end the wait.
///
/// # Errors
///
/// The kernel's answer to poll(2).
pub fn wait_writable(fd: BorrowedFd<'_>, deadline: Instant) -> io::Result<bool> {
    wait_for(fd, PollFlags::POLLOUT, Some(deadline))
}

fn wait_for(fd: BorrowedFd<'_>, what: PollFlags, deadline: Option<Instant>) -> io::Result<bool> {
    loop {
        let mut fds = [PollFd::new(fd, what)];
        match poll(&mut fds, timeout_until(deadline)) {
            Ok(0) if is_over(deadline) => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Waits until one of `fds`, of which there may be none, is ready as for [`wait_readable`], or a signal comes.
///
/// # Errors
///
/// The kernel's answer to poll(2).
pub fn wait_any_readable(fds: &[BorrowedFd<'_>], deadline: Instant) -> io::Result<()> {
    let mut fds: Vec<_> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    match poll(&mut fds, timeout_until(Some(deadline))) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// The time until `deadline` as poll(2) wants it: whole milliseconds, rounded up so that a wait never ends early.
fn timeout_until(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    let left = deadline.saturating_duration_since(Instant::now());
    let millis = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}

/// Asks the kernel to send SIGKILL to this process when the other end of the pipe `lifeline` is closed.
///
/// F_SETOWN names this process, F_SETSIG replaces SIGIO by SIGKILL, O_ASYNC arms it (fcntl(2)). Unlike
/// PR_SET_PDEATHSIG this watches a process, not the thread that happened to start us. Check
/// [`is_hung_up`] afterwards: a writer that closed before the arming sends no signal.
///
/// # Errors
///
/// The kernel's answer to fcntl(2).
pub fn kill_self_on_hangup(lifeline: BorrowedFd<'_>) -> io::Result<()> {
    /// fcntl(2); not in every libc crate.
    const F_SETSIG: libc::c_int = 10;
    let (fd, own) = (lifeline.as_raw_fd(), nix::unistd::getpid().as_raw());
    // SAFETY: F_SETOWN takes an int and touches no memory; `fd` is open, it is borrowed.
    check(unsafe { libc::fcntl(fd, libc::F_SETOWN, own) })?;
    // SAFETY: F_SETSIG takes an int and touches no memory; `fd` is open, it is borrowed.
    check(unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGKILL) })?;
    let flags = OFlag::from_bits_retain(fcntl(lifeline, FcntlArg::F_GETFL)?);
    fcntl(lifeline, FcntlArg::F_SETFL(flags | OFlag::O_ASYNC))?;
    Ok(())
}

/// Whether the other end of a pipe that never carries data is closed.
///
/// # Errors
///
/// The kernel's answer to poll(2).
pub fn is_hung_up(fd: BorrowedFd<'_>) -> io::Result<bool> {
    wait_readable(fd, Some(Instant::now()))
}

/// Whether the other end of a socket is closed, whatever is still to be read.
///
/// # Errors
///
/// The kernel's answer to poll(2).
pub fn is_abandoned(fd: BorrowedFd<'_>) -> io::Result<bool> {
    wait_for(fd, PollFlags::empty(), Some(Instant::now()))
}

/// Moves `fd` to a new number above the standard streams (close-on-exec), and puts the null device in its place.
///
/// # Errors
///
/// No descriptor left, or no null device.
pub fn replace_by_null(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let null = null_device()?;
    let moved = fd.as_fd().try_clone_to_owned()?;
    // SAFETY: both numbers are open descriptors; whoever uses number `fd` from now on uses the null device, as wanted.
    check(unsafe { libc::dup2(null.as_raw_fd(), fd.as_raw_fd()) })?;
    Ok(moved)
}

/// Opens the null device for each standard stream that is closed, as the standard library does it before `main`: else
/// some descriptor that is opened later would be taken for one. For the only thread of a process.
///
/// # Errors
///
/// No null device.
pub fn fill_standard_streams() -> io::Result<()> {
    for number in 0..=libc::STDERR_FILENO {
        if is_closed(number) {
            // The kernel gives the lowest free number, which is this one; it stays open for good, also over an exec.
            let _ = open("/dev/null", OFlag::O_RDWR, Mode::empty())?.into_raw_fd();
        }
    }
    Ok(())
}

fn is_closed(number: RawFd) -> bool {
    // SAFETY: the number is only borrowed to ask whether it is open.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(descriptor, FcntlArg::F_GETFD) == Err(Errno::EBADF)
}

fn null_device() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/null")
}

/// The same descriptor, or a duplicate of it (close-on-exec) if its number is that of a standard stream, which was closed.
///
/// # Errors
///
/// No descriptor left.
pub fn beyond_standard_streams(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > libc::STDERR_FILENO {
        return Ok(fd);
    }
    let moved = fcntl(&fd, FcntlArg::F_DUPFD_CLOEXEC(libc::STDERR_FILENO + 1))?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}

/// Puts a copy of `with` in the place of what is open under this number, or under no descriptor's.
#[inline]
fn replace(number: RawFd, with: BorrowedFd<'_>, flags: libc::c_int) {
    // SAFETY: takes integers, and touches no memory. Whoever owns the number goes on with what is there now.
    // It fails only for numbers that no process can have.
    let _ = unsafe { libc::dup3(with.as_raw_fd(), number, flags) };
}

/// What takes the places of descriptors in a process that has just been copied. It is opened before, since the copy may
/// have no number left.
#[derive(Debug)]
pub struct Grave {
    dead: OwnedFd,
    null: OwnedFd,
    /// Which standard streams were closed.
    closed: [bool; 3],
}

impl Grave {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// No descriptor left.
    pub fn dig() -> io::Result<Self> {
        let closed = std::array::from_fn(|stream| is_closed(stream as RawFd));
        let dead = open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let null = null_device()?.into();
        Ok(Self { dead: beyond_standard_streams(dead)?, null: beyond_standard_streams(null)?, closed })
    }

    /// Takes these open descriptors away. The numbers stay taken, so whoever owns one remains right; but with what is there
    /// now nothing can be done (O_PATH, open(2): EBADF). In the place of a standard stream is the null device.
    #[inline]
    pub fn bury(&self, numbers: impl IntoIterator<Item = RawFd>) {
        for number in numbers {
            if number <= libc::STDERR_FILENO {
                replace(number, self.null.as_fd(), 0);
            } else {
                replace(number, self.dead.as_fd(), libc::O_CLOEXEC);
            }
        }
    }

    /// Makes the null device the standard input, and output and error too if they were closed: else some descriptor that is
    /// opened later would be taken for one.
    #[inline]
    pub fn cover_standard_streams(&self) {
        for (number, closed) in (0..).zip(self.closed) {
            if closed || number == libc::STDIN_FILENO {
                replace(number, self.null.as_fd(), 0);
            }
        }
    }
}

/// The epoll(7) instances that this process has open. A copy of it replaces them by an empty one: changes to an instance
/// that it shares with the original would be changes there.
#[derive(Debug, Default)]
pub struct Epolls {
    numbers: Vec<RawFd>,
    /// If there are any.
    empty: Option<Epoll>,
}

impl Epolls {
    /// Finds them, by way of a socket of which no instance knows.
    ///
    /// # Errors
    ///
    /// /proc is not mounted, or no descriptor left.
    pub fn find(stranger: BorrowedFd<'_>) -> io::Result<Self> {
        let mut numbers = descriptors()?;
        numbers.retain(|&number| is_epoll(number, stranger));
        if numbers.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self { numbers, empty: Some(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?) })
    }

    /// In the copy: replaces them.
    #[inline]
    pub fn replace(&self) {
        if let Some(empty) = &self.empty {
            self.numbers.iter().for_each(|&number| replace(number, empty.0.as_fd(), libc::O_CLOEXEC));
        }
    }
}

/// How many numbers are looked at together, and how often: few programs use higher ones.
const AT_ONCE: usize = 64;
const LOOKS: usize = 4;

/// The numbers of all open descriptors.
///
/// poll(2) tells which low ones are open, and the size of the folder in /proc how many there are (since Linux 6.2; before,
/// it is 0). To list the folder takes several times as long; it is for who has higher numbers, or such as poll(2) does not
/// know (O_PATH).
fn descriptors() -> io::Result<Vec<RawFd>> {
    const FOLDER: &str = "/proc/self/fd";
    let count = std::fs::metadata(FOLDER)?.len();
    let mut open = Vec::with_capacity(AT_ONCE);
    for look in 0..LOOKS {
        push_open(look * AT_ONCE, &mut open);
        if open.len() as u64 == count {
            return Ok(open);
        }
    }
    let listed = std::fs::read_dir(FOLDER)?.flatten();
    Ok(listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// Appends the open ones of the numbers from `first` on; none if it does not work.
fn push_open(first: usize, open: &mut Vec<RawFd>) {
    let mut entries: [_; AT_ONCE] =
        std::array::from_fn(|at| libc::pollfd { fd: (first + at) as RawFd, events: 0, revents: 0 });
    // SAFETY: the pointer and the length are those of a live array; a closed number is no error of the whole.
    let polled = unsafe { libc::poll(entries.as_mut_ptr(), AT_ONCE as libc::nfds_t, 0) };
    // It refuses more numbers than RLIMIT_NOFILE.
    if polled != -1 {
        open.extend(entries.iter().filter(|entry| entry.revents & libc::POLLNVAL == 0).map(|entry| entry.fd));
    }
}

/// Whether a number is that of an epoll instance: only there it is the *entry* for `stranger` that is missing.
fn is_epoll(number: RawFd, stranger: BorrowedFd<'_>) -> bool {
    let no_event = std::ptr::null_mut();
    // SAFETY: EPOLL_CTL_DEL ignores its last argument (epoll_ctl(2)); the others are integers.
    let removed = unsafe { libc::epoll_ctl(number, libc::EPOLL_CTL_DEL, stranger.as_raw_fd(), no_event) };
    removed == -1 && Errno::last() == Errno::ENOENT
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Other tests open and close theirs meanwhile.
    #[test]
    fn open_descriptors_are_found_whatever_their_numbers() {
        let file = File::open("/").unwrap();
        for lowest in [0, AT_ONCE, AT_ONCE * LOOKS + 100].map(|number| number as RawFd) {
            let number = fcntl(&file, FcntlArg::F_DUPFD_CLOEXEC(lowest)).unwrap();
            // SAFETY: it was made just now.
            let _open = unsafe { OwnedFd::from_raw_fd(number) };
            let found = descriptors().unwrap();
            assert!(number >= lowest && found.contains(&number) && found.contains(&0), "{number}: {found:?}");
        }
    }

    #[test]
    fn epoll_instances_are_told_from_all_else() {
        let (stranger, file) = (nix::unistd::pipe().unwrap().0, File::open("/").unwrap());
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        let found = Epolls::find(stranger.as_fd()).unwrap();
        assert!(found.numbers.contains(&epoll.0.as_raw_fd()) && found.empty.is_some());
        let others = [stranger.as_raw_fd(), file.as_raw_fd(), 0];
        assert!(!found.numbers.iter().any(|number| others.contains(number)), "{found:?}");
    }

    #[test]
    fn wait_readable_ends_at_the_deadline_and_sees_the_end_of_a_pipe() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(!wait_readable(reader.as_fd(), Some(soon)).unwrap());
        assert!(Instant::now() >= soon);
        drop(writer);
        assert!(wait_readable(reader.as_fd(), None).unwrap());
        assert!(is_hung_up(reader.as_fd()).unwrap());
    }
}
