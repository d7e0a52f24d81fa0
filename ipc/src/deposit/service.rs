//! Asking a host, and the host's thread that answers.
//!
//! A host has nothing of it until somebody asks. That one says so in a word of the host's slot in the process table, and wakes all
//! keepers; the keeper of the host then starts the thread, which listens at an address that follows from the family and the host.
//!
//! ```text
//! UNKNOWN -> WANTED (somebody asks) -> SERVED | FAILED (the host)
//! ```
//!
//! Each request has a connection of its own: both sides prove that they know the key of the family, then one request, one answer.
//! The thread serves one after the other, and gives nobody more than [`TURN`].

use super::{Answer, Request, WHAT};
use crate::arena::{Arena, arena};
use crate::atomic::{AtomicU32, Ordering};
use crate::authkey::authkey;
use crate::connection::Connection;
use crate::connection::auth::Handshake;
use crate::gate::{self, Passage};
use crate::liveness::ProcessId;
use crate::rendezvous::{Listener, connect};
use crate::sync::ALL;
use crate::sys::fd::wait_readable;
use crate::sys::futex;
use crate::{Error, Result};
use nix::sys::signal::SigSet;
use std::os::fd::AsFd;
use std::thread::Builder;
use std::time::{Duration, Instant};

const UNKNOWN: u32 = 0;
const WANTED: u32 = 1;
const SERVED: u32 = 2;
const FAILED: u32 = 3;

/// How long one who asks may take. A process that is stopped in the middle keeps the others waiting for that long.
const TURN: Duration = Duration::from_secs(1);

/// How often it is looked whether a host that is waited for is still there.
const ROUND: Duration = Duration::from_millis(50);

/// Stack of a thread here: it calls little.
pub(super) const STACK: usize = 128 * 1024;

/// Has another process answer a request.
pub(super) fn ask(host: ProcessId, request: &Request, deadline: Instant) -> Result<Answer> {
    let arena = arena()?;
    let word = arena.deposit_word(host).ok_or(Error::Gone { what: WHAT })?;
    if word.compare_exchange(UNKNOWN, WANTED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
        arena.wake_keepers();
    }
    loop {
        match word.load(Ordering::Acquire) {
            SERVED => break,
            FAILED => return Err(refused("it could not start to")),
            _ if arena.deposit_word(host).is_none() => return Err(Error::Gone { what: WHAT }),
            _ if Instant::now() >= deadline => return Err(refused("it does not answer")),
            seen => drop(futex::wait(word, seen, Some(Instant::now() + ROUND))),
        }
    }
    let left = || deadline.saturating_duration_since(Instant::now());
    let stream = connect(arena.deposit_address(host), Some(left()))?.ok_or(Error::Gone { what: WHAT })?;
    let connection = Connection::of_stream(&stream, left())?;
    converse(&connection, request).map_err(|error| match error {
        // It ended in the middle, and what it kept with it.
        Error::Disconnected | Error::Torn { .. } => Error::Gone { what: WHAT },
        error => error,
    })
}

fn converse(connection: &Connection, request: &Request) -> Result<Answer> {
    connection.prove(Handshake::dialer(authkey()?), Vec::new())?;
    connection.send(request)?;
    connection.recv()
}

fn refused(why: &str) -> Error {
    Error::os("leave a descriptor with another process", std::io::Error::other(why))
}

/// If somebody asked, others are served from now on.
pub(super) fn serve_if_wanted(arena: &Arena, own: ProcessId) {
    let Some(word) = arena.deposit_word(own) else { return };
    if word.load(Ordering::Acquire) != WANTED {
        return;
    }
    let passage = gate::enter("beginning to keep descriptors for others");
    let begun = Listener::bind(arena.deposit_address(own)).and_then(|listener| {
        let run = move |passage: Passage| {
            let _ = SigSet::all().thread_block();
            drop(passage);
            serve(&listener);
        };
        let builder = Builder::new().name("procession-deposit".to_owned()).stack_size(STACK);
        gate::spawn(builder, run).map_err(|e| Error::os("start the thread that keeps descriptors", e))
    });
    drop(passage);
    tell(word, if begun.is_ok() { SERVED } else { FAILED });
}

fn tell(word: &'static AtomicU32, state: u32) {
    word.store(state, Ordering::Release);
    futex::wake(word, ALL);
}

fn serve(listener: &Listener) -> ! {
    loop {
        // Fails for want of memory only, and then it is tried again.
        let _ = wait_readable(listener.as_fd(), None);
        while let Ok(Some(stream)) = listener.try_accept() {
            // Who does not keep to the rules is left alone with it.
            let _ = Connection::of_stream(&stream, TURN).and_then(|connection| answer(&connection));
        }
    }
}

/// Answers the one request of a connection.
fn answer(connection: &Connection) -> Result<()> {
    let mut first = Vec::new();
    let handshake = Handshake::listener(authkey()?, &mut first)?;
    connection.prove(handshake, first)?;
    let answer = match connection.recv::<Request>()?.carry_out() {
        Ok(answer) => answer,
        Err(Error::Gone { .. }) => Answer::Gone,
        Err(error) => Answer::Failed(crate::error::chain(&error)),
    };
    let told = connection.send(&answer);
    if let (Err(_), Answer::Deposited(number)) = (&told, &answer) {
        // Nobody has the ticket.
        let _ = Request::TakeBack(vec![*number]).carry_out();
    }
    told
}
