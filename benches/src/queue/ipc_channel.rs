//! The peer ipc-channel: a channel of bytes between the same two processes. Its ends meet over one-shot servers.

use super::{Crew, Member, message, serve, sum_of};
use crate::harness::{Result, Side};
use ipc_channel::ipc::{IpcBytesReceiver, IpcOneShotServer, IpcSender, bytes_channel, channel};
use procession::prelude::*;

/// Messages a second.
pub(super) fn side(size: usize) -> Result<Side> {
    let (server, name) = IpcOneShotServer::<IpcBytesReceiver>::new()?;
    let producer = Member::start(|there| Process::spawn(produce, (name.as_str(), size, &there)))?;
    let (_, bytes) = server.accept()?;
    let (server, name) = IpcOneShotServer::<IpcSender<IpcBytesReceiver>>::new()?;
    let consumer = Member::start(|there| Process::spawn(consume, (name.as_str(), &there)))?;
    let (_, to_consumer) = server.accept()?;
    to_consumer.send(bytes)?;
    Ok(Crew { producers: vec![producer], consumers: vec![consumer] }.side())
}

fn produce(server: &str, size: usize, there: &Connection) -> Result<(), String> {
    let (sender, receiver) = bytes_channel().map_err(text)?;
    IpcSender::connect(server.to_owned()).map_err(text)?.send(receiver).map_err(text)?;
    serve(there, |n| {
        (0..n).try_fold(0, |sum: u64, number| {
            sender.send(&message(number, size))?;
            Ok(sum + number + size as u64)
        })
    })
}

fn consume(server: &str, there: &Connection) -> Result<(), String> {
    let (sender, receiver) = channel().map_err(text)?;
    IpcSender::connect(server.to_owned()).map_err(text)?.send(sender).map_err(text)?;
    let bytes: IpcBytesReceiver = receiver.recv().map_err(text)?;
    serve(there, |n| (0..n).try_fold(0, |sum: u64, _| Ok(sum + sum_of(&bytes.recv()?).unwrap_or(0))))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
