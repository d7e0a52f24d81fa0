//! The keeper: one thread of each process that uses an arena. It learns of the deaths of others, sweeps, and frees slots; and
//! by its own end the others learn of ours.
//!
//! It sleeps on marks of its neighbours, in each on the one that is there for it: so the kernel itself tells each keeper, and none
//! depends on another one, which may be killed or stopped just then. A mark is an alarm and no more: whoever is alarmed asks
//! [`Presence`]. Nothing of the process is touched before that says that it is gone.
//!
//! It uses no processor time while nobody dies. It ends with its process, or earlier with its [`Tenure`].

use super::presence::Presence;
use super::table::{Holder, Table, have_marks_in_common};
use super::{Identity, ProcessId};
use crate::atomic::{AtomicU32, Ordering};
use crate::gate::{self, Passage};
use crate::sys::fd::wait_any_readable;
use crate::sys::futex::{self, Mark};
use crate::{Error, Result};
use nix::sys::signal::SigSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Most neighbours that one keeper watches: one word is the roster. One that has a [`Tenure`] needs one word more.
const MOST_NEIGHBOURS: usize = futex::MOST_WORDS - 1;

/// With more processes than a keeper can watch, or than have a mark of their own, one could die and some would never be told
/// (`mailbox/README.md`, 3).
const ROUND_OF_MANY: Duration = Duration::from_secs(5);

/// How long the end of a dying process is waited for before other processes are looked at again: from the first to the last.
const FIRST_ROUND: Duration = Duration::from_millis(1);
const LAST_ROUND: Duration = Duration::from_millis(64);

/// Stack of the thread: it calls little.
const STACK: usize = 128 * 1024;

/// What a keeper knows of the deaths of others.
pub(crate) struct Keeper<S> {
    /// Where the processes are.
    pub(crate) table: Table,
    /// This process.
    pub(crate) own: ProcessId,
    /// What is done for a process that is gone. It may be cut off anywhere, and be done by several at the same time.
    pub(crate) sweep: S,
    /// Whether a process is gone: [`presence`]. Tests have another answer, to show what comes of it.
    pub(crate) presence: fn(Identity, Marked) -> Presence,
    /// What this process does each time that its keeper was woken: somebody may have asked for it.
    pub(crate) woken: fn(ProcessId),
    /// How long it is there, if it may end before its process.
    pub(crate) tenure: Option<Tenure>,
}

/// How long a keeper is there: until this process has left the arena. These words belong to this process; a copy by fork, which
/// has no keeper, finds them zero.
#[derive(Debug)]
pub(crate) struct Tenure {
    /// Not 0 until then.
    inside: &'static AtomicU32,
    /// 1 until the keeper has ended: it touches nothing of the arena any more.
    there: &'static AtomicU32,
}

impl Tenure {
    /// For a keeper that is about to be started.
    pub(crate) fn begin(inside: &'static AtomicU32, there: &'static AtomicU32) -> Self {
        there.store(1, Ordering::Relaxed);
        Self { inside, there }
    }
}

impl Drop for Tenure {
    fn drop(&mut self) {
        // Release pairs with the Acquire of who has the addresses show something else.
        self.there.store(0, Ordering::Release);
    }
}

/// Whether the kernel has marked a process. That is no answer to whether it is gone.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "only a test believes it")]
pub(crate) struct Marked(pub(crate) bool);

/// Whether a process is gone, whatever the mark says.
pub(crate) fn presence(identity: Identity, _mark: Marked) -> Presence {
    identity.presence()
}

/// Those who have a slot and are alive.
pub(super) struct Neighbours {
    /// Words that the kernel will mark, and what they are until then.
    marks: Vec<(&'static AtomicU32, u32)>,
    /// There are too many for each of us to be told of each of them.
    pub(super) is_crowd: bool,
}

/// Somebody who has a slot and is not alive: dying, gone, or about to begin.
pub(super) struct Suspect {
    holder: Holder,
    /// Becomes readable when it is gone; `None` if there is no way to tell yet.
    pidfd: Option<OwnedFd>,
}

impl<S: Fn(ProcessId) + Send + 'static> Keeper<S> {
    /// Starts the thread, and returns when the kernel will mark the end of this process.
    pub(crate) fn start(self) -> Result<()> {
        let doing = "start the thread that learns of the deaths of others";
        let marks = self.table.marks(self.own).ok_or(Error::Malformed { what: "process table" })?;
        let (tell, begun) = mpsc::sync_channel(1);
        let table = self.table;
        let run = move |passage: Passage| {
            // Handlers of the program run on threads of the program.
            let _ = SigSet::all().thread_block();
            let (marked, begun) =
                futex::mark_at_end(marks).map_or_else(|e| (None, Err(e)), |m| (Some(m), Ok(())));
            // Before this process holds anything, the others know that it may die.
            table.announce();
            let _ = tell.send(begun);
            drop(passage);
            if let Some(marked) = marked {
                self.run();
                marked.take_back();
            }
            // With its tenure.
            drop(self);
        };
        let builder = Builder::new().name("procession-keep".to_owned()).stack_size(STACK);
        gate::spawn(builder, run).map_err(|e| Error::os(doing, e))?;
        // The thread answers before it does anything that can block.
        begun.recv().map_err(|_| Error::Disconnected)?.map_err(|e| Error::os(doing, e))
    }

