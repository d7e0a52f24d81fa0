//! A lane: the pool's end of the stream to one worker, and the tasks that are on it.
//!
//! A lane is owned by exactly one party at a time: the idle list, the driver thread, or a caller that leases it for one
//! call. So nothing in it needs a lock.

use super::frame::{FromWorker, Heading, Inbox, MAX_HELD, put_heading};
use super::job::Bundle;
use procession_ipc::codec;
use procession_ipc::spin::Spin;
use procession_ipc::start::outcome::Failure;
use procession_ipc::stream::Stream;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Work that is queued at a worker ahead of the task in its hands, so that it never waits for us.
const AHEAD: Duration = Duration::from_micros(200);

/// The same for short tasks, which are cheaper in larger numbers.
const AHEAD_IF_SHORT: Duration = Duration::from_millis(1);

/// Tasks that take longer are handed out one at a time, as are those of which nothing is known: what is queued behind a long
/// task waits for it even if another worker has nothing to do. To wait for us costs such a task little.
const LONG: Duration = Duration::from_millis(1);

/// A worker that has not answered for so long is in a long task, however short those before it were.
const STALLED: Duration = Duration::from_millis(10);

/// Most tasks on a lane.
const MOST: usize = 2048;

/// A task may hold its reply back while tasks are shorter than this.
const SHORT: Duration = Duration::from_micros(5);

/// ... and only where at least so many tasks are on the lane: few are not worth what may be lost.
const DEEP: usize = 128;

/// A lane with more bytes than this waiting to be written takes no more tasks.
const BACKLOG: usize = 1 << 20;

/// Tasks that a worker took with it when it died.
#[derive(Debug, Default)]
pub(super) struct Wreck {
    /// These may have been running, or were done without the reply being written.
    pub(super) lost: Vec<Bundle>,
    /// These had not started.
    pub(super) untouched: Vec<Bundle>,
}

/// Whether a lane can still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// Yes.
    Open,
    /// The worker is gone, or sent garbage.
    Ended,
}

/// The pool's end of the stream to one worker.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) worker: u64,
    pub(super) pid: i32,
    pub(super) stream: Arc<Stream>,
    inbox: Inbox,
    outbox: Vec<u8>,
    written: usize,
    /// What the worker was told last about the tasks that follow.
    heading: Option<Heading>,
    inflight: VecDeque<Bundle>,
    /// How many tasks are in `inflight`.
    load: usize,
    ready: bool,
    /// Whether it ever gave a reply.
    proven: bool,
    refusal: Option<Failure>,
    pace: Pace,
    /// For a caller that has leased the lane.
    spin: Spin,
}

impl Lane {
    pub(super) fn new(worker: u64, pid: i32, stream: Arc<Stream>) -> Self {
        Self {
            worker,
            pid,
            stream,
            inbox: Inbox::default(),
            outbox: Vec::new(),
            written: 0,
            heading: None,
            inflight: VecDeque::new(),
            load: 0,
            ready: false,
            proven: false,
            refusal: None,
            pace: Pace::new(),
            spin: Spin::default(),
        }
    }

    /// How many tasks are on it.
    pub(super) fn load(&self) -> usize {
        self.load
    }

    /// How many more it may take.
    pub(super) fn room(&self) -> usize {
        if self.outbox.len() - self.written > BACKLOG {
            0
        } else {
            self.pace.window(self.load > 0).saturating_sub(self.load)
        }
    }

    /// Why the worker could not prepare itself, if it said so.
    pub(super) fn refusal(&self) -> Option<&Failure> {
        self.refusal.as_ref()
    }

    /// Whether the worker has said that it is prepared.
    pub(super) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Whether the worker has done anything: a death before that is a sign that the next one will die too.
    pub(super) fn is_proven(&self) -> bool {
        self.proven || (self.ready && self.load > 0)
    }

    /// Takes tasks into the outbox; [`transmit`](Self::transmit) sends them.
    pub(super) fn assign(&mut self, mut tasks: Bundle) {
        if self.load == 0 {
            self.pace.restart();
        }
        let is_deep = self.load + tasks.len() >= DEEP;
        tasks.heading.may_hold = tasks.job.may_hold && is_deep && self.pace.is_short();
        if self.heading.replace(tasks.heading) != Some(tasks.heading) {
            put_heading(&mut self.outbox, tasks.heading);
        }
        self.outbox.extend_from_slice(tasks.frames());
        self.load += tasks.len();
        self.inflight.push_back(tasks);
    }

