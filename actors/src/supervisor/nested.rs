//! A supervisor in a process of its own, below another one.
//!
//! Its process gets the tree and one end of a connection, the *line*. Its main thread waits for the end of the supervisor;
//! a thread of its own reads requests from the line and answers them. The end of the line is the request to stop: the
//! children are stopped in their order, and the process ends with code 0. A supervisor that gives up ends its process with
//! code 1, so that the one above counts it as any child that failed. When the process is killed, its children, which are
//! armed, go with it.

use super::Supervisor;
use super::request::{Denial, Reply, Request};
use super::spec::Tree;
use crate::Result;
use crate::process::{Options, start_unwatched};
use procession_ipc::connection::Connection;
use procession_ipc::gate;
use procession_ipc::start::Started;
use std::sync::{Arc, Mutex, PoisonError};

/// The way to a nested supervisor.
#[derive(Debug)]
pub(super) struct Line {
    id: String,
    connection: Connection,
    /// One request at a time: answers have no names.
    turn: Mutex<()>,
}

impl Line {
    /// Asks for something and waits for the answer.
    pub(super) fn ask(&self, request: &Request) -> Reply {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = self.connection.send(request).and_then(|()| self.connection.recv::<Reply>());
        answered.unwrap_or_else(|error| match error {
            procession_ipc::Error::Disconnected => Err(Denial::Ended),
            error => Err(Denial::Lost { id: self.id.clone(), reason: error.to_string() }),
        })
    }

    /// Ends the line, which asks the supervisor to stop.
    pub(super) fn hang_up(&self) {
        self.connection.hang_up();
    }
}

/// Starts a process that supervises.
pub(super) fn start(tree: &Tree, options: &Options) -> Result<(Started, Line)> {
    let (ours, theirs) = Connection::pair()?;
    let started = start_unwatched(run, &(tree, theirs), options)?;
    let line = Line { id: started.child.name().to_owned(), connection: ours, turn: Mutex::new(()) };
    Ok((started, line))
}

/// The life of the process.
fn run(tree: &Tree, line: Connection) -> Result<(), String> {
    let supervisor = Supervisor::start(tree.clone()).map_err(|error| error.to_string())?;
    let supervisor = Arc::new(supervisor);
    let server = Arc::clone(&supervisor);
    let builder = std::thread::Builder::new().name("procession-line".to_owned());
    // It takes no lock that a copy would need, so it may be anywhere when one is made.
    let body = move |passage| {
        drop(passage);
        serve(&server, &line);
    };
    gate::spawn(builder, body)
        .map_err(|error| format!("cannot start the thread that answers requests: {error}"))?;
    supervisor.wait(None).map(drop).map_err(|error| error.to_string())
}

/// Answers requests until the line ends.
fn serve(supervisor: &Supervisor, line: &Connection) {
    while let Ok(request) = line.recv::<Request>() {
        if line.send(&supervisor.serve(request)).is_err() {
            break;
        }
    }
    supervisor.ask_to_stop();
}
