//! Processes: making them, watching them, signalling them. Always by pidfd, so a reused pid is never hit.

use super::check;
use nix::errno::Errno;
use nix::libc::{self, c_char, c_int};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::ffi::{CStr, CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

/// How a child ended, as the kernel reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It left with this code (0 to 255).
    Exited(i32),
    /// This signal ended it.
    Signaled {
        /// Number of the signal.
        signal: i32,
        /// Whether the kernel wrote a core dump.
        core_dumped: bool,
    },
}

/// Opens a descriptor that stands for the child `pid` (pidfd_open(2), close-on-exec).
///
/// # Errors
///
/// No such process any more, or a kernel before 5.3.
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers and touches no memory of ours.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sends `signal` to the process behind `pidfd`; one that has ended already is a success.
///
/// # Errors
///
/// An invalid signal, or no right to send it.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed (pidfd_send_signal(2)); the other arguments are integers.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    match check(sent) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other.map(drop),
    }
}

/// Ends a child that was just made and that nobody else knows of, and takes its status. Needs no descriptor.
pub fn discard(pid: i32) {
    let pid = Pid::from_raw(pid);
    // Both fail only if somebody has reaped it who waits for any child.
    let _ = kill(pid, Signal::SIGKILL);
    while waitpid(pid, None) == Err(Errno::EINTR) {}
}

/// Takes the status of the child behind `pidfd` if it has ended; `None` while it runs.
///
/// # Errors
///
/// ECHILD when somebody else has taken the status, or SIGCHLD is ignored.
pub fn take_status(pidfd: BorrowedFd<'_>) -> io::Result<Option<Ended>> {
    // A child that this process traces reports its stops too, whatever is asked for: those are left to who traces it.
    match wait_for_end(pidfd, libc::WNOWAIT)? {
        Some(_) => wait_for_end(pidfd, 0),
        None => Ok(None),
    }
}

/// waitid(2), without waiting.
fn wait_for_end(pidfd: BorrowedFd<'_>, flags: c_int) -> io::Result<Option<Ended>> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let id = pidfd.as_raw_fd() as libc::id_t;
    let flags = libc::WEXITED | libc::WNOHANG | flags;
    // SAFETY: `info` is a live siginfo_t, zeroed as waitid(2) asks with WNOHANG.
    check(unsafe { libc::waitid(libc::P_PIDFD, id, info.as_mut_ptr(), flags) })?;
    // SAFETY: all-zero is a valid siginfo_t, and waitid may have filled it.
    let info = unsafe { info.assume_init() };
    // SAFETY: waitid fills the SIGCHLD fields, or leaves them zero.
    let pid = unsafe { info.si_pid() };
    if pid == 0 {
        return Ok(None);
    }
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    Ok(match info.si_code {
        libc::CLD_EXITED => Some(Ended::Exited(status)),
        code @ (libc::CLD_KILLED | libc::CLD_DUMPED) => {
            Some(Ended::Signaled { signal: status, core_dumped: code == libc::CLD_DUMPED })
        }
        _ => None,
    })
}

/// Starts `program` in a new process; `stdin` becomes its standard input and nothing else above 2 is inherited.
///
/// posix_spawn(3) shares our memory until the exec, so the cost does not grow with the heap. Signals are unblocked in
/// the child and SIGPIPE has its default action, as the standard library does it.
///
/// # Errors
///
/// The program cannot be executed, or no process can be made.
pub fn spawn(
    program: &CStr,
    arguments: &[CString],
    environment: &[CString],
    stdin: BorrowedFd<'_>,
) -> io::Result<i32> {
    let actions = FileActions::new(stdin)?;
    let attributes = Attributes::new()?;
    let argv = null_terminated(arguments);
    let envp = null_terminated(environment);
    let mut pid = 0;
    // SAFETY: all pointers are to live values; both arrays end with a null pointer and point to C strings that
    // outlive the call.
    let error = unsafe {
        libc::posix_spawn(&mut pid, program.as_ptr(), &actions.0, &attributes.0, argv.as_ptr(), envp.as_ptr())
    };
    returned(error).map(|()| pid)
}

fn null_terminated(strings: &[CString]) -> Vec<*mut c_char> {
    strings.iter().map(|s| s.as_ptr().cast_mut()).chain([std::ptr::null_mut()]).collect()
}