    /// Writes what the worker takes now; says whether bytes are left.
    pub(super) fn transmit(&mut self) -> io::Result<(Condition, bool)> {
        while self.written < self.outbox.len() {
            match self.stream.try_write(&self.outbox[self.written..])? {
                Some(0) => return Ok((Condition::Ended, false)),
                Some(count) => self.written += count,
                None => return Ok((Condition::Open, true)),
            }
        }
        self.all_sent();
        Ok((Condition::Open, false))
    }

    fn all_sent(&mut self) {
        self.outbox.clear();
        self.outbox.shrink_to(BACKLOG);
        self.written = 0;
    }

    /// Reads what is there and hands the results over. Everything that a dead worker wrote is still used.
    pub(super) fn receive(&mut self) -> io::Result<Condition> {
        while let Some(count) = self.stream.try_read(self.inbox.space())? {
            if count == 0 {
                return Ok(Condition::Ended);
            }
            self.inbox.filled(count);
            let before = self.load;
            if self.hand_over() == Condition::Ended {
                return Ok(Condition::Ended);
            }
            self.pace.done(before - self.load);
        }
        Ok(Condition::Open)
    }

    /// Sends the only task and waits for its reply on the calling thread.
    pub(super) fn call(&mut self, task: Bundle) -> io::Result<Condition> {
        self.assign(task);
        let alive = self.stream.write_all(&self.outbox)?;
        self.all_sent();
        // A worker that died may have answered before: its words are read to the end.
        while self.load > 0 {
            let count = self.stream.read(self.inbox.space(), &mut self.spin)?;
            if count == 0 {
                return Ok(Condition::Ended);
            }
            self.inbox.filled(count);
            if self.hand_over() == Condition::Ended {
                return Ok(Condition::Ended);
            }
        }
        Ok(if alive { Condition::Open } else { Condition::Ended })
    }

    /// Hands over all replies that are there.
    fn hand_over(&mut self) -> Condition {
        loop {
            // A reply that nobody asked for, or one of a worker that never was ready, is not a worker's.
            let most = self.inflight.front().filter(|_| self.ready).map_or(0, Bundle::len);
            match self.inbox.next_from_worker(most) {
                Ok(None) => return Condition::Open,
                Ok(Some(FromWorker::Ready)) => self.ready = true,
                Ok(Some(FromWorker::NotReady(bytes))) => {
                    let garbled = |error: codec::CodecError| Failure::BadResult(error.to_string());
                    self.refusal = Some(codec::decode(bytes).unwrap_or_else(garbled));
                }
                Ok(Some(FromWorker::Results(count, replies))) => {
                    if let Some(bundle) = self.inflight.front_mut() {
                        bundle.deliver_front(count, self.pid, replies);
                    }
                    // An empty bundle would stand in the way of the replies to those behind it.
                    self.inflight.pop_front_if(|bundle| bundle.len() == 0);
                    self.load -= count;
                    self.proven = true;
                }
                Err(_) => return Condition::Ended,
            }
        }
    }

    /// What was on the lane of a worker that is dead. Everything it wrote has been read.
    ///
    /// Tasks run in order and a reply is written before the next task starts, unless both may hold it back. So the first
    /// task without a reply may have run, and those after it only as far as replies could be held.
    pub(super) fn wreck(&mut self) -> Wreck {
        let mut wreck = Wreck::default();
        let (mut may_have_started, mut before) = (self.ready, 0);
        for mut bundle in self.inflight.drain(..) {
            let may_hold = bundle.heading.may_hold;
            let started = (0..bundle.len()).take_while(|_| {
                let starts = may_have_started && (before == 0 || (may_hold && before <= MAX_HELD));
                may_have_started = starts && may_hold;
                before += 1;
                starts
            });
            let started = started.count();
            wreck.lost.push(bundle.split_front(started));
            wreck.untouched.push(bundle);
        }
        wreck.lost.retain(|bundle| bundle.len() > 0);
        wreck.untouched.retain(|bundle| bundle.len() > 0);
        self.load = 0;
        wreck
    }
}

/// How long tasks take on a lane, and so how many of them should be there.
#[derive(Debug)]
struct Pace {
    /// Smoothed time for one task in nanoseconds; `None` before the first.
    average: Option<u64>,
    since: Instant,
}

impl Pace {
    fn new() -> Self {
        Self { average: None, since: Instant::now() }
    }

