//! Who is stopped and started when a child has ended, as OTP's `supervisor` decides it: a pure state machine.
//!
//! A [`Roster`] has the children in their order, and a queue of [`Step`]s. Whoever acts on it asks for the
//! [next step](Roster::next_step), does it, reports what came of it, and asks again:
//!
//! ```text
//! Stop(id)   ->  stopped(id)                     the process is gone, however
//! Start(id)  ->  started(id) | start_failed(id)
//! Retry(id)  ->  nothing; later, when whatever else waited has had its turn: retry(id)
//! Leave(end) ->  nothing; it is the last step
//! ```
//!
//! and tells what happens in between: [`ended`](Roster::ended), and the requests. Stops come before starts, stops from the
//! last child to the first, starts from the first to the last.
//!
//! States of a child: *stopped* -> *running* -> *stopped*, and *restarting* after a start that failed, until the next try.
//! A temporary child is never stopped: when its process is gone, it is forgotten.
//!
//! Invariants:
//! - while steps are left, nothing else may be told; the one who acts does steps and listens in turn (as OTP's supervisor,
//!   which listens to nobody while it waits for a child to end);
//! - a restart that comes from the supervisor itself, a retry too, is entered into the history; one too many empties the
//!   queue, stops all and leaves;
//! - after [`Step::Leave`] there are no more steps, and nothing that is told makes any.

use super::intensity::{History, Verdict};
use super::spec::{AutoShutdown, ChildKind, Flags, Restart, Rules, Strategy};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;
use std::time::Instant;

/// How a process ended that nobody asked to end. One that the supervisor stopped is told by [`Roster::stopped`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with exit code 0.
    Normal,
    /// In any other way.
    Abnormal,
}

/// Where a child stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ChildState {
    /// Its process runs.
    Running,
    /// It has no process, and gets none until somebody asks for it, or it is restarted together with others.
    Stopped,
    /// It could not be started, and the next try is due.
    Restarting,
}

/// How a supervisor ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It was asked to.
    Stopped,
    /// A significant child has ended.
    Significant {
        /// The child.
        child: String,
    },
    /// There were too many restarts.
    GaveUp {
        /// The child that ended last.
        child: String,
    },
    /// A child could not be started when the supervisor started.
    StartFailed {
        /// The child.
        child: String,
    },
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Stop the process of this child and wait until it is gone.
    Stop(String),
    /// Start a process for this child.
    Start(String),
    /// Try again to restart this child, after all that waits to be heard.
    Retry(String),
    /// All children are stopped: end.
    Leave(Ending),
}

/// Why a request cannot be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// There is no child with this id.
    NotFound,
    /// There is one, in this state.
    Is(ChildState),
}

/// How many children there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ChildCounts {
    /// All of them, whatever their state.
    pub specs: usize,
    /// Those whose process runs.
    pub active: usize,
    /// Those that are supervisors.
    pub supervisors: usize,
    /// Those that are workers.
    pub workers: usize,
}

impl FromIterator<(ChildState, ChildKind)> for ChildCounts {
    fn from_iter<I: IntoIterator<Item = (ChildState, ChildKind)>>(children: I) -> Self {
        children.into_iter().fold(Self::default(), |mut counts, (state, kind)| {
            counts.specs += 1;
            counts.active += usize::from(state == ChildState::Running);
            match kind {
                ChildKind::Supervisor => counts.supervisors += 1,
                ChildKind::Worker => counts.workers += 1,
            }
            counts
        })
    }
}

/// A child. `B` is what its supervisor needs to start it, and goes when the child is forgotten.
#[derive(Debug)]
pub struct Child<B> {
    /// Its name among its siblings.
    pub id: String,
    /// How it is treated.
    pub rules: Rules,
    /// Where it stands.
    pub state: ChildState,
    /// What it takes to start it.
    pub body: B,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The children are started for the first time.
    Starting,
    Supervising,
    Leaving,
}

/// The children of a supervisor in their order, and what is to be done about them.
#[derive(Debug)]
pub struct Roster<B> {
    flags: Flags,
    children: Vec<Child<B>>,
    history: History,
    phase: Phase,
    steps: VecDeque<Step>,
}

impl fmt::Display for ChildState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Restarting => "being restarted",
        })
    }
}

impl<B> Roster<B> {
    /// A supervisor whose first steps are to start these children. Flags and children have been checked
    /// ([`Flags::check_children`]).
    pub fn new(flags: Flags, children: impl IntoIterator<Item = (String, Rules, B)>) -> Self {
        let stopped = |(id, rules, body)| Child { id, rules, state: ChildState::Stopped, body };
        let children: Vec<_> = children.into_iter().map(stopped).collect();
        let steps = children.iter().map(|child| Step::Start(child.id.clone())).collect();
        Self { flags, children, history: History::default(), phase: Phase::Starting, steps }
    }

    /// What to do next; `None`: listen.
    pub fn next_step(&mut self) -> Option<Step> {
        let step = self.steps.pop_front();
        if step.is_none() && self.phase == Phase::Starting {
            self.phase = Phase::Supervising;
        }
        step
    }

    /// The step was done: the process of this child is gone.
    pub fn stopped(&mut self, id: &str) {
        if let Some(at) = self.position(id) {
            self.retire(at);
        }
    }

    /// The step was done: this child has a process.
    pub fn started(&mut self, id: &str) {
        if let Some(at) = self.position(id) {
            self.children[at].state = ChildState::Running;
        }
    }

    /// The step could not be done: this child has no process. What was to be started after it waits for the next try.
    pub fn start_failed(&mut self, id: &str) {
        if self.phase == Phase::Starting {
            return self.leave(Ending::StartFailed { child: id.to_owned() });
        }
        self.steps.clear();
        if let Some(at) = self.position(id) {
            self.children[at].state = ChildState::Restarting;
            self.steps.push_back(Step::Retry(id.to_owned()));
        }
    }

