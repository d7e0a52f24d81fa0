//! In place of the deposit in loom's models, where nothing travels.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::os::fd::{BorrowedFd, OwnedFd};

/// There is none.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Ticket {}

/// There is none.
#[derive(Debug)]
pub(crate) enum Deposit {}

impl Deposit {
    /// Fails.
    pub(crate) fn new(_fd: BorrowedFd<'_>, _is_lent: bool) -> Result<Self> {
        Err(Error::Gone { what: "descriptor" })
    }

    /// There is none.
    pub(crate) fn ticket(&self) -> Ticket {
        match *self {}
    }

    /// There is none.
    pub(crate) fn leave(self) {}
}

/// There are none.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tickets;

impl Tickets {
    /// There are none.
    pub(crate) fn append(&mut self, _more: Self) {}

    /// There are none.
    pub(crate) fn remove(&mut self, _ticket: Ticket) {}

    /// Does nothing.
    pub(crate) fn give_back(self) {}
}

impl FromIterator<Ticket> for Tickets {
    fn from_iter<I: IntoIterator<Item = Ticket>>(_tickets: I) -> Self {
        Self
    }
}

/// There is none.
pub(crate) fn take(ticket: Ticket) -> Result<OwnedFd> {
    match ticket {}
}