    /// The lane was empty: the time until now does not count.
    fn restart(&mut self) {
        self.since = Instant::now();
    }

    fn done(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let now = Instant::now();
        let spent = now.duration_since(self.since).as_nanos();
        let each = u64::try_from(spent / count as u128).unwrap_or(u64::MAX);
        self.since = now;
        // Slower at once, faster step by step: a long task must not find others queued behind it.
        self.average = Some(match self.average {
            Some(average) if each < average => (average + each) / 2,
            _ => each,
        });
    }

    /// How many tasks should be on the lane, which has some or none now.
    fn window(&self, is_busy: bool) -> usize {
        let Some(average) = self.average.filter(|&average| u128::from(average) < LONG.as_nanos()) else {
            return 1;
        };
        if is_busy && self.since.elapsed() > STALLED {
            return 1;
        }
        let ahead = if self.is_short() { AHEAD_IF_SHORT } else { AHEAD };
        let fits = ahead.as_nanos() as u64 / average.max(1);
        usize::try_from(fits).unwrap_or(MOST).clamp(2, MOST)
    }

    fn is_short(&self) -> bool {
        self.average.is_some_and(|average| u128::from(average) < SHORT.as_nanos())
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{begin_task, finish_task};
    use super::super::job::{Job, Place};
    use super::*;
    use procession_ipc::start::TaskId;
    use procession_ipc::travel::Kept;

    fn lane_with(flags: &[bool], ready: bool) -> Lane {
        let (ours, _theirs) = Stream::pair().unwrap();
        let mut lane = Lane::new(1, 1, Arc::new(ours));
        lane.ready = ready;
        // In bundles of three at most, so that the border lies within one, and between two.
        for flags in flags.chunk_by(|a, b| a == b).flat_map(|same| same.chunks(3)) {
            let mut frames = Vec::new();
            for _ in flags {
                let at = begin_task(&mut frames);
                finish_task(&mut frames, at, 1);
            }
            let first = Place { ordinal: lane.load as u64, first: 0, items: 1 };
            let mut bundle =
                Bundle::new((Job::new("f"), TaskId(0)), 0, first, flags.len(), (frames, Kept::default()));
            bundle.heading.may_hold = flags[0];
            lane.inflight.push_back(bundle);
            lane.load += flags.len();
        }
        lane
    }

    fn count(bundles: &[Bundle]) -> usize {
        bundles.iter().map(Bundle::len).sum()
    }

    #[test]
    fn a_dead_worker_loses_the_task_in_hand_and_what_it_could_hold() {
        const HOLD: bool = true;
        let table: [(&str, &[bool], bool, usize); 7] = [
            ("nothing on it", &[], true, 0),
            ("never ready: nothing started", &[false, false], false, 0),
            ("one in hand, one waiting", &[false, false], true, 1),
            ("held replies reach as far as the flags", &[HOLD, HOLD, false, false], true, 2),
            ("no holding behind a plain task", &[false, HOLD, HOLD], true, 1),
            ("all held", &[HOLD; 10], true, 10),
            ("never more than a worker holds", &[HOLD; 100], true, MAX_HELD + 1),
        ];
        for (name, flags, ready, lost) in table {
            let wreck = lane_with(flags, ready).wreck();
            assert_eq!((count(&wreck.lost), count(&wreck.untouched)), (lost, flags.len() - lost), "{name}");
        }
    }

    #[test]
    fn windows_follow_the_pace() {
        let mut pace = Pace::new();
        assert_eq!((pace.window(true), pace.is_short()), (1, false));
        let table = [
            (10_000_000, 1, false),
            (900_000, 2, false),
            (50_000, 4, false),
            (2_000, 500, true),
            (1, MOST, true),
        ];
        for (nanos, window, short) in table {
            pace.average = Some(nanos);
            assert_eq!((pace.window(false), pace.is_short()), (window, short), "{nanos}");
        }
        pace.since = Instant::now().checked_sub(2 * STALLED).unwrap();
        assert_eq!(
            (pace.window(false), pace.window(true)),
            (MOST, 1),
            "nothing more behind a task that is long"
        );
    }

    #[test]
    fn a_worker_that_never_was_ready_cannot_answer() {
        let (ours, theirs) = Stream::pair().unwrap();
        let mut lane = Lane::new(1, 1, Arc::new(ours));
        assert!(theirs.write_all(&[0; 8]).unwrap());
        assert_eq!(lane.receive().unwrap(), Condition::Ended);
    }
}