    /// Returns when its tenure is over.
    fn run(&self) {
        let mut suspects: Vec<Suspect> = Vec::new();
        let mut round = FIRST_ROUND;
        loop {
            let bell =
                self.tenure.as_ref().map(|tenure| (tenure.inside, tenure.inside.load(Ordering::Acquire)));
            if bell.is_some_and(|(_, inside)| inside == 0) {
                return;
            }
            let roster = self.table.roster();
            (self.woken)(self.own);
            let neighbours = self.look(&mut suspects);
            let before = suspects.len();
            suspects.retain_mut(|suspect| !self.is_finished(suspect));
            if suspects.len() < before {
                continue;
            }
            if suspects.is_empty() {
                round = FIRST_ROUND;
                sleep(std::iter::once(roster).chain(bell).collect(), &neighbours);
            } else {
                wait_for_any(&suspects, round);
                round = (round * 2).min(LAST_ROUND);
            }
        }
    }

    /// Notes all who have a slot and are not alive, and returns the others, the next ones first.
    pub(super) fn look(&self, suspects: &mut Vec<Suspect>) -> Neighbours {
        let mut neighbours = Neighbours { marks: Vec::new(), is_crowd: false };
        suspects.retain(|suspect| self.table.holder(suspect.holder.id.slot()) == Some(suspect.holder));
        for holder in self.table.after(self.own.slot()).filter_map(|number| self.table.holder(number)) {
            if let Some(mark) = self.mark(&holder).and_then(Mark::await_end) {
                neighbours.marks.push(mark);
                neighbours.is_crowd |= have_marks_in_common(holder.id, self.own);
            } else if suspects.iter().all(|suspect| suspect.holder != holder) {
                suspects.push(Suspect { holder, pidfd: None });
            }
        }
        neighbours.is_crowd |= neighbours.marks.len() + usize::from(self.tenure.is_some()) > MOST_NEIGHBOURS;
        // A claimed slot whose keeper runs by now.
        suspects.retain(|suspect| !self.mark(&suspect.holder).is_some_and(Mark::is_alive));
        neighbours
    }

    /// The mark that tells us of the end of somebody.
    fn mark(&self, holder: &Holder) -> Option<&'static Mark> {
        self.table.mark(holder.id, self.own.slot())
    }

    /// Sweeps for a process that is gone, and frees its slot.
    fn is_finished(&self, suspect: &mut Suspect) -> bool {
        let marked = Marked(self.mark(&suspect.holder).is_some_and(Mark::is_marked));
        match (self.presence)(suspect.holder.identity, marked) {
            Presence::Gone => {
                (self.sweep)(suspect.holder.id);
                self.table.release(&suspect.holder);
                true
            }
            Presence::Here(pidfd) => {
                suspect.pidfd = Some(pidfd);
                false
            }
            Presence::Unknown => false,
        }
    }
}

/// Sleeps until somebody comes, goes or dies, or one of `words` changes.
fn sleep(mut words: Vec<(&'static AtomicU32, u32)>, neighbours: &Neighbours) {
    words.extend(neighbours.marks.iter().take(futex::MOST_WORDS - words.len()));
    // It was possible when this process registered; if it no longer is, what is left is to look now and then.
    if futex::wait_any(&words, neighbours.is_crowd.then_some(ROUND_OF_MANY)).is_err() {
        std::thread::park_timeout(ROUND_OF_MANY);
    }
}

/// Waits until one of them is gone, or the round is over.
fn wait_for_any(suspects: &[Suspect], round: Duration) {
    let pidfds: Vec<_> =
        suspects.iter().filter_map(|suspect| suspect.pidfd.as_ref()).map(AsFd::as_fd).collect();
    let _ = wait_any_readable(&pidfds, Instant::now() + round);
}
