//! One connection to an actor's process: the calls in flight over it, and who reads their replies.
//!
//! There is no thread per connection. Of the threads that wait for a reply, one *leads*: it reads for all, and hands the
//! lead on when its own reply is there. A caller alone therefore writes and reads by itself, without any hop.
//!
//! ```text
//! Lead    Nobody   no reply is waited for; replies stay in the socket
//!         Caller   a blocked caller reads
//!         Thread   the thread `procession-calls` reads: only tasks wait, or unsent requests do
//! ```
//!
//! Invariants:
//! - writing never waits. What the socket does not take goes to the [`Outbox`], and the thread sees to it; whoever sends
//!   more than the socket takes has a reader, so both directions always move;
//! - only the leader locks `reading`, and it is the only one that decodes anything;
//! - locks are taken in the order `reading`, `out`, `state`;
//! - a slot exists from before its request is written until its caller takes the answer or gives up; an answer without a
//!   slot is dropped;
//! - once the link is *lost*, every slot is answered and no new one is made.

use super::Answer;
use super::frame::{Status, next_reply};
use super::outbox::{Outbox, Sent};
use super::thread;
use crate::authkey::AuthKey;
use crate::connection::auth::{self, Handshake};
use crate::gate;
use crate::spin::Spin;
use crate::stream::{Inbox, Interest, Stream};
use crate::{Error, Result};
use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread::Thread;
use std::time::Instant;

/// Why a link is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// The other side is gone.
    Died,
    /// It said that the actor was stopped.
    Stopped,
    /// It does not know the key.
    NotAuthenticated,
    /// It does not speak our language.
    Malformed,
}

/// Why a request was not sent at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unsent {
    /// The link is lost.
    Lost,
    /// Too much waits for the actor already.
    Full,
}

/// Who reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    Nobody,
    Caller,
    Thread,
}

/// Who waits for an answer.
#[derive(Debug)]
enum Waiter {
    Blocked(Thread),
    Task(Waker),
}

impl Waiter {
    fn wake(self) {
        match self {
            Self::Blocked(thread) => thread.unpark(),
            Self::Task(waker) => waker.wake(),
        }
    }
}

#[derive(Debug)]
enum Slot {
    Waiting(Option<Waiter>),
    Done(Result<Answer, Loss>),
}

#[derive(Debug)]
struct State {
    slots: HashMap<u64, Slot>,
    /// Blocked callers that do not lead.
    followers: Vec<u64>,
    /// Number of slots in which a task waits.
    tasks: usize,
    lead: Lead,
    /// When the handshake ended.
    met: Option<Instant>,
    /// What the end of the stream means.
    end: Loss,
    lost: Option<Loss>,
}

/// What only the leader touches.
#[derive(Debug)]
struct Reading {
    inbox: Inbox,
    spin: Spin,
    /// `None` once both sides know that the other one has the key.
    handshake: Option<Handshake>,
}

/// A connection to an actor's process.
#[derive(Debug)]
pub(super) struct Link {
    stream: Stream,
    /// Who made it: after a fork it is not ours.
    owner: u32,
    reading: Mutex<Reading>,
    out: Mutex<Outbox>,
    state: Mutex<State>,
}