/// The convention of posix_spawn's family: the error number itself is returned.
fn returned(error: c_int) -> io::Result<()> {
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// What the new process does with descriptors before its exec.
struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    fn new(stdin: BorrowedFd<'_>) -> io::Result<Self> {
        let mut raw = std::mem::MaybeUninit::uninit();
        // SAFETY: the pointer is to room for one posix_spawn_file_actions_t.
        returned(unsafe { libc::posix_spawn_file_actions_init(raw.as_mut_ptr()) })?;
        // SAFETY: initialised by the call above, which succeeded.
        let mut actions = Self(unsafe { raw.assume_init() });
        // SAFETY: `actions.0` is initialised.
        returned(unsafe { libc::posix_spawn_file_actions_adddup2(&mut actions.0, stdin.as_raw_fd(), 0) })?;
        // SAFETY: as above.
        returned(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(&mut actions.0, 3) })?;
        Ok(actions)
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed only here.
        unsafe { libc::posix_spawn_file_actions_destroy(&mut self.0) };
    }
}

/// Signal settings of the new process.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> io::Result<Self> {
        let mut raw = std::mem::MaybeUninit::uninit();
        // SAFETY: the pointer is to room for one posix_spawnattr_t.
        returned(unsafe { libc::posix_spawnattr_init(raw.as_mut_ptr()) })?;
        // SAFETY: initialised by the call above, which succeeded.
        let mut attributes = Self(unsafe { raw.assume_init() });
        let none = signal_set(&[])?;
        let defaults = signal_set(&[libc::SIGPIPE])?;
        let flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
        // SAFETY: both arguments are initialised.
        returned(unsafe { libc::posix_spawnattr_setsigmask(&mut attributes.0, &none) })?;
        // SAFETY: as above.
        returned(unsafe { libc::posix_spawnattr_setsigdefault(&mut attributes.0, &defaults) })?;
        // SAFETY: `attributes.0` is initialised.
        returned(unsafe { libc::posix_spawnattr_setflags(&mut attributes.0, flags as libc::c_short) })?;
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed only here.
        unsafe { libc::posix_spawnattr_destroy(&mut self.0) };
    }
}

fn signal_set(signals: &[c_int]) -> io::Result<libc::sigset_t> {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: the pointer is to room for one sigset_t.
    check(unsafe { libc::sigemptyset(set.as_mut_ptr()) })?;
    // SAFETY: initialised by the call above, which succeeded.
    let mut set = unsafe { set.assume_init() };
    for &signal in signals {
        // SAFETY: `set` is initialised.
        check(unsafe { libc::sigaddset(&mut set, signal) })?;
    }
    Ok(set)
}

/// Children of this process, zombies too, whose name is `name` (proc_pid_stat(5)). Reads all of /proc: for rare cases.
#[must_use]
pub fn children_named(name: &CStr) -> Vec<i32> {
    let own = std::process::id().cast_signed();
    let is_ours =
        |pid: &i32| Stat::read(*pid).is_some_and(|stat| stat.name == name.to_bytes() && stat.parent == own);
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_ours).collect()
}

/// Whether a process is gone, or on its way: it runs no code of its program any more.
#[must_use]
pub fn is_ending(pid: i32) -> bool {
    /// include/linux/sched.h: "Getting shut down".
    const PF_EXITING: u32 = 4;
    match Stat::read(pid) {
        Some(stat) => stat.flags & PF_EXITING != 0,
        None => matches!(kill(Pid::from_raw(pid), None), Err(Errno::ESRCH)),
    }
}

/// When a process was started, in clock ticks since the machine was. With its pid, that names a process for good.
#[must_use]
pub fn start_time(pid: i32) -> Option<u64> {
    Stat::read(pid).map(|stat| stat.start)
}

/// What `/proc/PID/stat` says (proc_pid_stat(5)).
struct Stat {
    name: Vec<u8>,
    parent: i32,
    /// The kernel's `PF_` flags.
    flags: u32,
    /// In clock ticks since the machine was started.
    start: u64,
}

impl Stat {
    /// "pid (name) state parent group session terminal its-group flags ...": the name may hold anything, also a parenthesis.
    fn read(pid: i32) -> Option<Self> {
        let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
        let (open, close) = (text.iter().position(|&b| b == b'(')?, text.iter().rposition(|&b| b == b')')?);
        let rest = std::str::from_utf8(&text[close + 1..]).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let name = text.get(open + 1..close)?.to_vec();
        let parent = fields.get(1)?.parse().ok()?;
        let (flags, start) = (fields.get(6)?.parse().ok()?, fields.get(19)?.parse().ok()?);
        Some(Self { name, parent, flags, start })
    }
}

