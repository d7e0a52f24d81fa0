//! One connection to a caller that has proved itself.
//!
//! A connection has at most one inbox, and that is either here, being filled, or with the host, being worked off. So what
//! waits for the actor is bounded by the inbox for each connection; the rest stays in the socket and then with the caller.
//! Whoever has the inbox, and with it the [`Reading`], is the one who reads.
//! Replies are written by the host at once. What the socket does not take is kept here, and no request is carried out
//! while there is much of it ([`MAX_UNSENT`]).

use super::host::{Mailbox, Order, Work};
use crate::runtime::register;
use procession_ipc::call::frame::has_request;
use procession_ipc::spin::Spin;
use procession_ipc::stream::{Inbox, Stream, Unsent, Written};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

/// A caller that lets so many bytes of replies lie is not served until it has read them: 1 MiB.
const MAX_UNSENT: usize = 1 << 20;

/// What only the one touches who reads.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) inbox: Inbox,
    spin: Spin,
    /// It was looked for more just now, in vain.
    has_looked: bool,
}

impl Reading {
    pub(super) fn new(inbox: Inbox) -> Self {
        Self { inbox, ..Self::default() }
    }
}

/// A connection.
pub(super) struct Peer {
    stream: AsyncFd<Stream>,
    unsent: Mutex<Unsent>,
}

impl Peer {
    pub(super) fn new(stream: AsyncFd<Stream>) -> Self {
        Self { stream, unsent: Mutex::default() }
    }

    fn unsent(&self) -> MutexGuard<'_, Unsent> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what the socket takes and keeps the rest.
    pub(super) fn send(&self, bytes: &[u8]) {
        // A caller that is gone misses nothing, and its connection shows the end to whoever reads it.
        let _ = self.unsent().send(bytes, self.stream.get_ref());
    }

    /// Whether the caller lets too much lie.
    pub(super) fn is_clogged(&self) -> bool {
        self.unsent().len() > MAX_UNSENT
    }

    /// Waits until all is written, or the caller is gone.
    pub(super) async fn flush(&self) -> io::Result<()> {
        if !self.is_blocked()? {
            return Ok(());
        }
        // Registered only for this moment: a caller that reads would wake the runtime each time.
        let socket = register(self.stream.get_ref().try_clone()?, Interest::WRITABLE)?;
        loop {
            let mut ready = socket.writable().await?;
            if !self.is_blocked()? {
                return Ok(());
            }
            ready.clear_ready();
        }
    }

    /// Writes what the socket takes; says whether it takes no more although something is left.
    fn is_blocked(&self) -> io::Result<bool> {
        loop {
            match self.unsent().write(self.stream.get_ref())? {
                Written::All => return Ok(false),
                Written::Part => {}
                Written::Blocked => return Ok(true),
                Written::Gone => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }

    /// Looks a few times for more bytes and keeps the thread meanwhile: for who has nothing else to do.
    pub(super) fn look(&self, reading: &mut Reading) -> bool {
        let Reading { inbox, spin, has_looked } = reading;
        let stream = self.stream.get_ref();
        // The end of the stream is for who reads next.
        let count = spin.look(|| stream.try_read(inbox.space()).ok().flatten()).unwrap_or(0);
        inbox.filled(count);
        *has_looked = count == 0;
        count > 0
    }

    /// Reads more, looking a few times before it sleeps; says whether there was more.
    async fn read(&self, reading: &mut Reading) -> io::Result<bool> {
        let Reading { inbox, spin, has_looked } = reading;
        if !std::mem::take(has_looked)
            && let Some(until) = spin.begin()
        {
            loop {
                if let Some(count) = self.stream.get_ref().try_read(inbox.space())? {
                    spin.end(true);
                    inbox.filled(count);
                    return Ok(count > 0);
                }
                if Instant::now() >= until {
                    break spin.end(false);
                }
                // To the caller's process, and to the other tasks of this one.
                std::thread::yield_now();
                tokio::task::yield_now().await;
            }
        }
        loop {
            let mut ready = self.stream.readable().await?;
            if let Some(count) = self.stream.get_ref().try_read(inbox.space())? {
                inbox.filled(count);
                return Ok(count > 0);
            }
            ready.clear_ready();
        }
    }

    /// Ends the connection.
    pub(super) fn hang_up(&self) {
        self.stream.get_ref().hang_up();
    }
}

/// Hands the requests of one connection to the host until it ends. `inbox` holds what has arrived already.
pub(super) async fn serve(peer: Arc<Peer>, inbox: Inbox, host: Mailbox) -> io::Result<()> {
    let mut reading = Reading::new(inbox);
    loop {
        peer.flush().await?;
        while !has_request(&reading.inbox) {
            if !peer.read(&mut reading).await? {
                return Ok(());
            }
        }
        let (done, back) = oneshot::channel();
        let work = Work { reading, peer: Arc::clone(&peer), done };
        if host.send(Order::Work(work)).is_err() {
            return Ok(());
        }
        // The host drops what it does not work off any more.
        let Ok(returned) = back.await else { return Ok(()) };
        reading = returned;
    }
}