/// Values behind our locks stay valid between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    /// A link over a fresh connection. The handshake happens when somebody first waits.
    pub(super) fn new(stream: Stream, key: AuthKey) -> Self {
        let handshake = Some(Handshake::dialer(key));
        let state = State {
            slots: HashMap::new(),
            followers: Vec::new(),
            tasks: 0,
            lead: Lead::Nobody,
            met: None,
            end: Loss::Died,
            lost: None,
        };
        Self {
            stream,
            owner: std::process::id(),
            reading: Mutex::new(Reading { inbox: Inbox::default(), spin: Spin::default(), handshake }),
            out: Mutex::new(Outbox::new()),
            state: Mutex::new(state),
        }
    }

    /// When both sides had proved that they know the key; before, the process at the other end may not be there yet.
    pub(super) fn met(&self) -> Option<Instant> {
        lock(&self.state).met
    }

    /// Whether new calls may go over it.
    pub(super) fn is_usable(&self) -> bool {
        self.owner == std::process::id() && lock(&self.state).lost.is_none()
    }

    /// Sends a request without waiting; its id.
    pub(super) fn send(self: &Arc<Self>, frame: &mut [u8]) -> Result<u64, Unsent> {
        let mut out = lock(&self.out);
        let id = out.next_id();
        {
            let mut state = lock(&self.state);
            if state.lost.is_some() {
                return Err(Unsent::Lost);
            }
            // Before the request is written, or its answer might find no slot.
            state.slots.insert(id, Slot::Waiting(None));
        }
        let sent = out.send(frame, &self.stream);
        drop(out);
        match sent {
            Sent::Done => return Ok(id),
            Sent::Waits => {
                if thread::engage(self).is_err() {
                    self.lose(Loss::Died);
                }
                return Ok(id);
            }
            Sent::Gone | Sent::Full => {}
        }
        self.forget(id);
        Err(if sent == Sent::Full { Unsent::Full } else { Unsent::Lost })
    }

    /// Has requests go out although nobody waits for their answers.
    pub(super) fn see_to_requests(self: &Arc<Self>) -> Result<()> {
        let waiting = {
            let out = lock(&self.out);
            out.has_held() || out.has_unsent()
        };
        if waiting && self.take_lead_for_thread() { thread::engage(self) } else { Ok(()) }
    }

    fn take_lead_for_thread(&self) -> bool {
        let mut state = lock(&self.state);
        let is_free = state.lead == Lead::Nobody && state.lost.is_none();
        if is_free {
            state.lead = Lead::Thread;
        }
        is_free
    }

    /// Waits for the answer to `id` on the calling thread.
    pub(super) fn wait(self: &Arc<Self>, id: u64) -> Result<Answer, Loss> {
        loop {
            let mut state = lock(&self.state);
            if let Some(answer) = state.take(id) {
                return answer;
            }
            if state.lead == Lead::Nobody {
                state.lead = Lead::Caller;
                drop(state);
                self.lead_until(id);
            } else {
                state.follow(id);
                drop(state);
                let _rest = gate::rest();
                std::thread::park();
            }
        }
    }

    /// Reads for all until the answer to `id` is there.
    fn lead_until(self: &Arc<Self>, id: u64) {
        let mut reading = lock(&self.reading);
        loop {
            self.read(&mut reading, Stream::read);
            if matches!(lock(&self.state).slots.get(&id), None | Some(Slot::Done(_))) {
                break;
            }
        }
        drop(reading);
        self.hand_over();
    }

    /// Gives the lead to whoever needs it next.
    fn hand_over(self: &Arc<Self>) {
        let has_unsent = lock(&self.out).has_unsent();
        let mut state = lock(&self.state);
        state.lead = Lead::Nobody;
        if let Some(next) = state.next_follower() {
            drop(state);
            next.wake();
        } else if state.lost.is_none() && (state.tasks > 0 || has_unsent) {
            state.lead = Lead::Thread;
            drop(state);
            if thread::engage(self).is_err() {
                self.lose(Loss::Died);
            }
        }
    }

    /// The answer to `id`, or a promise to wake `context` when it is there.
    pub(super) fn poll(self: &Arc<Self>, id: u64, context: &Context<'_>) -> Poll<Result<Answer, Loss>> {
        let mut state = lock(&self.state);
        if let Some(answer) = state.take(id) {
            return Poll::Ready(answer);
        }
        state.wait_as_task(id, context.waker());
        if state.lead == Lead::Nobody {
            state.lead = Lead::Thread;
            drop(state);
            if thread::engage(self).is_err() {
                // It wakes us with the loss.
                self.lose(Loss::Died);
            }
        }
        Poll::Pending
    }

    /// Gives the answer to `id` up.
    pub(super) fn forget(self: &Arc<Self>, id: u64) {
        let mut state = lock(&self.state);
        let was_task = matches!(state.slots.remove(&id), Some(Slot::Waiting(Some(Waiter::Task(_)))));
        state.tasks -= usize::from(was_task);
        if was_task && state.tasks == 0 && state.lead == Lead::Thread {
            drop(state);
            // So that it looks whether it is still needed.
            let _ = thread::engage(self);
        }
    }

    /// What the thread must wait for; `None` when this link does not need it.
    pub(super) fn interest(self: &Arc<Self>) -> Option<Interest> {
        let (has_unsent, has_held) = {
            let out = lock(&self.out);
            (out.has_unsent(), out.has_held())
        };
        let mut state = lock(&self.state);
        let is_needed = state.lost.is_none() && (state.tasks > 0 || has_unsent || has_held);
        match state.lead {
            Lead::Nobody | Lead::Thread if is_needed => {
                state.lead = Lead::Thread;
                Some(if has_unsent { Interest::Both } else { Interest::Read })
            }
            Lead::Caller => has_unsent.then_some(Interest::Write),
            Lead::Nobody => None,
            Lead::Thread => {
                state.lead = Lead::Nobody;
                let next = state.next_follower();
                drop(state);
                if let Some(next) = next {
                    next.wake();
                }
                None
            }
        }
    }

    /// Moves what can be moved now: what the thread does when the socket is ready.
    pub(super) fn serve(self: &Arc<Self>) {
        lock(&self.out).flush(&self.stream);
        if lock(&self.state).lead == Lead::Thread {
            self.read(&mut lock(&self.reading), |stream, into, _| {
                stream.try_read(into)?.ok_or_else(|| ErrorKind::WouldBlock.into())
            });
        }
    }

    /// Reads once, by `read`, and gives out what came.
    fn read(
        self: &Arc<Self>,
        reading: &mut Reading,
        read: impl FnOnce(&Stream, &mut [u8], &mut Spin) -> io::Result<usize>,
    ) {
        match read(&self.stream, reading.inbox.space(), &mut reading.spin) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => {
                let end = lock(&self.state).end;
                self.lose(end);
            }
            Ok(count) => {
                reading.inbox.filled(count);
                if let Err(loss) = self.shake_hands(reading).and_then(|()| self.give_out(reading)) {
                    self.lose(loss);
                }
            }
        }
    }

    /// Goes on with the handshake, if it is not over.
    fn shake_hands(self: &Arc<Self>, reading: &mut Reading) -> Result<(), Loss> {
        while let Some(handshake) = &mut reading.handshake {
            let message = auth::next_message(reading.inbox.bytes()).map_err(|_| Loss::Malformed)?;
            let Some((message, used)) = message else { return Ok(()) };
            let mut answer = Vec::new();
            let received = handshake.receive(message, &mut answer);
            lock(&self.out).send_ahead(&answer, &self.stream);
            match received {
                Ok(true) => {
                    reading.handshake = None;
                    lock(&self.state).met = Some(Instant::now());
                    let mut out = lock(&self.out);
                    out.release(&self.stream);
                    let has_unsent = out.has_unsent();
                    drop(out);
                    if has_unsent && thread::engage(self).is_err() {
                        return Err(Loss::Died);
                    }
                }
                Ok(false) => {}
                Err(Error::NotAuthenticated) => return Err(Loss::NotAuthenticated),
                Err(_) => return Err(Loss::Malformed),
            }
            reading.inbox.take(used);
        }
        Ok(())
    }

    /// Puts the replies into their slots and wakes who waits for them.
    fn give_out(&self, reading: &mut Reading) -> Result<(), Loss> {
        let mut woken = Vec::new();
        let mut state = lock(&self.state);
        let result = loop {
            match next_reply(&mut reading.inbox) {
                Ok(None) => break Ok(()),
                Err(_) => break Err(Loss::Malformed),
                Ok(Some((Status::Goodbye, ..))) => state.end = Loss::Stopped,
                Ok(Some((status, id, payload))) => {
                    woken.extend(state.fill(id, || Ok(Answer { status, payload: payload.to_vec() })));
                }
            }
        };
        drop(state);
        woken.into_iter().for_each(Waiter::wake);
        result
    }

    fn lose(&self, loss: Loss) {
        lock(&self.out).shut();
        // Nobody shall wait at the other end until the next call makes another connection.
        self.stream.hang_up();
        let mut state = lock(&self.state);
        state.lost.get_or_insert(loss);
        let ids: Vec<u64> = state.slots.keys().copied().collect();
        let woken: Vec<Waiter> = ids.into_iter().filter_map(|id| state.fill(id, || Err(loss))).collect();
        drop(state);
        woken.into_iter().for_each(Waiter::wake);
    }
}

