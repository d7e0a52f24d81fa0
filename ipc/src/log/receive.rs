//! The thread `procession-log`: reads what other processes log and replays it here.
//!
//! It starts with the first process that is started while this program has a subscriber, and lives as long as this
//! process. It holds the only receiving end; we keep a sending end for each next child, so the socket has no end of
//! its own.
//!
//! [`Receiver::settle`] is how `join` keeps its promise: what a process sent before it ended lies in the socket, in
//! order, so one pass of the thread over what lies there now is all that must be waited for. A pass looks first for
//! processes that are gone, then reads, then closes what they left open.

use super::replay::Replay;
use crate::gate::{self, Passage, PrivateFd};
use crate::spin::Spin;
use crate::stream::{Interest, Wake, wait_any};
use crate::sys::socket::packet_pair;
use crate::{Error, Result, unwind};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::warn;

/// What the socket may hold, in bytes as the kernel counts them; it may allow less (net.core.wmem_max).
const ROOM: usize = 1 << 20;

/// Most messages in one pass: more than the socket can hold, so that one pass sees all that lay there when it began.
const PASS: usize = 8 * 1024;

/// How long [`Receiver::settle`] waits while the subscriber does not take the next message. Until it moves again, nobody waits
/// any more.
const PATIENCE: Duration = Duration::from_secs(2);

/// This process's end of the log of its children.
#[derive(Debug)]
pub(super) struct Receiver {
    /// The end that children get.
    sender: PrivateFd,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    wake: Wake,
    /// Messages handled so far. Relaxed: only compared with itself.
    handled: AtomicU64,
    progress: Mutex<Progress>,
    changed: Condvar,
}

/// Passes are numbered: one that begins after it was asked for answers for it.
#[derive(Debug, Default)]
struct Progress {
    asked: u64,
    done: u64,
    /// How many messages had been handled when somebody waited in vain.
    stuck_at: Option<u64>,
    /// The thread has left.
    is_over: bool,
}

thread_local! {
    static IS_LOG_THREAD: Cell<bool> = const { Cell::new(false) };
}

impl Receiver {
    /// Starts the thread.
    pub(super) fn start() -> Result<Self> {
        let doing = "open a socket for the log of children";
        let (socket, sender) = packet_pair().map_err(|e| Error::os(doing, e))?;
        let socket = PrivateFd::from(socket);
        setsockopt(&sender, sockopt::SndBuf, &ROOM).map_err(|e| Error::os(doing, e))?;
        let (progress, changed) = (Mutex::default(), Condvar::new());
        let shared = Arc::new(Shared { wake: Wake::new()?, handled: AtomicU64::new(0), progress, changed });
        let own = Arc::clone(&shared);
        let builder = std::thread::Builder::new().name("procession-log".to_owned());
        gate::spawn(builder, move |passage| run(&socket, &own, passage))
            .map_err(|e| Error::os("start the thread that receives the log of children", e))?;
        Ok(Self { sender: sender.into(), shared })
    }

    /// The end that children get.
    pub(super) fn sender(&self) -> &PrivateFd {
        &self.sender
    }

    /// Whether the thread has left, which it does when somebody shut the socket down.
    pub(super) fn is_over(&self) -> bool {
        self.shared.progress().is_over
    }

