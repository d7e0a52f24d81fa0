//! Waiting by tasks: one thread of the process sleeps for all of them.
//!
//! States of a wait: *announced* (to whoever wakes, and on the list of a desk) -> *woken* (the thread took it off the list, and
//! woke its task), or *withdrawn* (its task took it off).
//!
//! A wake-up is for one sleeper among all processes, so none may be lost here:
//! - a task withdraws before it looks at its condition, so whoever was woken looks once after that;
//! - a wait that is dropped and was woken passes the wake-up on, since its task did not look;
//! - the thread passes on what woke it for an event that is on nobody's list any more.
//!
//! The thread `procession-wait` starts with the first task that waits, and sleeps while nothing happens. One thread sleeps for
//! 127 events, which is the kernel's limit; beyond that there is another one. In a copy by fork there is none: it starts its own.

use super::eventcount::Ticket;
use crate::atomic::{AtomicU32, Ordering};
use crate::gate::{self, Origin, Passage, PerProcess};
use crate::sys::futex;
use crate::{Error, Result};
use std::future::poll_fn;
use std::ptr;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread::Builder;
use std::time::Duration;

/// What somebody inside the gate does here.
const WAITING: &str = "the thread that waits for tasks";

/// Most events that one thread sleeps on: one word is its bell.
const MOST_EVENTS: usize = futex::MOST_WORDS - 1;

/// How long the thread rests if the kernel refuses to let it sleep.
const REST: Duration = Duration::from_secs(1);

/// The threads of this process.
static DESKS: LazyLock<PerProcess<Mutex<Vec<Arc<Desk>>>>> = LazyLock::new(PerProcess::default);

/// What tasks wait on: an event count, or a lock.
pub(crate) trait Event: Sync {
    /// Announces a sleeper. The condition must be looked at between this and sleeping.
    fn announce(&self) -> Ticket;

    /// Takes the announcement back.
    fn withdraw(&self, ticket: &Ticket);

    /// Whether something has happened since the ticket was taken, so that the condition must be looked at.
    fn has_moved(&self, ticket: &Ticket) -> bool;

    /// The word to sleep on: while it has the ticket's key, and it had that when it had not moved.
    fn word(&self) -> &AtomicU32;

    /// Wakes another sleeper in place of one that was woken and does not look.
    fn pass_on(&self);
}

/// A task that waits.
struct Sleeper {
    number: u64,
    event: &'static dyn Event,
    ticket: Ticket,
    waker: Waker,
}

/// What a thread sleeps for.
#[derive(Default)]
struct Desk {
    /// Changes when there is more to sleep for.
    bell: AtomicU32,
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    last: u64,
    sleepers: Vec<Sleeper>,
}

/// A wait that is announced. Dropped, it gives up.
struct Announced {
    desk: Arc<Desk>,
    event: &'static dyn Event,
    number: u64,
    origin: Origin,
}

/// Waits until `condition` gives something.
///
/// # Errors
///
/// The thread cannot be started.
pub(crate) async fn wait_for<T>(
    event: &'static dyn Event,
    mut condition: impl FnMut() -> Option<T>,
) -> Result<T> {
    let mut announced: Option<Announced> = None;
    poll_fn(move |context| {
        if let Some(before) = announced.take() {
            before.withdraw();
        }
        if let Some(found) = condition() {
            return Poll::Ready(Ok(found));
        }
        let new = match announce(event, context.waker()) {
            Ok(new) => new,
            Err(error) => return Poll::Ready(Err(error)),
        };
        // What has become true before we were counted woke nobody.
        let found = condition();
        if found.is_none() {
            announced = Some(new);
        }
        found.map_or(Poll::Pending, |found| Poll::Ready(Ok(found)))
    })
    .await
}

fn announce(event: &'static dyn Event, waker: &Waker) -> Result<Announced> {
    let _passage = gate::enter(WAITING);
    let mut desks = DESKS.get().lock().unwrap_or_else(PoisonError::into_inner);
    let desk = match desks.iter().find(|desk| desk.has_room_for(event)) {
        Some(desk) => Arc::clone(desk),
        None => {
            let desk = start()?;
            desks.push(Arc::clone(&desk));
            desk
        }
    };
    let number = desk.add(event, waker.clone());
    Ok(Announced { desk, event, number, origin: Origin::here() })
}