#[cfg(test)]
impl Link {
    /// A link whose handshake ended at `met`.
    pub(super) fn met_at(met: Option<Instant>) -> Self {
        let (stream, _) = Stream::pair().unwrap();
        let link = Self::new(stream, crate::authkey::authkey().unwrap());
        lock(&link.state).met = met;
        link
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl State {
    /// Takes the answer, if it is there; a slot that is gone was lost.
    fn take(&mut self, id: u64) -> Option<Result<Answer, Loss>> {
        if matches!(self.slots.get(&id), Some(Slot::Waiting(_))) {
            return None;
        }
        self.followers.retain(|follower| *follower != id);
        match self.slots.remove(&id) {
            Some(Slot::Done(answer)) => Some(answer),
            _ => Some(Err(Loss::Died)),
        }
    }

    /// Answers a slot that waits; whoever waits there must be woken.
    fn fill(&mut self, id: u64, answer: impl FnOnce() -> Result<Answer, Loss>) -> Option<Waiter> {
        let slot = self.slots.get_mut(&id)?;
        let Slot::Waiting(waiter) = slot else { return None };
        let waiter = waiter.take();
        *slot = Slot::Done(answer());
        self.tasks -= usize::from(matches!(waiter, Some(Waiter::Task(_))));
        waiter
    }

    fn follow(&mut self, id: u64) {
        if let Some(Slot::Waiting(waiter)) = self.slots.get_mut(&id) {
            let before = waiter.replace(Waiter::Blocked(std::thread::current()));
            self.tasks -= usize::from(matches!(before, Some(Waiter::Task(_))));
        }
        if !self.followers.contains(&id) {
            self.followers.push(id);
        }
    }

    fn wait_as_task(&mut self, id: u64, waker: &Waker) {
        if let Some(Slot::Waiting(waiter)) = self.slots.get_mut(&id) {
            match waiter {
                Some(Waiter::Task(known)) => known.clone_from(waker),
                _ => {
                    *waiter = Some(Waiter::Task(waker.clone()));
                    self.tasks += 1;
                }
            }
        }
    }

    /// A blocked caller whose answer is not there yet.
    fn next_follower(&mut self) -> Option<Waiter> {
        while let Some(id) = self.followers.pop() {
            if let Some(Slot::Waiting(waiter @ Some(Waiter::Blocked(_)))) = self.slots.get_mut(&id) {
                return waiter.take();
            }
        }
        None
    }
}
