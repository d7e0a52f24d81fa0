//! What the supervisor actor and its callers share: the roster with the processes, and how it all ended.
//!
//! The actor alone changes the roster. Callers look at it, wait for its end, and may kill everything when their patience is
//! over. The lock is held for no longer than a look.

use super::living::Living;
use super::nested::Line;
use super::request::{ChildInfo, Denial, Reply};
use super::spec::{ChildKind, Start, Tree};
use super::strategy::{Child, Refusal, Roster};
use crate::Result;
use crate::process::SIGKILL;
use procession_ipc::gate::{self, Origin};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What a child is to its supervisor, beside its rules.
#[derive(Debug)]
pub(super) struct Body {
    /// What runs.
    pub(super) start: Start,
    /// Its process, while it has one.
    pub(super) living: Option<Arc<Living>>,
}

impl Body {
    pub(super) fn new(start: Start) -> Self {
        Self { start, living: None }
    }
}

/// The state behind the lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) roster: Roster<Body>,
    /// All children were started once.
    pub(super) begun: bool,
    /// What was started and is not ready yet; no child has it.
    pub(super) newcomer: Option<Arc<Living>>,
    /// How the supervisor ended, once it has.
    ended: Option<Result<()>>,
}

/// What actor and callers share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Where all this happens: in a copy, nobody may even take the lock.
    pub(super) origin: Origin,
    state: Mutex<State>,
    /// It has begun, or ended.
    changed: Condvar,
}

impl Shared {
    pub(super) fn new(tree: Tree) -> Self {
        let children = tree.children.into_iter();
        let entries = children.map(|child| (child.id, child.rules, Body::new(child.start)));
        let roster = Roster::new(tree.flags, entries);
        let state = Mutex::new(State { roster, begun: false, newcomer: None, ended: None });
        Self { origin: Origin::here(), state, changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements of those who hold the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All children were started once, unless one could not be.
    pub(super) fn begin(&self) {
        let mut state = self.lock();
        state.begun = state.ended.is_none();
        drop(state);
        self.changed.notify_all();
    }

    /// The supervisor has ended. The first story counts.
    pub(super) fn end(&self, ended: Result<()>) {
        self.lock().ended.get_or_insert(ended);
        self.changed.notify_all();
    }

    /// Waits until all children were started.
    pub(super) fn wait_begun(&self) -> Result<()> {
        let _rest = gate::rest();
        let waiting = |state: &mut State| !state.begun && state.ended.is_none();
        let state = self.changed.wait_while(self.lock(), waiting).unwrap_or_else(PoisonError::into_inner);
        match &state.ended {
            Some(ended) if !state.begun => ended.clone(),
            _ => Ok(()),
        }
    }

    /// Waits for the end, at most until `deadline`; says whether it has come, and how, if it came badly.
    pub(super) fn wait_ended(&self, deadline: Option<Instant>) -> Result<bool> {
        let _rest = gate::rest();
        let mut state = self.lock();
        loop {
            if let Some(ended) = &state.ended {
                return ended.clone().map(|()| true);
            }
            let Some(deadline) = deadline else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All children, in the order of their starts.
    pub(super) fn which(&self) -> Reply {
        let state = self.lock();
        if state.ended.is_some() {
            Err(Denial::Ended)
        } else {
            Ok(state.roster.children().iter().map(info).collect())
        }
    }

    /// The way to a nested supervisor.
    pub(super) fn nested(&self, id: &str) -> Result<Arc<Line>, Denial> {
        let state = self.lock();
        let found = state.roster.get(id).filter(|child| child.rules.kind == ChildKind::Supervisor);
        let child = found.ok_or_else(|| Denial::Refused(id.to_owned(), Refusal::NotFound))?;
        let line = child.body.living.as_ref().and_then(|living| living.line());
        line.ok_or(Denial::Ended)
    }

    /// Kills the processes of all children.
    pub(super) fn kill_all(&self) {
        let state = self.lock();
        let children = state.roster.children().iter().filter_map(|child| child.body.living.as_ref());
        for living in children.chain(&state.newcomer) {
            // One that cannot be signalled has changed its user; its lifeline ends it with us.
            let _ = living.child.signal(SIGKILL);
        }
    }
}

/// A child, as seen from outside.
pub(super) fn info(child: &Child<Body>) -> ChildInfo {
    let pid = child.body.living.as_ref().map(|living| living.child.pid().unsigned_abs());
    ChildInfo {
        id: child.id.clone(),
        pid,
        state: child.state,
        kind: child.rules.kind,
        place: child.body.start.place(),
    }
}
