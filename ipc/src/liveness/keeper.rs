//! The keeper: one thread of each process that uses an arena. It learns of the deaths of others, sweeps, and frees slots; and
//! by its own end the others learn of ours.
//!
//! It sleeps on the words of its neighbours that the kernel marks. A mark is an alarm and no more: whoever is alarmed wakes
//! one more sleeper of the same word, in case that it is killed or stopped itself, and then asks [`Presence`]. Nothing of the
//! process is touched before that says that it is gone.
//!
//! It uses no processor time while nobody dies.

use super::presence::Presence;
use super::table::{Holder, Table};
use super::{Identity, ProcessId};
use crate::atomic::{AtomicU32, Ordering};
use crate::gate::{self, Passage};
use crate::sys::fd::wait_any_readable;
use crate::sys::futex;
use crate::{Error, Result};
use nix::sys::signal::SigSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc;
use std::thread::Builder;
use std::time::{Duration, Instant};

/// Most neighbours that one keeper watches: one word is the roster.
const MOST_NEIGHBOURS: usize = futex::MOST_WORDS - 1;

/// With more processes than a keeper can watch, one could die together with all that watch it (`mailbox/README.md`, 3).
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
}

/// Whether the kernel has marked a process. That is no answer to whether it is gone.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "only a test believes it")]
pub(crate) struct Marked(pub(crate) bool);

/// Whether a process is gone, whatever the mark says.
pub(crate) fn presence(identity: Identity, _mark: Marked) -> Presence {
    identity.presence()
}

/// Somebody who has a slot and is not alive: dying, gone, or about to begin.
struct Suspect {
    holder: Holder,
    /// Becomes readable when it is gone; `None` if there is no way to tell yet.
    pidfd: Option<OwnedFd>,
}

impl<S: Fn(ProcessId) + Send + 'static> Keeper<S> {
    /// Starts the thread, and returns when the kernel will mark the end of this process.
    pub(crate) fn start(self) -> Result<()> {
        let doing = "start the thread that learns of the deaths of others";
        let slot = self.table.slot(self.own).ok_or(Error::Malformed { what: "process table" })?;
        let (tell, begun) = mpsc::sync_channel(1);
        let table = self.table;
        let run = move |passage: Passage| {
            // Handlers of the program run on threads of the program.
            let _ = SigSet::all().thread_block();
            let marked = futex::mark_at_end(&slot.live);
            let is_begun = marked.is_ok();
            // Before this process holds anything, the others know that it may die.
            table.announce();
            let _ = tell.send(marked);
            drop(passage);
            if is_begun {
                self.run();
            }
        };
        let builder = Builder::new().name("procession-keep".to_owned()).stack_size(STACK);
        gate::spawn(builder, run).map_err(|e| Error::os(doing, e))?;
        // The thread answers before it does anything that can block.
        begun.recv().map_err(|_| Error::Disconnected)?.map_err(|e| Error::os(doing, e))
    }

    fn run(self) -> ! {
        let mut suspects: Vec<Suspect> = Vec::new();
        let mut round = FIRST_ROUND;
        loop {
            let (roster, seen) = self.table.roster();
            (self.woken)(self.own);
            let neighbours = self.look(&mut suspects);
            let before = suspects.len();
            suspects.retain_mut(|suspect| !self.is_finished(suspect));
            if suspects.len() < before {
                continue;
            }
            if suspects.is_empty() {
                round = FIRST_ROUND;
                sleep(roster, seen, &neighbours);
            } else {
                wait_for_any(&suspects, round);
                round = (round * 2).min(LAST_ROUND);
            }
        }
    }

    /// Notes all who have a slot and are not alive, and returns the words of the others, the next ones first.
    fn look(&self, suspects: &mut Vec<Suspect>) -> Vec<(&'static AtomicU32, u32)> {
        let mut neighbours = Vec::new();
        suspects.retain(|suspect| self.table.holder(suspect.holder.id.slot()) == Some(suspect.holder));
        for holder in self.table.after(self.own.slot()).filter_map(|number| self.table.holder(number)) {
            let Some(slot) = self.table.slot(holder.id) else { continue };
            let mark = slot.live.load(Ordering::Acquire);
            if futex::unmarked(mark).is_some() {
                neighbours.push((&slot.live, mark));
            } else if suspects.iter().all(|suspect| suspect.holder != holder) {
                // Whoever else watches it: if we are killed or stopped now, somebody knows.
                futex::wake(&slot.live, 1);
                suspects.push(Suspect { holder, pidfd: None });
            }
        }
        // A claimed slot whose keeper runs by now.
        suspects.retain(|suspect| {
            let live = self.table.slot(suspect.holder.id).map(|slot| slot.live.load(Ordering::Acquire));
            live.is_some_and(|mark| futex::unmarked(mark).is_none())
        });
        neighbours
    }

    /// Sweeps for a process that is gone, and frees its slot.
    fn is_finished(&self, suspect: &mut Suspect) -> bool {
        let live = self.table.slot(suspect.holder.id).map(|slot| slot.live.load(Ordering::Acquire));
        let marked = Marked(live.is_some_and(|mark| mark & futex::OWNER_DIED != 0));
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

/// Sleeps until somebody comes, goes or dies.
fn sleep(roster: &'static AtomicU32, seen: u32, neighbours: &[(&'static AtomicU32, u32)]) {
    let watched = neighbours.iter().take(MOST_NEIGHBOURS);
    let words: Vec<(&AtomicU32, u32)> = [(roster, seen)].iter().chain(watched).copied().collect();
    let is_many = neighbours.len() > MOST_NEIGHBOURS;
    // It was possible when this process registered; if it no longer is, what is left is to look now and then.
    if futex::wait_any(&words, is_many.then_some(ROUND_OF_MANY)).is_err() {
        std::thread::park_timeout(ROUND_OF_MANY);
    }
}

/// Waits until one of them is gone, or the round is over.
fn wait_for_any(suspects: &[Suspect], round: Duration) {
    let pidfds: Vec<_> =
        suspects.iter().filter_map(|suspect| suspect.pidfd.as_ref()).map(AsFd::as_fd).collect();
    let _ = wait_any_readable(&pidfds, Instant::now() + round);
}
