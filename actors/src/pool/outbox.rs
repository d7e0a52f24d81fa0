//! A worker's replies on their way out.
//!
//! A reply is written at once, unless it may be held: then it waits for those of the next tasks, which are short, and all go
//! in one write. Holding ends with [`MAX_HELD`] replies, [`FLUSH_AT`] bytes, or [`HOLD_TIME`]. The worker looks at its clock
//! between two tasks; for the task that turns out to be long there is the *flusher*, a thread that starts with the first held
//! reply. It looks once in [`TICK`] while replies are being held, and sleeps otherwise.

use super::frame::MAX_HELD;
use procession_ipc::gate;
use procession_ipc::stream::Stream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest time that a finished reply is held back while further tasks are short.
const HOLD_TIME: Duration = Duration::from_micros(50);

/// The clock is read after so many held replies: reading it costs as much as a short task.
const LOOK_EVERY: usize = 8;

/// Replies are written at the latest when this many bytes are waiting.
const FLUSH_AT: usize = 32 * 1024;

/// How often the flusher looks: what is held behind a long task is written within twice this time.
const TICK: Duration = Duration::from_millis(5);

/// After so many looks in vain, the flusher sleeps until replies are held again.
const PATIENCE: u32 = 16;

/// Replies that wait, and the stream that they go to.
#[derive(Debug)]
pub(super) struct Outbox {
    shared: Arc<Shared>,
    /// Whether the flusher runs; `None` before the first held reply.
    flusher: Option<Result<JoinHandle<()>, ()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug)]
struct State {
    stream: Arc<Stream>,
    bytes: Vec<u8>,
    held: usize,
    since: Option<Instant>,
    /// The pool is gone.
    ended: bool,
    flusher_sleeps: bool,
}

impl Outbox {
    pub(super) fn new(stream: Arc<Stream>) -> Self {
        let state =
            State { stream, bytes: Vec::new(), held: 0, since: None, ended: false, flusher_sleeps: false };
        Self { shared: Arc::new(Shared { state: Mutex::new(state), wake: Condvar::new() }), flusher: None }
    }

    /// Takes a reply; `may_hold` says whether it may wait. `false` when the pool is gone.
    pub(super) fn put(&mut self, reply: &[u8], may_hold: bool) -> bool {
        let may_hold = may_hold && self.has_flusher();
        let mut state = self.shared.lock();
        state.bytes.extend_from_slice(reply);
        if may_hold && state.goes_on_holding() {
            if std::mem::take(&mut state.flusher_sleeps) {
                self.shared.wake.notify_one();
            }
            return true;
        }
        state.flush()
    }

    /// Without a thread that looks after them, replies are not held.
    fn has_flusher(&mut self) -> bool {
        let shared = &self.shared;
        let flusher = self.flusher.get_or_insert_with(|| {
            let shared = Arc::clone(shared);
            let builder =
                std::thread::Builder::new().name("procession-flush".to_owned()).stack_size(64 * 1024);
            // It takes no lock that a copy of the worker would need, so it may be anywhere when one is made.
            gate::spawn(builder, move |passage| {
                drop(passage);
                shared.look_after();
            })
            .map_err(drop)
        });
        flusher.is_ok()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of the flusher: it ends with the process.
    fn look_after(&self) {
        let mut state = self.lock();
        let mut in_vain = 0;
        while !state.ended {
            let before = state.since;
            state = if in_vain < PATIENCE {
                self.wake.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0
            } else {
                state.flusher_sleeps = true;
                in_vain = 0;
                self.wake.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
            match state.since {
                // The same replies as a tick ago: a long task is running.
                Some(since) if before == Some(since) => drop(state.flush()),
                Some(_) => in_vain = 0,
                None => in_vain += 1,
            }
        }
    }
}

impl State {
    fn goes_on_holding(&mut self) -> bool {
        self.held += 1;
        let since = *self.since.get_or_insert_with(Instant::now);
        let in_time = !self.held.is_multiple_of(LOOK_EVERY) || since.elapsed() < HOLD_TIME;
        in_time && self.held < MAX_HELD && self.bytes.len() < FLUSH_AT
    }

    /// Writes all replies; `false` when the pool is gone.
    fn flush(&mut self) -> bool {
        self.ended |= !self.stream.write_all(&self.bytes).unwrap_or(false);
        self.bytes.clear();
        self.bytes.shrink_to(FLUSH_AT * 4);
        (self.held, self.since) = (0, None);
        !self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use procession_ipc::spin::Spin;

    fn pair() -> (Outbox, Stream) {
        let (ours, theirs) = Stream::pair().unwrap();
        (Outbox::new(Arc::new(ours)), theirs)
    }

    fn read(stream: &Stream) -> usize {
        stream.read(&mut [0; 4096], &mut Spin::default()).unwrap()
    }

    #[test]
    fn a_plain_reply_goes_out_at_once_with_those_held_before() {
        let (mut outbox, stream) = pair();
        assert!(outbox.put(b"ab", true));
        assert!(outbox.put(b"c", false));
        let mut bytes = [0; 8];
        let mut have = 0;
        while have < 3 {
            have += stream.read(&mut bytes[have..], &mut Spin::default()).unwrap();
        }
        assert_eq!(&bytes[..3], b"abc");
    }

    #[test]
    fn a_reply_held_behind_a_long_task_goes_out_all_the_same() {
        let (mut outbox, stream) = pair();
        for _ in 0..3 {
            assert!(outbox.put(b"x", true));
            // Nothing else is put: only the flusher can write it. Also after it has gone to sleep.
            assert_eq!(read(&stream), 1);
        }
    }

    #[test]
    fn never_more_than_the_limit_is_held() {
        let (mut outbox, stream) = pair();
        for _ in 0..MAX_HELD {
            assert!(outbox.put(b"x", true));
        }
        assert_eq!(outbox.shared.lock().held, 0);
        drop(outbox);
        assert!(read(&stream) >= 1);
    }

    #[test]
    fn a_pool_that_is_gone_is_noticed() {
        let (mut outbox, stream) = pair();
        drop(stream);
        assert!(!outbox.put(b"x", false));
    }
}
