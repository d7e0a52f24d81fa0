//! The process of a supervised child: starting, asking it to end, the story of its end.

use super::nested::{self, Line};
use super::spec::Start;
use super::strategy::End;
use crate::Result;
use crate::process::{Options, SIGTERM, start_recipe};
use procession_ipc::child::{Child, ExitStatus};
use procession_ipc::start::{Reply, Started};
use std::sync::Arc;

/// A process that was started for a child.
#[derive(Debug)]
pub(super) struct Living {
    pub(super) child: Arc<Child>,
    /// Where it says why it failed.
    reply: Reply,
    /// The way to its supervisor, if it is one.
    pub(super) line: Option<Arc<Line>>,
}

impl Living {
    /// Starts a process.
    pub(super) fn start(start: &Start, options: &Options) -> Result<Self> {
        let (Started { child, reply, .. }, line) = match start {
            Start::Process(recipe) => (start_recipe(recipe, options)?, None),
            Start::Supervisor(tree) => nested::start(tree, options)?,
        };
        Ok(Self { child, reply, line })
    }

    /// Asks it to end: a supervisor by ending the way to it, so that it stops its own children, anything else by SIGTERM.
    pub(super) fn ask_to_end(&self) {
        match &self.line {
            Some(line) => line.hang_up(),
            // One that cannot be signalled has changed its user; its time is bounded, and its lifeline ends it with us.
            None => drop(self.child.signal(SIGTERM)),
        }
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    fn status(&self) -> ExitStatus {
        match self.child.try_wait() {
            Ok(Some(status)) => status,
            Ok(None) | Err(_) => ExitStatus::Unknown { why: "its process could not be watched" },
        }
    }

    /// How it ended, for the strategy.
    pub(super) fn end(&self) -> End {
        if self.status() == ExitStatus::Exited(0) { End::Normal } else { End::Abnormal }
    }

    /// How it ended, for people: what it said about its failure, or its status.
    pub(super) fn story(&self) -> String {
        self.reply.failure().map_or_else(|| self.status().to_string(), |failure| failure.to_string())
    }
}
