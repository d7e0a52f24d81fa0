//! For tests: a wait that signals interrupt again and again, with a handler and without SA_RESTART, as EINTR is met in life.

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// How many signals a wait must outlast before what it waits for may come.
const ENOUGH: usize = 20;

static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Runs `wait` on this thread while SIGUSR1 hits it each millisecond. After some of them, `release` runs on another thread.
pub(crate) fn outlast_signals<T>(wait: impl FnOnce() -> T, release: impl FnOnce() + Send) -> T {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let action = SigAction::new(SigHandler::Handler(count), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler only adds to an atomic number; nothing else in these tests uses SIGUSR1.
    unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    // SAFETY: takes nothing and touches no memory of ours.
    let waiter = unsafe { libc::pthread_self() };
    let is_over = AtomicBool::new(false);
    let until = HANDLED.load(Ordering::Relaxed) + ENOUGH;
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut release = Some(release);
            while !is_over.load(Ordering::Relaxed) {
                // SAFETY: the waiting thread is alive: it joins this one before it goes on.
                assert_eq!(unsafe { libc::pthread_kill(waiter, libc::SIGUSR1) }, 0);
                if HANDLED.load(Ordering::Relaxed) >= until {
                    release.take().into_iter().for_each(|release| release());
                }
                thread::park_timeout(Duration::from_millis(1));
            }
        });
        let result = wait();
        is_over.store(true, Ordering::Relaxed);
        result
    })
}
