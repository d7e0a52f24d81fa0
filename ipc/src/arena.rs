//! The memory that all processes of a family share: one sparse memory file, made by the root, mapped by whoever first needs it.
//! Beside it there are [`foreign`] ones, each of which has one object.
//!
//! States, in each process:
//!
//! ```text
//! the file     none -> made (the root, before its first start) or given (a child, by a step of its start)
//! the map      none -> mapped, for good, when something of the arena is first used
//! the process  outside -> joining -> inside: it has a slot and a keeper; needed by whoever acquires anything
//!              inside -> outside, of a foreign arena alone, with the last handle of its object
//! ```
//!
//! A copy by fork has file and map, and is outside again: its id lies in a word that the kernel wipes in copies. So it joins
//! anew: at once if it has handles of objects, since those are counted by process, or else when it first needs to.
//!
//! `mailbox/README.md` has the layout, the rules, and what a death leaves at each point.

mod annex;
mod budget;
pub(crate) mod cell;
#[cfg(test)]
mod deaths;
mod endings;
mod foreign;
pub(crate) mod handle;
mod holders;
mod layout;
pub(crate) mod seat;
pub(crate) mod segments;
mod state;
#[cfg(test)]
mod tests;
mod usage;

use crate::atomic::{AtomicU32, Ordering};
use crate::authkey::random_bytes;
use crate::deposit::{self, Tickets};
use crate::gate;
use crate::liveness::{self, Identity, Keeper, ProcessId, Table, Tenure};
use crate::mailbox::queue::Words;
use crate::mailbox::ring::Ring;
use crate::rendezvous::Address;
use crate::shm::{Region, Shareable};
use crate::sync::lock::Lock;
use crate::sync::{ALL, Futex};
use crate::sys::futex;
use crate::sys::memory::{self, Map, WordsPerProcess};
use crate::{Error, Result};
use annex::Annexes;
use cell::{Cell, Cells, Clearing, Kind, Place};
pub(crate) use handle::{Handle, Pin, take_off};
pub(crate) use layout::Header;
use layout::Layout;
use nix::errno::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
pub use usage::{Usage, census, usage};

/// In the word with our id, while a thread registers this process: no process has this number.
const JOINING: u32 = u32::MAX;

/// The file of this family.
#[derive(Debug, Clone)]
enum File {
    /// Not needed yet.
    None,
    /// As it was made here, or given to us.
    There(Arc<OwnedFd>),
    /// The root could not make it, for this reason, and no process of the family has one.
    Failed(String),
}

static FILE: Mutex<File> = Mutex::new(File::None);

fn file_slot() -> MutexGuard<'static, File> {
    FILE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The file, or why there is none; in the root, it is made now. What may go better another time is an error.
fn file() -> Result<File> {
    let mut slot = file_slot();
    if matches!(*slot, File::None) {
        *slot = match make() {
            Ok(file) => File::There(Arc::new(file)),
            Err(error) if is_for_now(&error) => return Err(error),
            Err(error) => File::Failed(crate::error::chain(&error)),
        };
    }
    Ok(slot.clone())
}

/// Whether something has run out that may come back: descriptors, memory.
fn is_for_now(error: &Error) -> bool {
    let Error::Os { source, .. } = error else { return false };
    let code = source.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EAGAIN))
}

/// Makes a file: for this family, or for processes that are apart from it.
pub(crate) fn make() -> Result<OwnedFd> {
    let doing = |e| Error::os("make the memory that processes share", e);
    let layout = Layout::for_this_machine().map_err(doing)?;
    let file = memory::sparse_memory(layout.length() as u64).map_err(doing)?;
    let id = u64::from_ne_bytes(random_bytes()?);
    memory::write_at(file.as_fd(), 0, &Header::bytes(id, namespaces()?)).map_err(doing)?;
    Ok(file)
}

