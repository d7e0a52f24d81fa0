//! The gate: what a fork waits for, and what its copy gives up.
//!
//! A fork copies the memory of a process but only one of its threads. Whatever another thread had in its hands at that
//! moment stays there for ever in the copy: a lock remains locked, a change half made. So there is one gate for all of
//! ours. Who does something that must not be cut in half is *inside*, with a [`Passage`]; a fork closes the gate, which
//! means that nobody is inside while it copies.
//!
//! ```text
//! a thread                           a fork
//! ------------------------------     -------------------------------------------------------------
//! enter("a start")  -> inside        holds and flushes stdout and stderr
//! ... locks, descriptors, actors     asks long stayers to step aside, waits until nobody is inside
//! drop(passage)     -> outside       refuses if threads run that are not ours
//! blocks in poll, join, recv         fork; the copy becomes a process of its own (`Closed::become_copy`)
//! ```
//!
//! Invariants:
//! - **one lock**: the state below has one mutex, and the fork holds it while it copies. So in the copy it belongs to
//!   the one thread that is left;
//! - locks of process-wide statics of ours, and ractor's and tracing's registries, are only taken inside;
//! - a descriptor that belongs to this process alone is a [`PrivateFd`], made and registered inside;
//! - nobody inside waits for another thread, except for one that it has just started and that got its passage;
//! - a fork waits at most [`PATIENCE`], then it says who was inside. Newcomers let a waiting fork go first;
//! - while a fork waits for standard output it is not in anybody's way, and while it waits for the gate it gives standard
//!   output back now and then, so neither of the two can be part of a deadlock.
//!
//! Each thread of ours is started by [`spawn`] or [`run_aside`], and known by its id. It is outside while it blocks. A thread of
//! the program is none of ours, except while it waits for us and is at [`rest`].
//! What each thread has in its hands when it is outside is dead in the copy and never touched there: the runtime of the
//! actors with its queues and its sockets, the state of each pool (`Origin` refuses it), the replies held by a worker.
//!
//! Process-wide statics, and what becomes of them in a copy:
//!
//! | static | in the copy |
//! |---|---|
//! | the gate itself | nobody inside, no threads, no private descriptors |
//! | `child`: the table of children | emptied |
//! | `start::forkserver`: the server | forgotten: it is the parent's |
//! | `start::identity`, `start::lifeline` | replaced when the copy adopts its own |
//! | `authkey` | kept: it is the family's |
//! | `start::method`, `start::preload`, `start::surroundings` | kept: what the parent decided holds for the copy's children |
//! | `log`: the role | that of another process, so the copy has none until it adopts its own |
//! | `call`: the list of actors | kept; each is connected to anew (`PerProcess`) |
//! | `sync::tasks`: the threads | those of another process, so the copy starts its own (`PerProcess`) |
//! | `call`: the thread | that of another process, so the copy starts its own |
//! | `unwind`: the hook, `sys::image`: the image | kept: they are about the program |
//! | `deposit`: what is kept for others | nothing: it is kept by the parent (`PerProcess`) |
//! | `arena::handle`: the handles of this process | kept: the copy has them too, and counts for itself as it joins |
//! | `arena::foreign`: the isolated queues | kept: mapped in the copy too, which is outside of all of them; places whose keepers were about to end are free |
//! | `arena`: the file, and where it is mapped | kept: the family's; the copy's own id is wiped by the kernel, so it joins anew |
//! | statics of the layers above | what their [`Hook`] does |

mod private;
mod stdio;
mod threads;

pub use private::PrivateFd;
pub use threads::{Rest, rest, run_aside, spawn};

use crate::sys::fd::Grave;
use crate::sys::process;
use crate::{Error, Result};
use private::Registry;
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use stdio::HeldStdio;
use stdio::flush_stdout;
pub(crate) use stdio::flush_stdout_at_end;
use threads::{Others, Thread};

/// How long a fork waits for those inside. 5 s, as OTP's default for stopping somebody.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long a fork waits for the gate before it gives standard output back for a moment, at first. In that moment others
/// come in; so each wait is twice as long as the one before it, or a fork on a busy machine would never have its turn.
const SLICE: Duration = Duration::from_millis(10);

/// And at last.
const LONGEST_SLICE: Duration = Duration::from_millis(320);

/// How long threads may take to end that were seen ending, or that somebody has joined: the kernel lists them for a while.
const LAST_MOMENT: Duration = Duration::from_millis(200);

struct State {
    /// What those inside are doing.
    inside: Vec<&'static str>,
    /// How many forks wait.
    forks: u32,
    /// The threads of ours.
    threads: Vec<Thread>,
    registry: Registry,
    hooks: Vec<Hook>,
}

/// All of this module that a copy writes to. It is aligned to lie in one page: each page has to be copied when it is first
/// written to.
#[repr(align(256))]
struct Gate {
    state: Mutex<State>,
    /// How many of our forks lie between this process and the one that was executed.
    epoch: AtomicU32,
    /// The process whose end has begun.
    ending: AtomicU32,
}

