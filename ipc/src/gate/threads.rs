//! The threads of ours, and all others.
//!
//! A thread that is not ours may hold any lock of the program when a fork copies it. Ours are known by their ids, from
//! their first instruction of ours, with a passage that their starter got for them, to their last; from then on they
//! count as *leaving* until the kernel no longer lists them.

use super::{CHANGED, Passage, State, come_in, depth, go_out, lock};
use crate::start::StartMethod;
use crate::{Error, Result};
use std::fs;
use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::MetadataExt;
use std::thread::{Builder, JoinHandle};

/// Where the kernel lists the threads of this process.
const TASKS: &str = "/proc/self/task";

/// Most threads that an error names.
const NAMED: usize = 8;

/// A thread of ours, or one at rest.
#[derive(Debug)]
pub(super) struct Thread {
    id: i32,
    /// It has run our last instruction.
    leaving: bool,
}

/// A thread of the program that waits for us, and counts as ours meanwhile.
#[derive(Debug)]
#[must_use = "the thread is at rest as long as this lives"]
pub struct Rest {
    /// `None` if it is one of ours anyway.
    id: Option<i32>,
    /// It is about its thread.
    _thread: PhantomData<*const ()>,
}

/// Says that this thread only waits now for something for which another thread may fork, outside the gate. What it holds is
/// what it would hold if it forked itself.
pub fn rest() -> Rest {
    let id = own_id();
    let mut state = lock();
    let is_known = state.threads.iter().any(|thread| thread.id == id);
    if !is_known {
        state.threads.push(Thread { id, leaving: false });
    }
    Rest { id: (!is_known).then_some(id), _thread: PhantomData }
}

impl Drop for Rest {
    fn drop(&mut self) {
        // While a fork is under way, this waits for it.
        if let Some(id) = self.id {
            lock().threads.retain(|thread| thread.id != id);
        }
    }
}

/// A passage on its way to a new thread.
struct Ticket(Option<&'static str>);

impl Ticket {
    fn take(what: &'static str) -> Self {
        if depth() == 0 {
            come_in(what);
        } else {
            // Already inside: a fork waits for us, so we must not wait for it.
            lock().inside.push(what);
        }
        Self(Some(what))
    }

    /// On the new thread: it is one of ours from here to the end of the guard.
    fn redeem(mut self) -> (Registered, Passage) {
        let passage = Passage::on_this_thread(self.0.take().unwrap_or_default());
        let id = own_id();
        let mut state = lock();
        state.threads.retain(|thread| !thread.leaving || is_listed(thread.id));
        state.threads.push(Thread { id, leaving: false });
        drop(state);
        (Registered(id), passage)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(what) = self.0 {
            go_out(what);
        }
    }
}

/// A thread of ours, as long as it runs our code.
struct Registered(i32);

impl Drop for Registered {
    fn drop(&mut self) {
        let mut state = lock();
        if let Some(thread) = state.threads.iter_mut().find(|thread| thread.id == self.0) {
            thread.leaving = true;
        }
        CHANGED.notify_all();
    }
}

/// Starts a thread of ours. It begins inside the gate and should be outside whenever it blocks.
///
/// # Errors
///
/// No thread is to be had.
pub fn spawn<T: Send + 'static>(
    builder: Builder,
    body: impl FnOnce(Passage) -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let ticket = Ticket::take("a new thread");
    builder.spawn(move || {
        let (_registered, passage) = ticket.redeem();
        body(passage)
    })
}

/// Runs `body` on a thread of its own, outside the gate, and waits for it. `None` if there is none to be had.
///
/// The caller must be outside too: a passage of its own would keep `body` from forking.
pub fn run_aside<T: Send>(name: &str, body: impl FnOnce() -> T + Send) -> Option<T> {
    let _rest = rest();
    let ticket = Ticket::take("a new thread");
    std::thread::scope(|scope| {
        let run = move || {
            let (_registered, passage) = ticket.redeem();
            drop(passage);
            body()
        };
        Builder::new().name(name.to_owned()).spawn_scoped(scope, run).ok()?.join().ok()
    })
}

/// What threads there are beside the caller and ours.
#[derive(Debug)]
pub(super) enum Others {
    /// None.
    None,
    /// Threads of ours that are about to be gone.
    Leaving,
    /// These, by id.
    Strangers(Vec<i32>),
}

impl Others {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::None | Self::Leaving => Error::OtherThreads { count: 1, names: Vec::new() },
            Self::Strangers(ids) => {
                let names = ids.iter().take(NAMED).map(|&id| name_of(id)).collect();
                Error::OtherThreads { count: ids.len(), names }
            }
        }
    }
}

/// Looks for threads beside the caller and ours.
pub(super) fn others(state: &mut State) -> Result<Others> {
    let failed = |error| Error::NotSupported {
        method: StartMethod::Fork.name(),
        reason: format!(
            "without {TASKS} there is no telling whether other threads run ({error}): mount /proc, or allow them"
        ),
    };
    let own = own_id();
    let ours = state.threads.iter().filter(|thread| thread.id != own).count();
    // Threads are counted in the number of links, which is cheaper than to list them.
    let running = fs::metadata(TASKS).map_err(failed)?.nlink().saturating_sub(2);
    let leaving = state.threads.iter().any(|thread| thread.leaving && thread.id != own);
    if running == 1 + ours as u64 && !leaving {
        return Ok(Others::None);
    }
    state.threads.retain(|thread| !thread.leaving || is_listed(thread.id));
    let known = |id: i32| id == own || state.threads.iter().any(|thread| thread.id == id);
    let listed = fs::read_dir(TASKS).map_err(failed)?.flatten();
    let ids = listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let strangers: Vec<i32> = ids.filter(|&id| !known(id)).collect();
    if !strangers.is_empty() {
        Ok(Others::Strangers(strangers))
    } else if state.threads.iter().any(|thread| thread.leaving && thread.id != own) {
        Ok(Others::Leaving)
    } else {
        Ok(Others::None)
    }
}

fn own_id() -> i32 {
    nix::unistd::gettid().as_raw()
}

fn is_listed(id: i32) -> bool {
    fs::metadata(format!("{TASKS}/{id}")).is_ok()
}

fn name_of(id: i32) -> String {
    let name = fs::read_to_string(format!("{TASKS}/{id}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}
