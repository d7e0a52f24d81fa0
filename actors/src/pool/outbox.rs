//! A worker's replies on their way out.
//!
//! A reply is written at once, unless it may be held: then it waits for those of the next tasks, which are short, and all go
//! in one write. Holding ends with [`MAX_HELD`] replies, [`FLUSH_AT`] bytes, or [`HOLD_TIME`]. The worker looks at its clock
//! between two tasks; for the task that turns out to be long there is the *flusher*, a thread that starts with the first held
//! reply. It looks once in [`TICK`] while replies are being held, and sleeps otherwise.
//!
//! The worker takes the lock when it begins to hold and when it writes, and none for a reply in between: it shows those to
//! the flusher in a [`Mirror`]. Whoever writes has the lock, and so has the worker when it clears the mirror.

use super::frame::MAX_HELD;
use super::mirror::Mirror;
use procession_ipc::gate;
use procession_ipc::stream::Stream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longest time that a finished reply is held back while further tasks are short.
const HOLD_TIME: Duration = Duration::from_micros(50);

/// The clock is read after so many held replies: reading it costs as much as a short task.
const LOOK_EVERY: usize = 8;

/// Replies are written at the latest when this many bytes are waiting.
const FLUSH_AT: usize = 16 * 1024;

/// How often the flusher looks: what is held behind a long task is written within twice this time.
const TICK: Duration = Duration::from_millis(5);

/// After so many looks in vain, the flusher sleeps until replies are held again.
const PATIENCE: u32 = 16;

/// A buffer that grew larger than this is given back.
const KEEP: usize = 128 * 1024;

/// Replies that wait, and the stream that they go to.
#[derive(Debug)]
pub(super) struct Outbox {
    /// Replies that are held, and the one that is being made.
    bytes: Vec<u8>,
    /// How many are held, and since when.
    held: usize,
    since: Instant,
    shared: Arc<Shared>,
    /// Whether the flusher runs; `None` before the first held reply.
    flusher: Option<Result<JoinHandle<()>, ()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// The replies that are held, for the flusher.
    mirror: Mirror,
    /// The flusher has found a long task: the worker holds no more replies in this row.
    is_over: AtomicBool,
}

#[derive(Debug)]
struct State {
    stream: Arc<Stream>,
    /// Number of the row of replies that is being held; `None` while none is.
    row: Option<u64>,
    rows: u64,
    /// How many bytes of the row the flusher has written.
    written: usize,
    /// The pool is gone.
    ended: bool,
    flusher_sleeps: bool,
}

impl Outbox {
    pub(super) fn new(stream: Arc<Stream>) -> Self {
        let state = State { stream, row: None, rows: 0, written: 0, ended: false, flusher_sleeps: false };
        let (state, mirror, is_over) = (Mutex::new(state), Mirror::new(FLUSH_AT), AtomicBool::new(false));
        let shared = Shared { state, wake: Condvar::new(), mirror, is_over };
        Self { bytes: Vec::new(), held: 0, since: Instant::now(), shared: Arc::new(shared), flusher: None }
    }

    /// Where the next reply is written, behind those that are held.
    pub(super) fn space(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Takes the reply that was written; `may_hold` says whether it may wait. `false` when the pool is gone.
    pub(super) fn put(&mut self, may_hold: bool) -> bool {
        may_hold && self.hold() || self.flush()
    }

    /// Holds the reply, unless holding has to end with it.
    fn hold(&mut self) -> bool {
        self.held += 1;
        let is_in_time = match self.held {
            1 => self.begin(),
            held => !held.is_multiple_of(LOOK_EVERY) || self.since.elapsed() < HOLD_TIME,
        };
        if !is_in_time || self.held >= MAX_HELD || self.bytes.len() >= FLUSH_AT {
            return false;
        }
        self.shared.mirror.show(&self.bytes);
        // After the reply was shown: the flusher looks several times after it has said so, and finds what was shown before
        // this could be seen.
        !self.shared.is_over.load(Ordering::Relaxed)
    }

    /// Begins a row of held replies; without a thread that looks after them, none are held.
    fn begin(&mut self) -> bool {
        if !self.has_flusher() {
            return false;
        }
        self.since = Instant::now();
        let mut state = self.shared.lock();
        state.rows += 1;
        state.row = Some(state.rows);
        if std::mem::take(&mut state.flusher_sleeps) {
            self.shared.wake.notify_one();
        }
        true
    }

    /// Writes all replies; `false` when the pool is gone.
    fn flush(&mut self) -> bool {
        let mut state = self.shared.lock();
        state.write(&self.bytes);
        (state.row, state.written) = (None, 0);
        self.shared.mirror.clear();
        self.shared.is_over.store(false, Ordering::Relaxed);
        self.bytes.clear();
        self.bytes.shrink_to(KEEP);
        self.held = 0;
        !state.ended
    }

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
            let before = state.row;
            state = if in_vain < PATIENCE {
                self.wake.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0
            } else {
                state.flusher_sleeps = true;
                in_vain = 0;
                self.wake.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
            if state.row.is_some() && state.row != before {
                in_vain = 0;
                continue;
            }
            in_vain += 1;
            if state.row.is_some() {
                // The same replies as a tick ago: a long task is running.
                self.is_over.store(true, Ordering::Relaxed);
                state.write(&self.mirror.read());
            }
        }
    }
}

impl State {
    /// Writes what the flusher has not written of the replies in `bytes`.
    fn write(&mut self, bytes: &[u8]) {
        self.ended |= !self.stream.write_all(&bytes[self.written..]).unwrap_or(false);
        self.written = bytes.len();
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

    fn put(outbox: &mut Outbox, reply: &[u8], may_hold: bool) -> bool {
        outbox.space().extend_from_slice(reply);
        outbox.put(may_hold)
    }

    fn read(stream: &Stream) -> usize {
        stream.read(&mut [0; 4096], &mut Spin::default()).unwrap()
    }

    #[test]
    fn a_plain_reply_goes_out_at_once_with_those_held_before() {
        let (mut outbox, stream) = pair();
        assert!(put(&mut outbox, b"ab", true));
        assert!(put(&mut outbox, b"c", false));
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
            assert!(put(&mut outbox, b"x", true));
            // Nothing else is put: only the flusher can write it. Also after it has gone to sleep.
            assert_eq!(read(&stream), 1);
        }
    }

    #[test]
    fn what_the_flusher_has_written_is_not_written_again() {
        let (mut outbox, stream) = pair();
        let (mut sent, mut came) = (Vec::new(), Vec::new());
        for n in 0..30_u8 {
            sent.extend([n; 5]);
            assert!(put(&mut outbox, &[n; 5], true));
            // Nothing else is put before all have come.
            while n % 3 == 2 && came.len() < sent.len() {
                let mut bytes = [0; 64];
                let count = stream.read(&mut bytes, &mut Spin::default()).unwrap();
                came.extend_from_slice(&bytes[..count]);
            }
        }
        assert_eq!(came, sent);
    }

    #[test]
    fn never_more_than_the_limit_is_held() {
        let (mut outbox, stream) = pair();
        for _ in 0..MAX_HELD {
            assert!(put(&mut outbox, b"x", true));
        }
        assert_eq!((outbox.held, outbox.shared.lock().row), (0, None));
        drop(outbox);
        assert!(read(&stream) >= 1);
    }

    #[test]
    fn a_pool_that_is_gone_is_noticed() {
        let (mut outbox, stream) = pair();
        drop(stream);
        assert!(!put(&mut outbox, b"x", false));
    }
}