/// The namespaces of PIDs and of time, as one number: in others, our processes have other numbers and start times.
fn namespaces() -> Result<u64> {
    let number = |name: &str| std::fs::metadata(format!("/proc/self/ns/{name}")).map(|file| file.ino());
    let pid = number("pid").map_err(|e| Error::os("look up the PID namespace of this process", e))?;
    // Where there are none of time, there is one time.
    Ok(pid.rotate_left(32) ^ number("time").unwrap_or_default())
}

/// Makes the file, if that has not been tried before.
///
/// # Errors
///
/// No descriptor or no memory left.
pub(crate) fn make_sure() -> Result<()> {
    file().map(drop)
}

/// Whether this process has a file, or has tried to make one.
pub(crate) fn is_there() -> bool {
    !matches!(*file_slot(), File::None)
}

/// What a child is given: the file, or the reason why there is none.
pub(crate) fn offer() -> Result<(Vec<u8>, Vec<OwnedFd>)> {
    match file()? {
        File::There(file) => {
            let copy = file.try_clone().map_err(|e| Error::os("duplicate a descriptor", e))?;
            Ok((Vec::new(), vec![copy]))
        }
        File::Failed(reason) => Ok((reason.into_bytes(), Vec::new())),
        File::None => Ok((Vec::new(), Vec::new())),
    }
}

/// Takes over what the parent gave.
pub(crate) fn adopt(reason: &[u8], files: Vec<OwnedFd>) {
    let given = files.into_iter().next().map(|file| File::There(Arc::new(file)));
    *file_slot() = given.unwrap_or_else(|| File::Failed(String::from_utf8_lossy(reason).into_owned()));
}

/// An arena, mapped. What it shows lies at the same addresses for good, and may be another file's one day ([`foreign`]).
#[derive(Debug)]
pub(crate) struct Arena {
    role: Role,
    /// Tells handles of the family from those of others; 0 in a foreign one. As the header said once: somebody may write there.
    id: u64,
    header: &'static Header,
    region: Region,
    layout: Layout,
    table: Table,
    cells: Cells,
    annexes: Annexes,
    /// Our [`ProcessId`], [`JOINING`], or 0 while we are outside, and in every new copy of us.
    own: &'static AtomicU32,
    /// 1 while a keeper of ours is there that may end, else 0; in every new copy of us too.
    keeper: &'static AtomicU32,
}

/// What an arena is to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It is the family's: handles are counted, and it is never left.
    Family,
    /// It has one object, whose handles nobody counts.
    Foreign,
}

static ARENA: OnceLock<Arena> = OnceLock::new();

/// This process, if it uses shared memory.
pub(crate) fn own() -> Option<ProcessId> {
    ARENA.get().and_then(Arena::inside)
}

/// Of what this process has handles: what a copy by fork has too. The gate is closed.
pub(crate) fn held() -> Vec<Place> {
    if own().is_some() { handle::holdings().all() } else { Vec::new() }
}

/// The arena of this family, mapped now if it was not before.
pub(crate) fn arena() -> Result<&'static Arena> {
    static MAPPING: Mutex<()> = Mutex::new(());
    if let Some(arena) = ARENA.get() {
        return Ok(arena);
    }
    let _passage = gate::enter("mapping the memory that processes share");
    let _one_at_a_time = MAPPING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(arena) = ARENA.get() {
        return Ok(arena);
    }
    let arena = match file()? {
        File::There(file) => Arena::map(file.as_fd(), Role::Family)?,
        File::Failed(reason) => return Err(Error::NoSharedMemory { reason }),
        File::None => return Err(Error::NoSharedMemory { reason: "it was not made".to_owned() }),
    };
    Ok(ARENA.get_or_init(|| arena))
}

