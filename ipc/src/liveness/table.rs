//! The table of the processes that use an arena: a slot for each.
//!
//! A slot's holder is one word with pid, start time and generation, so claiming it is one store that says who has it, and
//! releasing it is one store that also makes every id of the old holder nobody's. A process that is killed at any point in
//! between leaves a holder that is seen to be gone.
//!
//! Beside it lie the words that the kernel marks at its end: one for each process that watches it, since the kernel wakes one
//! sleeper of each word, and who is woken may be stopped before it can tell anybody.

use super::id::{GENERATION_BITS, SLOTS};
use super::presence::START_BITS;
use super::{Identity, ProcessId};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sync::ALL;
use crate::sys::futex::{self, Mark};

const PID_BITS: u32 = 22;
const _: () = assert!(PID_BITS + START_BITS + GENERATION_BITS == 64);

/// The words before the slots.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Header {
    /// Changes whenever there is something new to watch, or less. Keepers sleep on it.
    roster: AtomicU32,
    /// Slots from here on have never been used. A hint that only grows, and is raised before a claim.
    high: AtomicU32,
}

/// A process. On a cache line of its own.
#[repr(C, align(64))]
#[derive(Debug)]
pub(crate) struct Slot {
    /// `start 24 | generation 18 | pid 22`; pid 0: free. Changed by CAS: by who claims it, and by who has swept.
    holder: AtomicU64,
    /// Whether the process keeps descriptors for others: see `deposit::service`. 0 at the beginning of each.
    deposit: AtomicU32,
}

/// For how many watchers a process has marks. With more, some have one in common.
const WATCHERS: usize = futex::MOST_WORDS;

/// What the kernel marks when a process ends.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Marks([Mark; WATCHERS]);

/// Who has a slot, as its word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) id: ProcessId,
    pub(super) identity: Identity,
    word: u64,
}

fn word(identity: Identity, generation: u32) -> u64 {
    let generation = u64::from(generation % (1 << GENERATION_BITS)) << PID_BITS;
    u64::from(identity.start) << (PID_BITS + GENERATION_BITS) | generation | u64::from(identity.pid)
}

fn part(word: u64, shift: u32, bits: u32) -> u32 {
    // Within 32 bits by the mask.
    ((word >> shift) & ((1 << bits) - 1)) as u32
}

/// Whether the end of a third process is told to these two by one mark.
pub(super) fn have_marks_in_common(one: ProcessId, other: ProcessId) -> bool {
    one.slot() as usize % WATCHERS == other.slot() as usize % WATCHERS
}

/// The slots of an arena.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    header: &'static Header,
    slots: &'static [Slot],
    /// By slot.
    marks: &'static [Marks],
}

impl Table {
    /// The table made of these.
    pub(crate) fn new(header: &'static Header, slots: &'static [Slot], marks: &'static [Marks]) -> Self {
        let count = slots.len().min(marks.len()).min(SLOTS as usize);
        Self { header, slots: slots.get(..count).unwrap_or_default(), marks }
    }

    /// Takes a slot for the process `identity`, which is this one. `None`: all are taken.
    pub(crate) fn claim(&self, identity: Identity) -> Option<ProcessId> {
        let claimed = self.claim_quietly(identity);
        // Until the kernel will mark our end, the others look after us.
        self.announce();
        claimed
    }

    /// As [`claim`](Self::claim), and nobody is told. It is for a process that has another slot: who learns of its end through
    /// that one looks at all of them.
    pub(crate) fn claim_quietly(&self, identity: Identity) -> Option<ProcessId> {
        (1_u32..).zip(self.slots.get(1..)?).find_map(|(number, slot)| {
            let seen = slot.holder.load(Ordering::Relaxed);
            if part(seen, 0, PID_BITS) != 0 {
                return None;
            }
            self.header.high.fetch_max(number + 1, Ordering::Relaxed);
            let generation = part(seen, PID_BITS, GENERATION_BITS);
            let own = word(identity, generation);
            // Acquire pairs with the Release of `release`: what was swept for the last holder is done.
            slot.holder.compare_exchange(seen, own, Ordering::AcqRel, Ordering::Relaxed).ok()?;
            slot.deposit.store(0, Ordering::Relaxed);
            ProcessId::new(number, generation)
        })
    }

    /// Gives a slot that this process has claimed, and where no keeper runs, to the process `to`, by one store. Its number stays.
    pub(crate) fn hand_over(&self, claimed: ProcessId, to: Identity) {
        if let (Some(slot), Some(holder)) = (self.slot(claimed), self.holder(claimed.slot())) {
            let new = word(to, claimed.generation());
            // Release: what is in the slot, and what it has bits for, is there.
            let _ = slot.holder.compare_exchange(holder.word, new, Ordering::AcqRel, Ordering::Relaxed);
            self.announce();
        }
    }

