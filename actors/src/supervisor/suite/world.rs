//! A world for a roster: it does the steps at once, says what happened, and can make starts fail.

use crate::supervisor::intensity::Intensity;
use crate::supervisor::spec::{AutoShutdown, ChildKind, Flags, Restart, Rules, Strategy};
use crate::supervisor::strategy::{ChildCounts, ChildState, End, Ending, Refusal, Roster, Step};
use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

pub(super) use ChildState::{Restarting, Running, Stopped};
pub(super) use End::{Abnormal, Normal};
pub(super) use Restart::{Permanent, Temporary, Transient};
pub(super) use Strategy::{OneForAll, OneForOne, RestForOne};

/// A child's id and its restart type.
pub(super) type Worker = (&'static str, Restart);

pub(super) struct World {
    pub(super) roster: Roster<()>,
    /// Processes that run.
    up: BTreeSet<String>,
    /// Children whose starts fail.
    pub(super) broken: BTreeSet<&'static str>,
    /// Retries whose turn has not come.
    waiting: VecDeque<String>,
    /// `+a` started, `-a` stopped, `!a` could not be started.
    log: Vec<String>,
    pub(super) ending: Option<Ending>,
    now: Instant,
}

pub(super) fn flags(strategy: Strategy, restarts: u32, seconds: u64) -> Flags {
    let intensity = Intensity { restarts, period: Duration::from_secs(seconds) };
    Flags { strategy, intensity, auto_shutdown: AutoShutdown::Never }
}

pub(super) fn worker(restart: Restart) -> Rules {
    Rules { restart, ..Rules::new(ChildKind::Worker) }
}

impl World {
    /// OTP's usual flags in its suite: two restarts in an hour.
    pub(super) fn of(strategy: Strategy, workers: &[Worker]) -> Self {
        Self::with(flags(strategy, 2, 3600), workers)
    }

    pub(super) fn with(flags: Flags, workers: &[Worker]) -> Self {
        let children: Vec<_> = workers.iter().map(|&(id, restart)| (id, worker(restart))).collect();
        Self::made(flags, &children, [])
    }

    pub(super) fn made<const N: usize>(
        flags: Flags,
        children: &[(&str, Rules)],
        broken: [&'static str; N],
    ) -> Self {
        let entries = children.iter().map(|&(id, rules)| (id.to_owned(), rules, ()));
        let mut world = Self {
            roster: Roster::new(flags, entries),
            up: BTreeSet::new(),
            broken: BTreeSet::from(broken),
            waiting: VecDeque::new(),
            log: Vec::new(),
            ending: None,
            now: Instant::now(),
        };
        world.act();
        world
    }

    /// Does all steps that are due.
    pub(super) fn act(&mut self) {
        while let Some(step) = self.roster.next_step() {
            assert_eq!(self.ending, None, "{step:?} after the last step");
            match step {
                Step::Stop(id) => {
                    assert!(self.up.remove(&id), "{id} is stopped and does not run");
                    self.roster.stopped(&id);
                    self.log.push(format!("-{id}"));
                }
                Step::Start(id) if self.broken.contains(id.as_str()) => {
                    self.roster.start_failed(&id);
                    self.log.push(format!("!{id}"));
                }
                Step::Start(id) => {
                    assert!(self.up.insert(id.clone()), "{id} is started and runs already");
                    self.roster.started(&id);
                    self.log.push(format!("+{id}"));
                }
                Step::Retry(id) => self.waiting.push_back(id),
                Step::Leave(ending) => {
                    assert!(self.up.is_empty(), "{:?} are left behind", self.up);
                    self.ending = Some(ending);
                }
            }
        }
        let running = self.roster.children().iter().filter(|child| child.state == Running);
        assert!(
            running.map(|child| &child.id).eq(self.sorted_like_the_roster()),
            "the roster knows who runs"
        );
    }

    fn sorted_like_the_roster(&self) -> Vec<&String> {
        self.roster.children().iter().map(|child| &child.id).filter(|id| self.up.contains(*id)).collect()
    }

    /// The process of a child ends by itself.
    pub(super) fn dies(&mut self, id: &str, end: End) {
        assert!(self.up.remove(id), "{id} does not run");
        self.roster.ended(id, end, self.now);
        self.act();
    }

    /// One retry has its turn; `false` if none waits.
    pub(super) fn turn(&mut self) -> bool {
        let Some(id) = self.waiting.pop_front() else { return false };
        self.roster.retry(&id, self.now);
        self.act();
        true
    }

    pub(super) fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    pub(super) fn start_child(&mut self, id: &'static str, rules: Rules) -> Result<(), Refusal> {
        self.roster.check_vacant(id)?;
        if !self.broken.contains(id) {
            self.roster.add(id.to_owned(), rules, ());
            self.up.insert(id.to_owned());
            self.log.push(format!("+{id}"));
        }
        Ok(())
    }

    pub(super) fn terminate_child(&mut self, id: &str) -> Result<(), Refusal> {
        self.roster.terminate(id)?;
        self.act();
        Ok(())
    }

    /// `false` when the start failed.
    pub(super) fn restart_child(&mut self, id: &str) -> Result<bool, Refusal> {
        self.roster.check_stopped(id)?;
        let works = !self.broken.contains(id);
        if works {
            self.up.insert(id.to_owned());
            self.roster.started(id);
            self.log.push(format!("+{id}"));
        }
        Ok(works)
    }

    pub(super) fn stop(&mut self) {
        self.roster.stop();
        self.act();
    }

    /// What happened since the last look.
    pub(super) fn log(&mut self) -> String {
        std::mem::take(&mut self.log).join(" ")
    }

    /// Ids and states in the order of starts.
    pub(super) fn which(&self) -> Vec<(&str, ChildState)> {
        self.roster.children().iter().map(|child| (child.id.as_str(), child.state)).collect()
    }

    /// As OTP's suite writes it: specs, active, supervisors, workers.
    pub(super) fn counts(&self) -> [usize; 4] {
        let ChildCounts { specs, active, supervisors, workers } = self.roster.count();
        [specs, active, supervisors, workers]
    }

    pub(super) fn gave_up_at(&self, child: &str) -> bool {
        self.ending == Some(Ending::GaveUp { child: child.to_owned() })
    }
}