    /// Waits until everything that has been sent so far was handed to the subscriber, unless that stands still for
    /// [`PATIENCE`]. A slow one is waited for: there are at most [`PASS`] messages.
    pub(super) fn settle(&self) {
        // A subscriber that joins a process must not wait for itself.
        if IS_LOG_THREAD.try_with(Cell::get).unwrap_or(true) {
            return;
        }
        let mut progress = self.shared.progress();
        progress.asked += 1;
        let own = progress.asked;
        self.shared.wake.wake();
        let is_waiting = |progress: &mut Progress| progress.done < own && !progress.is_over;
        let mut handled = self.shared.handled.load(Ordering::Relaxed);
        while is_waiting(&mut progress) && progress.stuck_at != Some(handled) {
            let waited = self.shared.changed.wait_timeout_while(progress, PATIENCE, is_waiting);
            let (next, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            progress = next;
            let before = std::mem::replace(&mut handled, self.shared.handled.load(Ordering::Relaxed));
            progress.stuck_at = (timeout.timed_out() && before == handled).then_some(handled);
        }
    }
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The life of the thread.
fn run(socket: &PrivateFd, shared: &Shared, mut passage: Passage) {
    IS_LOG_THREAD.set(true);
    let (mut replay, mut spin) = (Replay::default(), Spin::default());
    let mut buffer = vec![0; super::wire::MESSAGE_LIMIT];
    loop {
        let own = [socket.as_fd(), shared.wake.as_fd()];
        let watched: Vec<_> =
            own.into_iter().chain(replay.sentinels()).map(|fd| (fd, Interest::Read)).collect();
        // Only a descriptor that is none, or no memory: then the log ends and not the program.
        drop(passage);
        let is_waiting = wait_any(&watched, &mut spin).is_ok();
        passage = gate::enter("the subscriber that gets the log of children");
        shared.wake.clear();
        let asked = shared.progress().asked;
        let ended = replay.ended();
        let is_open = is_waiting
            && read(socket, &mut buffer, |bytes| {
                // A panic of the subscriber has printed itself; it costs this message.
                let _ = unwind::catch(|| replay.message(bytes));
                shared.handled.fetch_add(1, Ordering::Relaxed);
            });
        for pid in ended.into_iter().chain(replay.latecomers()) {
            let _ = unwind::catch(|| replay.forget(pid));
        }
        let mut progress = shared.progress();
        (progress.done, progress.is_over) = (asked, !is_open);
        drop(progress);
        shared.changed.notify_all();
        if !is_open {
            return warn!(target: super::TARGET, "the log of child processes cannot be received any more");
        }
    }
}

/// Hands over what lies in the socket. `false` when nothing will come any more.
fn read(socket: &PrivateFd, buffer: &mut [u8], mut handle: impl FnMut(&[u8])) -> bool {
    for _ in 0..PASS {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        match recv(socket.as_fd().as_raw_fd(), buffer, flags) {
            // We hold a sending end and nobody sends empty messages: a child has shut the socket down.
            Ok(0) => return false,
            // A message that is too long gives its whole length, and is none of ours.
            Ok(length) => handle(buffer.get(..length).unwrap_or_default()),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return true,
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::wire::{Body, Message};
    use crate::sys::socket;
    use std::io::IoSlice;

    fn send(receiver: &Receiver, bytes: &[u8]) {
        socket::send(receiver.sender().as_fd(), &[IoSlice::new(bytes)], &[], MsgFlags::empty()).unwrap();
    }

    fn handled(receiver: &Receiver) -> u64 {
        receiver.settle();
        receiver.shared.handled.load(Ordering::Relaxed)
    }

    #[test]
    fn garbage_in_the_socket_touches_no_other_message() {
        let receiver = Receiver::start().unwrap();
        let good =
            Message { pid: 1, process: "p", lost: 0, body: Body::Close { ids: vec![1] } }.encode().unwrap();
        for garbage in [&[0xff; 9][..], &[0; 40_000], &good[..good.len() - 1], &[0x80; 32 * 1024]] {
            send(&receiver, garbage);
            send(&receiver, &good);
        }
        assert_eq!(handled(&receiver), 8);
        assert!(!receiver.is_over());
    }

    #[test]
    fn a_socket_that_somebody_shut_down_ends_the_thread_and_keeps_nobody_waiting() {
        let receiver = Receiver::start().unwrap();
        nix::sys::socket::shutdown(receiver.sender().as_fd().as_raw_fd(), nix::sys::socket::Shutdown::Write)
            .unwrap();
        receiver.settle();
        assert!(receiver.is_over());
        receiver.settle();
    }
}