/// Number of threads of this process; `None` where /proc does not say.
#[must_use]
pub fn thread_count() -> Option<usize> {
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

/// Whether this process certainly has one thread; where the kernel does not say, and for a moment after a thread has ended, it
/// is not certain.
#[must_use]
pub fn is_single_threaded() -> bool {
    // SAFETY: takes an integer. CLONE_THREAD has no effect in a process with one thread, and is an error in any other
    // (unshare(2)).
    unsafe { libc::unshare(libc::CLONE_THREAD) == 0 }
}

/// What [`clone_sibling`] returned into.
#[derive(Debug)]
pub enum Cloned {
    /// The caller: id and pidfd of the new process.
    Original(i32, OwnedFd),
    /// The new process.
    Copy,
}

/// What [`fork`] returned into.
#[derive(Debug)]
pub enum Forked {
    /// The caller: id of the new process.
    Original(i32),
    /// The new process.
    Copy,
}

/// Copies this process with the calling thread alone (fork(3)).
///
/// Handlers of pthread_atfork(3) run, and libc's own locks are free in the copy.
///
/// # Errors
///
/// No process left.
///
/// # Safety
///
/// The copy must take no lock that another thread may have held, and rely on nothing that another thread was changing: so it
/// must not return to callers that do not know of it.
#[inline]
pub unsafe fn fork() -> io::Result<Forked> {
    // SAFETY: what the copy may do is the caller's promise.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Forked::Copy),
        pid => Ok(Forked::Original(pid as i32)),
    }
}

/// Writes out what C code has buffered for all its output streams.
#[inline]
pub fn flush_c_streams() {
    // SAFETY: a null pointer stands for all streams (fflush(3)).
    unsafe { libc::fflush(std::ptr::null_mut()) };
}

unsafe extern "C" {
    /// on_exit(3), of the GNU C library; not in the libc crate.
    fn on_exit(handler: extern "C" fn(c_int, *mut libc::c_void), argument: *mut libc::c_void) -> c_int;

    /// What atexit(3) is made of ("DSO Object Destruction API" of the C++ ABI, and of the Linux Standard Base).
    fn __cxa_atexit(
        handler: extern "C" fn(*mut libc::c_void),
        argument: *mut libc::c_void,
        object: *mut libc::c_void,
    ) -> c_int;

    /// Runs the handlers of an object, and for none those of all.
    fn __cxa_finalize(object: *mut libc::c_void);
}

/// Has `end` run with the exit code when this process ends by exit(3), before all handlers that are there already; and
/// `end_of_handlers` in their place when it ends by [`run_exit_handlers`].
///
/// # Errors
///
/// No memory.
#[inline]
pub fn at_exit_first(
    end: extern "C" fn(c_int, *mut libc::c_void),
    end_of_handlers: extern "C" fn(*mut libc::c_void),
) -> io::Result<()> {
    let null = std::ptr::null_mut();
    // SAFETY: `end` is a plain function, valid for the life of the image; it gets the null pointer back.
    let first = unsafe { on_exit(end, null) };
    // SAFETY: as above. It belongs to no object that could be unloaded.
    let second = unsafe { __cxa_atexit(end_of_handlers, null, null) };
    if (first, second) == (0, 0) { Ok(()) } else { Err(Errno::ENOMEM.into()) }
}

/// Runs the handlers at exit, from the last to the first, as exit(3) does it; those of on_exit(3) are left out, and so are the
/// destructors of this thread's locals.
#[inline]
pub fn run_exit_handlers() {
    // SAFETY: null stands for all objects. Another thread may do the same, or end the process, at this moment: the C library
    // takes each handler off its list under a lock, and runs it once.
    unsafe { __cxa_finalize(std::ptr::null_mut()) };
}

/// Where the kernel keeps this thread's id in glibc's own memory, for [`clone_sibling`].
///
/// # Errors
///
/// A kernel without CONFIG_CHECKPOINT_RESTORE.
pub fn thread_id_address() -> io::Result<usize> {
    let mut address: usize = 0;
    // SAFETY: the kernel writes one pointer to the address given.
    check(unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &mut address) })?;
    Ok(address)
}

