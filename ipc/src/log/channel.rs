//! The sending end of a log: one packet socket, shared by all processes whose log goes to the same place.
//!
//! A message is one packet, so messages of many processes and threads are never mixed or torn. A sender waits for room
//! at most [`PATIENCE`]; then the message is lost, and so are those that follow, without any waiting, until there is room
//! again. What was lost is counted, and the count goes with the next message that fits.
//!
//! The ends of spans are not lost: those that could not be told are told later. There are never more of them than
//! there were open spans.

use super::wire::{Body, Message, level_number, level_of_number, short_name};
use crate::gate::PrivateFd;
use crate::sys::fd::wait_writable;
use crate::sys::socket;
use nix::sys::socket::MsgFlags;
use std::io::{ErrorKind, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::level_filters::LevelFilter;

/// How long a message waits for room, once: 100 ms. The receiver reads all the time, so this is only reached when the
/// program's own subscriber stands still, and then a log must not stop the family.
const PATIENCE: Duration = Duration::from_millis(100);

/// Ends of spans in one message.
const CLOSES: usize = 1000;

/// Where the log of this process goes.
///
/// The atomics order nothing but themselves, hence `Relaxed`: a stale value costs one message its wait or its way.
#[derive(Debug)]
pub(super) struct Channel {
    socket: PrivateFd,
    pid: u32,
    process: String,
    /// Most detailed level that the receiver wants.
    level: AtomicU8,
    /// Messages lost since the last one that was sent.
    lost: AtomicU64,
    /// There was no room the last time.
    is_stalled: AtomicBool,
    /// The receiver has ended.
    is_over: AtomicBool,
    /// Spans that are over, which could not be told yet.
    untold: Mutex<Vec<u64>>,
}

impl Channel {
    /// The end of this process, which is called `process`.
    pub(super) fn new(socket: OwnedFd, level: LevelFilter, process: &str) -> Self {
        Self {
            socket: socket.into(),
            pid: std::process::id(),
            process: short_name(process),
            level: AtomicU8::new(level_number(level)),
            lost: AtomicU64::new(0),
            is_stalled: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            untold: Mutex::new(Vec::new()),
        }
    }

    /// Most detailed level that is sent.
    pub(super) fn level(&self) -> LevelFilter {
        level_of_number(self.level.load(Ordering::Relaxed)).unwrap_or(LevelFilter::OFF)
    }

    pub(super) fn set_level(&self, level: LevelFilter) {
        self.level.store(level_number(level), Ordering::Relaxed);
    }

    /// The socket, for processes that are started here.
    pub(super) fn socket(&self) -> &PrivateFd {
        &self.socket
    }

    /// Sends, or counts as lost; whether it was sent.
    pub(super) fn send(&self, body: Body<'_>) -> bool {
        if self.is_over.load(Ordering::Relaxed) {
            return false;
        }
        self.tell_closes();
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let message = Message { pid: self.pid, process: &self.process, lost, body };
        let is_sent = message.encode().is_some_and(|bytes| self.transmit(&bytes));
        if !is_sent {
            self.lost.fetch_add(lost + 1, Ordering::Relaxed);
        }
        is_sent
    }

    /// Counts a message as lost that could not even be made.
    pub(super) fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells that a span is over, now or with a later message.
    pub(super) fn close(&self, id: u64) {
        self.untold().push(id);
        self.tell_closes();
    }

    /// Sends what is only sent along with other messages. For the end of the process.
    pub(super) fn flush(&self) {
        self.tell_closes();
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let message = Message { pid: self.pid, process: &self.process, lost, body: Body::Lost };
            // If there is still no room, nobody is told: the process ends.
            let _ = message.encode().is_some_and(|bytes| self.transmit(&bytes));
        }
    }

    fn tell_closes(&self) {
        let mut untold = self.untold();
        while !untold.is_empty() {
            let rest = untold.len().saturating_sub(CLOSES);
            let body = Body::Close { ids: untold[rest..].to_vec() };
            let message = Message { pid: self.pid, process: &self.process, lost: 0, body };
            if !message.encode().is_some_and(|bytes| self.transmit(&bytes)) {
                return;
            }
            untold.truncate(rest);
        }
    }

    fn untold(&self) -> std::sync::MutexGuard<'_, Vec<u64>> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one packet; waits for room unless there was none the last time.
    fn transmit(&self, packet: &[u8]) -> bool {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match socket::send(self.socket.as_fd(), &[IoSlice::new(packet)], &[], MsgFlags::MSG_DONTWAIT) {
                Ok(_) => {
                    self.is_stalled.store(false, Ordering::Relaxed);
                    return true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let may_wait = !self.is_stalled.load(Ordering::Relaxed);
                    if !may_wait || !wait_writable(self.socket.as_fd(), deadline).unwrap_or(false) {
                        self.is_stalled.store(true, Ordering::Relaxed);
                        return false;
                    }
                }
                Err(_) => {
                    self.is_over.store(true, Ordering::Relaxed);
                    return false;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket::packet_pair;

    fn receive(socket: &OwnedFd) -> Vec<u8> {
        let mut bytes = vec![0; 64 * 1024];
        let length =
            socket::receive(socket.as_fd(), &mut bytes, &mut Vec::new(), MsgFlags::MSG_DONTWAIT).unwrap();
        bytes.truncate(length);
        bytes
    }

    fn fill(channel: &Channel) -> u64 {
        let mut sent = 0;
        while channel.send(Body::Follows { id: 1, from: 2 }) {
            sent += 1;
        }
        sent
    }

    #[test]
    fn lost_messages_are_counted_and_told_with_the_next_one() {
        let (ours, theirs) = packet_pair().unwrap();
        let channel = Channel::new(theirs, LevelFilter::INFO, "sender");
        let sent = fill(&channel);
        (0..9).for_each(|_| assert!(!channel.send(Body::Lost)));
        for _ in 0..sent {
            assert_eq!(Message::decode(&receive(&ours)).unwrap().lost, 0);
        }
        assert!(channel.send(Body::Lost));
        assert_eq!(Message::decode(&receive(&ours)).unwrap().lost, 10);
        assert!(channel.send(Body::Lost));
        assert_eq!(Message::decode(&receive(&ours)).unwrap().lost, 0);
    }

    #[test]
    fn the_ends_of_spans_are_told_late_rather_than_never() {
        let (ours, theirs) = packet_pair().unwrap();
        let channel = Channel::new(theirs, LevelFilter::INFO, "sender");
        let sent = fill(&channel);
        (0..2500).for_each(|id| channel.close(id));
        (0..sent).for_each(|_| drop(receive(&ours)));
        channel.flush();
        let mut closed = Vec::new();
        loop {
            let bytes = receive(&ours);
            match Message::decode(&bytes).unwrap().body {
                Body::Close { ids } => closed.extend(ids),
                Body::Lost => break,
                other => panic!("{other:?}"),
            }
        }
        closed.sort_unstable();
        assert_eq!(closed, (0..2500).collect::<Vec<u64>>());
    }

    #[test]
    fn a_receiver_that_is_gone_costs_nothing() {
        let (ours, theirs) = packet_pair().unwrap();
        let channel = Channel::new(theirs, LevelFilter::INFO, "sender");
        drop(ours);
        (0..3).for_each(|_| assert!(!channel.send(Body::Lost)));
        channel.flush();
    }
}