fn start() -> Result<Arc<Desk>> {
    let desk = Arc::new(Desk::default());
    let own = Arc::clone(&desk);
    let builder = Builder::new().name("procession-wait".to_owned());
    gate::spawn(builder, move |passage| run(&own, passage))
        .map_err(|error| Error::os("start the thread that waits for tasks", error))?;
    Ok(desk)
}

fn run(desk: &Desk, mut passage: Passage) -> ! {
    // What the thread has slept on.
    let mut slept: Vec<(&'static dyn Event, Ticket)> = Vec::new();
    loop {
        let bell = desk.bell.load(Ordering::Acquire);
        let (woken, next) = desk.look(slept);
        slept = next;
        drop(passage);
        if woken.is_empty() {
            let words = slept.iter().map(|(event, ticket)| (event.word(), ticket.key));
            let words: Vec<_> = std::iter::once((&desk.bell, bell)).chain(words).collect();
            if futex::wait_any(&words, None).is_err() {
                std::thread::park_timeout(REST);
            }
        }
        woken.into_iter().for_each(Waker::wake);
        passage = gate::enter(WAITING);
    }
}

impl Desk {
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the thread sleeps on that event, or can sleep on one more.
    fn has_room_for(&self, event: &dyn Event) -> bool {
        let list = self.list();
        list.has(event) || list.events().len() < MOST_EVENTS
    }

    fn add(&self, event: &'static dyn Event, waker: Waker) -> u64 {
        let mut list = self.list();
        list.last += 1;
        let number = list.last;
        list.sleepers.push(Sleeper { number, event, ticket: event.announce(), waker });
        drop(list);
        self.bell.fetch_add(1, Ordering::Release);
        futex::wake(&self.bell, 1);
        number
    }

    /// Takes a sleeper off the list; `false`: it was woken.
    fn remove(&self, number: u64) -> bool {
        let mut list = self.list();
        let Some(at) = list.sleepers.iter().position(|sleeper| sleeper.number == number) else {
            return false;
        };
        let sleeper = list.sleepers.swap_remove(at);
        drop(list);
        sleeper.event.withdraw(&sleeper.ticket);
        true
    }

    /// Takes those off the list for which something has happened, and says what to sleep on next.
    fn look(
        &self,
        slept: Vec<(&'static dyn Event, Ticket)>,
    ) -> (Vec<Waker>, Vec<(&'static dyn Event, Ticket)>) {
        let mut list = self.list();
        for (event, ticket) in slept {
            if event.has_moved(&ticket) && !list.has(event) {
                event.pass_on();
            }
        }
        let (woken, rest): (Vec<_>, Vec<_>) =
            list.sleepers.drain(..).partition(|sleeper| sleeper.event.has_moved(&sleeper.ticket));
        list.sleepers = rest;
        let next = list.events();
        // Before the list is let go: a task that finds itself taken off may drop its handle, and the event may then be another one's.
        woken.iter().for_each(|sleeper| sleeper.event.withdraw(&sleeper.ticket));
        drop(list);
        (woken.into_iter().map(|sleeper| sleeper.waker).collect(), next)
    }
}

impl List {
    fn has(&self, event: &dyn Event) -> bool {
        self.sleepers.iter().any(|sleeper| ptr::addr_eq(sleeper.event, event))
    }

    /// Each event, with the ticket of one of its sleepers.
    fn events(&self) -> Vec<(&'static dyn Event, Ticket)> {
        let mut events: Vec<_> =
            self.sleepers.iter().map(|sleeper| (sleeper.event, sleeper.ticket)).collect();
        events.sort_by_key(|(event, _)| ptr::from_ref(*event).cast::<()>());
        events.dedup_by_key(|(event, _)| ptr::from_ref(*event).cast::<()>());
        events
    }
}

impl Announced {
    /// Its task is about to look.
    fn withdraw(mut self) {
        self.give_up();
    }

    /// Whether it had been woken.
    fn give_up(&mut self) -> bool {
        let number = std::mem::take(&mut self.number);
        // What was announced before a fork is the parent's.
        if number == 0 || !self.origin.is_here() {
            return false;
        }
        let _passage = gate::enter(WAITING);
        !self.desk.remove(number)
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if self.give_up() {
            self.event.pass_on();
        }
    }
}