/// Copies this process; the copy becomes a child of *our parent* (CLONE_PARENT, clone(2)).
///
/// `thread_id` is [`thread_id_address`]: the kernel stores the new thread id there in the copy, so that glibc's
/// `abort` and `raise` hit the right thread.
///
/// # Errors
///
/// No process or descriptor left.
///
/// # Safety
///
/// The process must have one thread, and `thread_id` must be the result of [`thread_id_address`] on it.
pub unsafe fn clone_sibling(thread_id: usize) -> io::Result<Cloned> {
    let flags = libc::CLONE_PARENT
        | libc::CLONE_PIDFD
        | libc::CLONE_CHILD_SETTID
        | libc::CLONE_CHILD_CLEARTID
        | libc::SIGCHLD;
    let mut pidfd: c_int = -1;
    let at: *mut c_int = &mut pidfd;
    // The last two arguments, child_tid and tls, change places between architectures; tls is not used.
    #[cfg(target_arch = "x86_64")]
    let (fourth, fifth) = (thread_id, 0_usize);
    #[cfg(not(target_arch = "x86_64"))]
    let (fourth, fifth) = (0_usize, thread_id);
    // SAFETY: with a null stack the copy goes on with a copy of ours, as after fork(2). The caller promises a single
    // thread, so no lock of libc or of the allocator is held by a thread that the copy does not have.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone, i64::from(flags), 0_usize, at, fourth, fifth) })?;
    if pid == 0 {
        return Ok(Cloned::Copy);
    }
    // SAFETY: CLONE_PIDFD has just stored a new descriptor that nobody else knows.
    Ok(Cloned::Original(pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Takes a variable out of this process's environment.
///
/// # Safety
///
/// No other thread may read or change the environment at the same time.
pub unsafe fn remove_variable(name: &str) {
    // SAFETY: the caller's promise.
    unsafe { std::env::remove_var(name) };
}

/// Makes `environment` the environment of this process.
///
/// # Safety
///
/// No other thread may read or change the environment at the same time.
pub unsafe fn replace_environment(environment: Vec<(OsString, OsString)>) {
    // Other names can be inherited, but neither be set nor be taken out.
    let is_name = |key: &OsString| !key.is_empty() && !key.as_bytes().iter().any(|b| matches!(b, b'=' | 0));
    let is_new = |key: &OsString| environment.iter().all(|(other, _)| other != key);
    for (key, _) in std::env::vars_os().filter(|(key, _)| is_name(key) && is_new(key)) {
        // SAFETY: the caller's promise.
        unsafe { std::env::remove_var(key) };
    }
    for (key, value) in environment {
        if is_name(&key) && !value.as_bytes().contains(&0) {
            // SAFETY: the caller's promise.
            unsafe { std::env::set_var(key, value) };
        }
    }
}

/// What a signal does to this process.
#[derive(Debug, Clone, Copy)]
pub struct Disposition(SigAction);

impl Default for Disposition {
    /// What it does to a process that has not said anything (signal(7)).
    fn default() -> Self {
        Self(SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty()))
    }
}

impl Disposition {
    /// Nothing.
    #[must_use]
    pub fn ignore() -> Self {
        Self(SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty()))
    }
}

/// Sets what `signal` does, and returns what it did before.
///
/// # Errors
///
/// A signal that does what it does.
pub fn set_disposition(signal: Signal, disposition: &Disposition) -> io::Result<Disposition> {
    // SAFETY: to ignore a signal runs no code, nor does the default; any other disposition was in force before: its handler is fit to be one.
    let before = unsafe { sigaction(signal, &disposition.0) }?;
    Ok(Disposition(before))
}

/// Number of processors that are online (sysconf(3)); at least 1.
#[must_use]
pub fn online_processors() -> usize {
    let count = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0).max(1)
}

/// Ends this process at once: no exit handlers, no destructors, no flush.
#[inline]
pub fn exit_now(code: i32) -> ! {
    // SAFETY: takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// Has `handler` run when this process ends by returning from `main` or by exit(3).
///
/// # Errors
///
/// No memory.
pub fn at_exit(handler: extern "C" fn()) -> io::Result<()> {
    // SAFETY: `handler` is a plain function without arguments, valid for the life of the image.
    match unsafe { libc::atexit(handler) } {
        0 => Ok(()),
        _ => Err(Errno::ENOMEM.into()),
    }
}
