//! The way in: accepts callers at the rendezvous and has each prove that it belongs to the family.
//!
//! A stranger costs little: its user is checked by the kernel's record first, then it gets a challenge and may send
//! messages of at most 256 bytes, in all within [`DEADLINE`]. There are never more than [`MAX_STRANGERS`]. When one more
//! comes, it waits until one of them is through, or has stood there for [`GRACE`] and has to go; so who only stands in the
//! door keeps nobody out.

use super::host::Mailbox;
use super::peer::{Peer, serve};
use crate::runtime::register;
use procession_ipc::authkey::AuthKey;
use procession_ipc::connection::auth::{Handshake, next_message};
use procession_ipc::rendezvous::Listener;
use procession_ipc::stream::{Inbox, Stream};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::{AbortHandle, JoinSet};

/// How long a stranger may take to prove itself. CPython sets no limit.
const DEADLINE: Duration = Duration::from_secs(20);

/// Most strangers at a time. CPython sets no limit.
const MAX_STRANGERS: usize = 64;

/// How long a stranger may stand in the way of others.
const GRACE: Duration = Duration::from_secs(1);

/// How long to wait when there is no descriptor left for the next caller.
const RECOVERY: Duration = Duration::from_millis(50);

/// The callers that have proved themselves.
#[derive(Clone, Default)]
pub(super) struct Guests(Arc<Mutex<Book>>);

#[derive(Default)]
struct Book {
    peers: Vec<Weak<Peer>>,
    /// What the last ones are told as soon as they are in.
    goodbye: Option<Vec<u8>>,
}

impl Guests {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, peer: &Arc<Peer>) {
        let mut book = self.book();
        if let Some(goodbye) = &book.goodbye {
            peer.send(goodbye);
        }
        book.peers.retain(|guest| guest.strong_count() > 0);
        book.peers.push(Arc::downgrade(peer));
    }

    /// Whether there is only one.
    pub(super) fn is_one(&self) -> bool {
        self.book().peers.iter().filter(|guest| guest.strong_count() > 0).nth(1).is_none()
    }

    /// Says goodbye to those that are there, which are given back, and to those that still come.
    pub(super) fn dismiss(&self, goodbye: Vec<u8>) -> Vec<Arc<Peer>> {
        let mut book = self.book();
        let guests: Vec<_> = book.peers.iter().filter_map(Weak::upgrade).collect();
        guests.iter().for_each(|guest| guest.send(&goodbye));
        book.goodbye = Some(goodbye);
        guests
    }
}

/// Those that have not proved themselves yet.
#[derive(Default)]
struct Strangers {
    tasks: JoinSet<Option<()>>,
    /// When each came, the oldest first.
    since: VecDeque<(Instant, AbortHandle)>,
}

impl Strangers {
    /// Makes room for one more.
    async fn make_room(&mut self) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.since.retain(|(_, task)| !task.is_finished());
            let Some((since, oldest)) = self.since.front().filter(|_| self.since.len() >= MAX_STRANGERS)
            else {
                return;
            };
            if tokio::time::timeout_at((*since + GRACE).into(), self.tasks.join_next()).await.is_err() {
                oldest.abort();
                self.since.pop_front();
            }
        }
    }

    fn admit(&mut self, admission: impl Future<Output = Option<()>> + Send + 'static) {
        self.since.push_back((Instant::now(), self.tasks.spawn(admission)));
    }
}

/// Accepts until the runtime ends.
pub(super) async fn attend(
    listener: AsyncFd<Listener>,
    key: AuthKey,
    guests: Guests,
    host: Mailbox,
) -> io::Result<()> {
    let mut strangers = Strangers::default();
    loop {
        let mut ready = listener.readable().await?;
        strangers.make_room().await;
        match listener.get_ref().try_accept() {
            Ok(Some(stream)) => strangers.admit(admit(stream, key.clone(), guests.clone(), host.clone())),
            Ok(None) => ready.clear_ready(),
            // No descriptor is left; the caller stays in the queue.
            Err(_) => tokio::time::sleep(RECOVERY).await,
        }
    }
}

/// Serves a stranger once it has proved itself.
async fn admit(stream: Stream, key: AuthKey, guests: Guests, host: Mailbox) -> Option<()> {
    let stream = register(stream, Interest::READABLE).ok()?;
    let inbox = tokio::time::timeout(DEADLINE, greet(&stream, key)).await.ok()?.ok()?;
    let peer = Arc::new(Peer::new(stream));
    guests.add(&peer);
    tokio::spawn(serve(peer, inbox, host));
    Some(())
}

/// Goes through the handshake; what came behind it is in the inbox.
async fn greet(stream: &AsyncFd<Stream>, key: AuthKey) -> procession_ipc::Result<Inbox> {
    let mut out = Vec::new();
    let mut handshake = Handshake::listener(key, &mut out)?;
    let mut heard = Vec::new();
    loop {
        say(stream, &mut out)?;
        while let Some((message, used)) = next_message(&heard)? {
            let received = handshake.receive(message, &mut out);
            say(stream, &mut out)?;
            heard.drain(..used);
            if received? {
                let mut inbox = Inbox::default();
                inbox.space()[..heard.len()].copy_from_slice(&heard);
                inbox.filled(heard.len());
                return Ok(inbox);
            }
        }
        listen(stream, &mut heard).await?;
    }
}

/// A few hundred bytes, which the buffer of a fresh socket takes.
fn say(stream: &AsyncFd<Stream>, out: &mut Vec<u8>) -> procession_ipc::Result<()> {
    let taken = stream.get_ref().try_write(out).ok().flatten();
    let all = out.len();
    out.clear();
    if taken.unwrap_or(0) == all { Ok(()) } else { Err(procession_ipc::Error::Disconnected) }
}

async fn listen(stream: &AsyncFd<Stream>, heard: &mut Vec<u8>) -> procession_ipc::Result<()> {
    let mut buffer = [0; 256];
    loop {
        let lost = |_| procession_ipc::Error::Disconnected;
        let mut ready = stream.readable().await.map_err(lost)?;
        match stream.get_ref().try_read(&mut buffer).map_err(lost)? {
            None => ready.clear_ready(),
            Some(0) => return Err(procession_ipc::Error::Disconnected),
            Some(count) => {
                heard.extend_from_slice(&buffer[..count]);
                return Ok(());
            }
        }
    }
}