const _: () = assert!(size_of::<Gate>() == align_of::<Gate>());

static GATE: Gate = Gate {
    state: Mutex::new(State {
        inside: Vec::new(),
        forks: 0,
        threads: Vec::new(),
        registry: Registry::new(),
        hooks: Vec::new(),
    }),
    epoch: AtomicU32::new(0),
    ending: AtomicU32::new(0),
};

/// Somebody left, or a fork no longer waits.
static CHANGED: Condvar = Condvar::new();

thread_local! {
    /// How many passages this thread holds: only the outermost one counts.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Every change of the state is complete between two statements, so a panic does not spoil it.
fn lock() -> MutexGuard<'static, State> {
    GATE.state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What another layer contributes to each fork.
#[derive(Debug, Clone, Copy)]
pub struct Hook {
    /// Asks a thread that may be inside for long to step aside soon. Called without any lock.
    pub nudge: fn(),
    /// In the copy: forgets what was the parent's. Nobody else runs there.
    pub forget: fn(),
}

/// Adds a hook. It is for a layer, once in its life: nothing takes one away again.
pub fn register(hook: Hook) {
    lock().hooks.push(hook);
}

/// Proof that no fork by us copies this process while it lives.
#[derive(Debug)]
#[must_use = "the gate is held as long as the passage lives"]
pub struct Passage {
    what: &'static str,
    /// It counts for its thread and stays on it.
    _thread: std::marker::PhantomData<*const ()>,
}

/// Goes inside, to do `what`; waits while a fork is under way.
pub fn enter(what: &'static str) -> Passage {
    if depth() == 0 {
        come_in(what);
    }
    Passage::on_this_thread(what)
}

/// Whether this thread is inside.
pub(crate) fn is_inside() -> bool {
    depth() > 0
}

/// Waits for forks, and counts somebody inside.
fn come_in(what: &'static str) {
    let mut state = lock();
    while state.forks > 0 {
        state = CHANGED.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    state.inside.push(what);
}

/// Counts somebody out.
fn go_out(what: &'static str) {
    let mut state = lock();
    // By address: it is the text that came in, and a copy need not look at it.
    if let Some(at) = state.inside.iter().position(|&inside| std::ptr::eq(inside, what)) {
        state.inside.swap_remove(at);
    }
    if state.forks > 0 {
        CHANGED.notify_all();
    }
}

/// Thread-locals may be gone in the last moments of a thread; then it counts each passage.
fn depth() -> u32 {
    DEPTH.try_with(Cell::get).unwrap_or(0)
}

fn set_depth(depth: u32) {
    let _ = DEPTH.try_with(|cell| cell.set(depth));
}

impl Passage {
    fn on_this_thread(what: &'static str) -> Self {
        set_depth(depth() + 1);
        Self { what, _thread: std::marker::PhantomData }
    }
}

impl Drop for Passage {
    #[inline]
    fn drop(&mut self) {
        let left = depth().saturating_sub(1);
        set_depth(left);
        if left == 0 {
            go_out(self.what);
        }
    }
}

/// The process in which something was made: after a fork, the copy of it is not for use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    epoch: u32,
    pid: u32,
}

/// Whether this process is a copy of one of ours, made by a fork of ours.
pub(crate) fn is_copy() -> bool {
    GATE.epoch.load(Ordering::Relaxed) != 0
}

impl Origin {
    /// This process.
    #[must_use]
    pub fn here() -> Self {
        /// Epoch and process id, as they were last asked for: each call of an actor and each task has an origin, and to ask
        /// the kernel takes longer than the rest of it.
        static LAST: AtomicU64 = AtomicU64::new(0);
        let epoch = GATE.epoch.load(Ordering::Relaxed);
        let last = LAST.load(Ordering::Relaxed);
        if last != 0 && last >> 32 == u64::from(epoch) {
            return Self { epoch, pid: last as u32 };
        }
        let pid = std::process::id();
        LAST.store(u64::from(epoch) << 32 | u64::from(pid), Ordering::Relaxed);
        Self { epoch, pid }
    }

    /// Whether this is the process. Costs one load; copies made by somebody else's fork are not told apart.
    #[must_use]
    pub fn is_here(self) -> bool {
        self.epoch == GATE.epoch.load(Ordering::Relaxed)
    }

    /// Refuses the use of `what` in a copy of the process that made it.
    ///
    /// # Errors
    ///
    /// [`Error::NotCreator`].
    pub fn check(self, what: &'static str) -> Result<()> {
        if self.is_here() { Ok(()) } else { Err(Error::NotCreator { what, creator: self.pid }) }
    }
}

/// Something that each process has of its own: a copy of it begins with a new one.
///
/// What its parent had stays in memory and is not touched, since another thread may have been in the middle of it.
#[derive(Debug)]
pub(crate) struct PerProcess<T> {
    origin: Origin,
    value: T,
    next: OnceLock<Box<Self>>,
}

impl<T: Default> PerProcess<T> {
    pub(crate) fn get(&self) -> &T {
        if self.origin.is_here() {
            return &self.value;
        }
        let _passage = enter("what each process has of its own");
        self.next.get_or_init(Box::default).get()
    }
}

impl<T: Default> Default for PerProcess<T> {
    fn default() -> Self {
        Self { origin: Origin::here(), value: T::default(), next: OnceLock::new() }
    }
}

/// Says that the exit handlers of this process run: from now on, nobody forks. Relaxed: who forks looks at it when the gate is
/// closed, and a look that comes too early costs nothing but a copy that is ended with the others.
#[inline]
pub(crate) fn begin_end() {
    GATE.ending.store(own_pid(), Ordering::Relaxed);
}

/// Whether they run.
pub(crate) fn is_ending() -> bool {
    GATE.ending.load(Ordering::Relaxed) == own_pid()
}

/// std's [`id`](std::process::id), without a look at a page of code that a copy may not have touched yet.
pub(crate) fn own_pid() -> u32 {
    nix::unistd::getpid().as_raw().unsigned_abs()
}

/// The gate, closed: nobody is inside, standard output is flushed and ours.
pub(crate) struct Closed {
    state: MutexGuard<'static, State>,
    /// Nothing if no other thread could hold it.
    stdio: Option<HeldStdio>,
    is_alone: bool,
}

/// Closes the gate for a fork. The caller is outside.
///
/// # Errors
///
/// [`Error::Quiesce`] if somebody stays inside; [`Error::OtherThreads`] if there are threads that are not ours, unless
/// they are allowed.
pub(crate) fn close(allow_threads: bool) -> Result<Closed> {
    if process::is_single_threaded() {
        let state = lock();
        if state.inside.is_empty() {
            flush_stdout();
            process::flush_c_streams();
            return Ok(Closed { state, stdio: None, is_alone: true });
        }
    }
    let begin = Instant::now();
    let (mut nudged, mut slice) = (false, SLICE);
    loop {
        let stdio = HeldStdio::flushed();
        let found = match wait_until_empty(&mut nudged, slice) {
            Ok(mut state) => match threads::others(&mut state) {
                Ok(Others::None) => {
                    // What C code has buffered; with strangers about, one of them may hold a stream for ever.
                    process::flush_c_streams();
                    return Ok(Closed { state, stdio: Some(stdio), is_alone: true });
                }
                _ if allow_threads => return Ok(Closed { state, stdio: Some(stdio), is_alone: false }),
                Ok(others) => others.into_error(),
                Err(error) => return Err(error),
            },
            Err(what) if begin.elapsed() < PATIENCE => {
                drop((stdio, what));
                slice = LONGEST_SLICE.min(slice * 2);
                std::thread::yield_now();
                continue;
            }
            Err(what) => return Err(Error::Quiesce { what, after: PATIENCE }),
        };
        // Threads that have just ended are still listed for a moment.
        if begin.elapsed() >= LAST_MOMENT {
            return Err(found);
        }
        drop(stdio);
        std::thread::yield_now();
    }
}

/// Waits until nobody is inside; at most for a slice, and then says what somebody is doing there.
fn wait_until_empty(nudged: &mut bool, slice: Duration) -> Result<MutexGuard<'static, State>, &'static str> {
    let mut state = lock();
    if state.inside.is_empty() {
        return Ok(state);
    }
    state.forks += 1;
    if !std::mem::replace(nudged, true) {
        let hooks = state.hooks.clone();
        drop(state);
        hooks.iter().for_each(|hook| (hook.nudge)());
        state = lock();
    }
    (state, _) = CHANGED
        .wait_timeout_while(state, slice, |state| !state.inside.is_empty())
        .unwrap_or_else(PoisonError::into_inner);
    state.forks -= 1;
    CHANGED.notify_all();
    match state.inside.first() {
        None => Ok(state),
        Some(&what) => Err(what),
    }
}

impl Closed {
    /// Whether only threads of ours run, of which none is inside.
    pub(crate) fn is_alone(&self) -> bool {
        self.is_alone
    }

    /// In the copy: this process begins. What was the parent's alone is dead, and nobody is inside; nor need be, since there is
    /// no other thread.
    ///
    /// Each page that is written here is copied: nothing is allocated.
    #[inline]
    pub(crate) fn become_copy(self, grave: &Grave, keeps_captured: bool) {
        let Self { mut state, stdio, is_alone: _ } = self;
        GATE.epoch.fetch_add(1, Ordering::Relaxed);
        state.inside.clear();
        state.threads.clear();
        state.forks = 0;
        state.registry.bury(grave, keeps_captured);
        let hooks = std::mem::take(&mut state.hooks);
        drop((state, stdio));
        if !hooks.is_empty() {
            hooks.iter().for_each(|hook| (hook.forget)());
            lock().hooks = hooks;
        }
    }
}

#[cfg(test)]
mod tests;