    /// The process of this child has ended without being asked.
    pub fn ended(&mut self, id: &str, end: End, now: Instant) {
        let Some(at) = self.position(id) else { return };
        let Child { rules, state, .. } = &self.children[at];
        if *state != ChildState::Running || self.phase == Phase::Leaving {
            return;
        }
        match (rules.restart, end) {
            (Restart::Permanent, _) | (Restart::Transient, End::Abnormal) => self.restart(at, now),
            (Restart::Transient, End::Normal) | (Restart::Temporary, _) => {
                let significant = rules.significant;
                self.retire(at);
                if significant && self.shuts_down() {
                    self.leave(Ending::Significant { child: id.to_owned() });
                }
            }
        }
    }

    /// The turn of a [`Step::Retry`] has come. Nothing, if somebody terminated the child meanwhile.
    pub fn retry(&mut self, id: &str, now: Instant) {
        match self.position(id) {
            Some(at) if self.children[at].state == ChildState::Restarting => self.restart(at, now),
            _ => {}
        }
    }

    /// Asks for the end of the supervisor and of all its children.
    pub fn stop(&mut self) {
        self.leave(Ending::Stopped);
    }

    /// Whether a child with this id could be added.
    ///
    /// # Errors
    ///
    /// [`Refusal::Is`] for an id that is there already.
    pub fn check_vacant(&self, id: &str) -> Result<(), Refusal> {
        self.get(id).map_or(Ok(()), |child| Err(Refusal::Is(child.state)))
    }

    /// Adds a child behind all others; its process runs already.
    pub fn add(&mut self, id: String, rules: Rules, body: B) {
        self.children.push(Child { id, rules, state: ChildState::Running, body });
    }

    /// Asks for the process of a child to be stopped. The child stays, unless it is temporary.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFound`].
    pub fn terminate(&mut self, id: &str) -> Result<(), Refusal> {
        let at = self.position(id).ok_or(Refusal::NotFound)?;
        match self.children[at].state {
            ChildState::Running => self.steps.push_back(Step::Stop(id.to_owned())),
            ChildState::Stopped | ChildState::Restarting => self.retire(at),
        }
        Ok(())
    }

    /// Whether the process of a child may be started because somebody asks for it.
    ///
    /// # Errors
    ///
    /// [`Refusal`], unless it is stopped.
    pub fn check_stopped(&self, id: &str) -> Result<(), Refusal> {
        match self.get(id).ok_or(Refusal::NotFound)?.state {
            ChildState::Stopped => Ok(()),
            state @ (ChildState::Running | ChildState::Restarting) => Err(Refusal::Is(state)),
        }
    }

    /// Forgets a child that is stopped.
    ///
    /// # Errors
    ///
    /// [`Refusal`], unless it is stopped.
    pub fn delete(&mut self, id: &str) -> Result<(), Refusal> {
        self.check_stopped(id)?;
        self.children.retain(|child| child.id != id);
        Ok(())
    }

    /// The child with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Child<B>> {
        self.children.iter().find(|child| child.id == id)
    }

    /// The child with this id, for who must change what it takes to start it.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Child<B>> {
        self.children.iter_mut().find(|child| child.id == id)
    }

    /// All children, in the order in which they are started.
    #[must_use]
    pub fn children(&self) -> &[Child<B>] {
        &self.children
    }

    /// How a supervisor treats its children together.
    #[must_use]
    pub fn flags(&self) -> &Flags {
        &self.flags
    }

    /// How many children there are.
    #[must_use]
    pub fn count(&self) -> ChildCounts {
        self.children.iter().map(|child| (child.state, child.rules.kind)).collect()
    }

    fn position(&self, id: &str) -> Option<usize> {
        self.children.iter().position(|child| child.id == id)
    }

    /// A child has no process any more, and none is due.
    fn retire(&mut self, at: usize) {
        if self.children[at].rules.restart == Restart::Temporary {
            self.children.remove(at);
        } else {
            self.children[at].state = ChildState::Stopped;
        }
    }

    /// Restarts a child that has no process, and whom the strategy adds.
    fn restart(&mut self, at: usize, now: Instant) {
        let id = self.children[at].id.clone();
        self.retire(at);
        if self.flags.intensity.judge(&mut self.history, now) == Verdict::GiveUp {
            return self.leave(Ending::GaveUp { child: id });
        }
        let concerned = match self.flags.strategy {
            Strategy::OneForOne => at..at + 1,
            Strategy::RestForOne => at..self.children.len(),
            Strategy::OneForAll => 0..self.children.len(),
        };
        let concerned = &self.children[concerned];
        self.steps.extend(stops(concerned));
        let starts = concerned.iter().filter(|child| child.rules.restart != Restart::Temporary);
        self.steps.extend(starts.map(|child| Step::Start(child.id.clone())));
    }

    /// Whether the end of a significant child ends the supervisor.
    fn shuts_down(&self) -> bool {
        let is_left = |child: &Child<B>| child.rules.significant && child.state != ChildState::Stopped;
        match self.flags.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => !self.children.iter().any(is_left),
        }
    }

    fn leave(&mut self, ending: Ending) {
        if self.phase == Phase::Leaving {
            return;
        }
        self.phase = Phase::Leaving;
        self.steps = stops(&self.children).collect();
        self.steps.push_back(Step::Leave(ending));
    }
}

/// Stops all that run, from the last to the first.
fn stops<B>(children: &[Child<B>]) -> impl Iterator<Item = Step> {
    children
        .iter()
        .rev()
        .filter(|child| child.state == ChildState::Running)
        .map(|child| Step::Stop(child.id.clone()))
}