    /// The slot of a process; `None` if the table has no such slot.
    fn slot(&self, id: ProcessId) -> Option<&'static Slot> {
        self.slots.get(id.slot() as usize)
    }

    /// All that the kernel marks at the end of a process.
    pub(super) fn marks(&self, id: ProcessId) -> Option<&'static [Mark]> {
        self.marks.get(id.slot() as usize).map(|marks| marks.0.as_slice())
    }

    /// The one that tells it to the process in the slot `watcher`.
    pub(super) fn mark(&self, id: ProcessId, watcher: u32) -> Option<&'static Mark> {
        self.marks(id)?.get(watcher as usize % WATCHERS)
    }

    /// Whether the keeper of a process runs.
    fn is_alive(&self, id: ProcessId) -> bool {
        self.mark(id, 0).is_some_and(Mark::is_alive)
    }

    /// The process in a slot.
    pub(super) fn holder(&self, number: u32) -> Option<Holder> {
        let word = self.slots.get(number as usize)?.holder.load(Ordering::Acquire);
        let pid = part(word, 0, PID_BITS);
        let start = part(word, PID_BITS + GENERATION_BITS, START_BITS);
        let id = ProcessId::new(number, part(word, PID_BITS, GENERATION_BITS))?;
        (pid != 0).then_some(Holder { id, identity: Identity { pid, start }, word })
    }

    /// Whether a process, which may be gone, has its slot still: nobody else has had it since.
    pub(crate) fn is_holder(&self, id: ProcessId) -> bool {
        self.holder(id.slot()).is_some_and(|holder| holder.id == id)
    }

    /// Whether a slot is that of this process.
    pub(crate) fn is_held_by(&self, id: ProcessId, identity: Identity) -> bool {
        self.holder(id.slot()).is_some_and(|holder| holder.id == id && holder.identity == identity)
    }

    /// The process that was started before all others, of those whose keepers run and that are `fit`.
    pub(crate) fn oldest(&self, fit: impl Fn(ProcessId) -> bool) -> Option<ProcessId> {
        let holders = self.after(0).filter_map(|number| self.holder(number));
        let fit = holders.filter(|holder| self.is_alive(holder.id) && fit(holder.id));
        let older = |one: Holder, other: Holder| {
            if other.identity.is_older_than(one.identity) { other } else { one }
        };
        fit.reduce(older).map(|holder| holder.id)
    }

    /// Whether a process that has its slot keeps descriptors for others.
    pub(crate) fn deposit_word(&self, id: ProcessId) -> Option<&'static AtomicU32> {
        self.is_holder(id).then(|| self.slot(id).map(|slot| &slot.deposit)).flatten()
    }

    /// All slots that may be taken, beginning behind `number` and going round to the one before it.
    pub(super) fn after(&self, number: u32) -> impl Iterator<Item = u32> + use<> {
        let count = u32::try_from(self.slots.len()).unwrap_or(SLOTS);
        let high = self.header.high.load(Ordering::Acquire).min(count);
        (number + 1..high).chain(1..number.min(high))
    }

    /// How many slots are taken.
    pub(crate) fn count(&self) -> usize {
        self.after(0).filter(|number| self.holder(*number).is_some()).count()
    }

    /// A line for each process that has a slot, for people.
    pub(crate) fn describe(&self) -> impl Iterator<Item = String> {
        self.after(0).filter_map(|number| {
            let holder = self.holder(number)?;
            let Identity { pid, start } = holder.identity;
            let (generation, mark) = (holder.id.generation(), self.mark(holder.id, 0).map_or(0, Mark::value));
            Some(format!("process {number}.{generation}: pid {pid}, started at {start}, mark {mark:x}"))
        })
    }

    /// Frees the slot of a process that is gone and swept, or of this one before its keeper runs. Whoever comes second does
    /// nothing. Its marks stay: they say what those of one say whose keeper does not run yet.
    pub(super) fn release(&self, holder: &Holder) {
        let Some(slot) = self.slot(holder.id) else { return };
        let free = word(Identity { pid: 0, start: 0 }, holder.id.generation().wrapping_add(1));
        if slot.holder.compare_exchange(holder.word, free, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.announce();
        }
    }

    /// Gives this process's slot back, when it could not start its keeper.
    pub(crate) fn withdraw(&self, own: ProcessId) {
        if let Some(holder) = self.holder(own.slot()).filter(|holder| holder.id == own) {
            self.release(&holder);
        }
    }

    /// Gives this process's slot back, when it is done with the arena. Its keeper may still be there, and tells nobody of its end.
    pub(crate) fn leave(&self, own: ProcessId) {
        if self.is_holder(own) {
            self.marks(own).into_iter().flatten().for_each(|mark| mark.set(0));
            self.withdraw(own);
        }
    }

    /// The word on which keepers sleep, and its value.
    pub(super) fn roster(&self) -> (&'static AtomicU32, u32) {
        (&self.header.roster, self.header.roster.load(Ordering::Acquire))
    }

    /// Wakes all keepers, which then look who is there.
    pub(crate) fn announce(&self) {
        self.header.roster.fetch_add(1, Ordering::Release);
        futex::wake(&self.header.roster, ALL);
    }
}