impl Arena {
    fn map(file: BorrowedFd<'_>, role: Role) -> Result<Self> {
        let doing = |e| Error::os("map the memory that processes share (is RLIMIT_AS low?)", e);
        let words = WordsPerProcess::new().map_err(doing)?;
        let region = Region::new(Map::new(file).map_err(doing)?);
        let malformed = Error::Malformed { what: "shared memory" };
        let parts = Layout::of(region.length()).and_then(|layout| {
            let header = layout.header(&region)?;
            let objects = (layout.cells(&region)?, layout.annexes(&region)?);
            Some((layout, header, layout.table(&region)?, objects))
        });
        let Some((layout, header, table, (cells, annexes))) = parts else { return Err(malformed) };
        let id = match role {
            Role::Family => header.family().ok_or(malformed)?.0,
            // It was looked at before.
            Role::Foreign => 0,
        };
        let [own, keeper] = words.keep();
        Ok(Self { role, id, header, region, layout, table, cells, annexes, own, keeper })
    }

    /// Tells this arena from that of any other family.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The cells of objects.
    pub(crate) fn cells(&self) -> &Cells {
        &self.cells
    }

    /// What the objects have outside of their cells.
    pub(crate) fn annexes(&self) -> &Annexes {
        &self.annexes
    }

    /// The words of the object in a cell.
    pub(crate) fn words<T: Shareable>(&self, index: u32) -> Option<&'static T> {
        const { assert!(size_of::<T>() <= Cell::ROOM) };
        self.region.view(self.layout.body_of(index)?)
    }

    /// This process, which joins if it is outside.
    #[inline]
    pub(crate) fn own(&'static self) -> Result<ProcessId> {
        match self.inside() {
            Some(own) => Ok(own),
            None => self.join(None),
        }
    }

    /// This process, if it has joined.
    #[inline]
    pub(crate) fn inside(&self) -> Option<ProcessId> {
        // Acquire pairs with the Release in `join`: our keeper runs.
        ProcessId::from_own(self.own.load(Ordering::Acquire))
    }

    /// Begins to use shared memory: in the slot `seat`, or in a new one.
    #[cold]
    fn join(&'static self, seat: Option<ProcessId>) -> Result<ProcessId> {
        loop {
            match self.own.compare_exchange(0, JOINING, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => {
                    let joined = {
                        let _passage = gate::enter("beginning to use the memory that processes share");
                        self.register(seat)
                    };
                    let bits = joined.as_ref().map_or(0, |own| own.bits());
                    self.own.store(bits, Ordering::Release);
                    futex::wake(self.own, ALL);
                    return joined;
                }
                Err(JOINING) => {
                    let _ = futex::wait(self.own, JOINING, None);
                }
                Err(bits) => {
                    return ProcessId::from_bits(bits).ok_or(Error::Malformed { what: "process id" });
                }
            }
        }
    }

    fn register(&'static self, seat: Option<ProcessId>) -> Result<ProcessId> {
        let (_, theirs) = self.header.family().ok_or(Error::Malformed { what: "shared memory" })?;
        if namespaces()? != theirs {
            let reason =
                "this process is in another namespace of PIDs or of time than the first one of its family";
            return Err(Error::NoSharedMemory { reason: reason.to_owned() });
        }
        if !futex::has_wait_any() {
            let reason = "the kernel has no futex_waitv: it must be Linux 5.16 or later";
            return Err(Error::NoSharedMemory { reason: reason.to_owned() });
        }
        let own = self.slot(Identity::own()?, seat)?;
        match self.keep(own) {
            Ok(()) if self.role == Role::Family => handle::adopt_inherited(self, own),
            Ok(()) => {}
            Err(error) => {
                // A seat has bits: it is given up by whoever sweeps for this process.
                if seat.is_none() {
                    self.table.withdraw(own);
                }
                return Err(error);
            }
        }
        Ok(own)
    }

    /// Starts the keeper.
    fn keep(&'static self, own: ProcessId) -> Result<()> {
        let (woken, tenure): (fn(ProcessId), _) = match self.role {
            Role::Family => (deposit::look_after, None),
            Role::Foreign => (|_| {}, Some(Tenure::begin(self.own, self.keeper))),
        };
        let sweep = move |gone| self.sweep(gone, own);
        Keeper { table: self.table, own, sweep, presence: liveness::presence_of, woken, tenure }.start()
    }

    fn slot(&self, identity: Identity, seat: Option<ProcessId>) -> Result<ProcessId> {
        match seat {
            Some(seat) if self.table.is_held_by(seat, identity) => Ok(seat),
            Some(_) => Err(Error::Malformed { what: "slot of this process" }),
            None => {
                let limit = liveness::MOST_PROCESSES;
                self.table.claim(identity).ok_or(Error::TooManyProcesses { limit })
            }
        }
    }

    /// What is done for the process `gone`, by this one. It may be cut off anywhere, and be done by several at the same time.
    fn sweep(&self, gone: ProcessId, own: ProcessId) {
        let mut tickets = Tickets::default();
        self.annexes.sweep(gone);
        for index in self.objects() {
            self.relieve(index, gone);
            if self.role == Role::Family {
                tickets.append(handle::give_up(self, index, gone, own));
            }
        }
        // Who keeps the descriptors may be stopped, and a keeper waits for nobody.
        tickets.give_back_aside();
    }

    /// All in which a process may have had something in its hands.
    fn objects(&self) -> std::ops::Range<u32> {
        match self.role {
            Role::Family => self.cells.all(),
            // Whatever somebody has written into its header.
            Role::Foreign => 0..1,
        }
    }

    /// The object in a cell goes on without the process `gone`, which may have held any.
    fn relieve(&self, index: u32, gone: ProcessId) {
        match self.cells.kind_of(index) {
            Some(Kind::Lock) => {
                self.words::<Lock>(index).into_iter().for_each(|lock| lock.abandon(gone, &Futex));
            }
            Some(Kind::Queue) => {
                let locks = self.annexes.ring(index).map(Ring::locks);
                locks.into_iter().flatten().for_each(|lock| lock.abandon(gone, &Futex));
                self.words::<Words>(index).into_iter().for_each(Words::wake_all);
            }
            None => {}
        }
    }

    /// Leaves it for good: this process does nothing there any more. What it had in its hands, the others get as if it had ended.
    fn leave(&self) {
        let Some(own) = self.inside() else { return };
        self.annexes.sweep(own);
        self.objects().for_each(|index| self.relieve(index, own));
        self.table.leave(own);
        // Release: all this was before whatever the keeper does last.
        self.own.store(0, Ordering::Release);
        futex::wake(self.own, ALL);
    }

    /// The oldest process of those that use shared memory, live, and are `fit`.
    pub(crate) fn oldest(&self, fit: impl Fn(ProcessId) -> bool) -> Option<ProcessId> {
        self.table.oldest(fit)
    }

    /// What `deposit::service` knows of a process; `None`: it is gone.
    pub(crate) fn deposit_word(&self, host: ProcessId) -> Option<&'static AtomicU32> {
        self.table.deposit_word(host)
    }

    /// Where a process answers that keeps descriptors for others: no other process of any family has this name.
    pub(crate) fn deposit_address(&self, host: ProcessId) -> Address {
        let name = u128::from(self.id()) << 64 | u128::from(host.bits());
        Address::of(name.to_be_bytes())
    }

    /// Has all keepers look whether something is wanted of them.
    pub(crate) fn wake_keepers(&self) {
        self.table.announce();
    }

    /// Whether nobody else has had the slot of a process, which may be gone, since.
    pub(crate) fn has_slot(&self, process: ProcessId) -> bool {
        self.table.is_holder(process)
    }

    /// Gives back what belongs to an object that has ended, and ends what ends with it. No lock of this process is held.
    fn bury(&self, ended: Option<Clearing>) -> Tickets {
        ended.map_or_else(Tickets::default, |ended| endings::bury(&self.cells, &self.annexes, ended))
    }
}
