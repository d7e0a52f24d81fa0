//! Where the children are called that are actors.
//!
//! The address of a child is chosen once, with its specification, so that proxies can be made whatever becomes of its
//! processes. The *listener* behind it is bound by the supervisor and kept while the child runs or is being restarted; each
//! incarnation gets a copy. So calls that are made between two incarnations wait in its queue, and proxies follow the child.
//! When a child is stopped for good its listener is closed, and callers are told that nobody is there.
//!
//! A door also has a caller of its own, which keeps what errors of this process's callers tell about incarnations.

use crate::Result;
use procession_ipc::Error;
use procession_ipc::call::Caller;
use procession_ipc::rendezvous::{Address, Listener};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

/// How long a name may still be taken: by the children of a supervisor that was killed, which are about to die too.
const PATIENCE: Duration = Duration::from_secs(5);

/// Time between two tries.
const PAUSE: Duration = Duration::from_millis(1);

/// Where a child is called.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) listener: Listener,
    pub(super) caller: Caller,
}

/// The doors of the children of one supervisor, by their ids.
#[derive(Debug, Default)]
pub(super) struct Doors(HashMap<String, Door>);

impl Doors {
    /// The door of a child, made now if it has none.
    pub(super) async fn open(&mut self, id: &str, address: Address) -> Result<&Door> {
        match self.0.entry(id.to_owned()) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(vacant) => {
                let listener = bind(address).await?;
                Ok(vacant.insert(Door { listener, caller: Caller::at(address) }))
            }
        }
    }

    /// Closes those of all children that do not need one any more.
    pub(super) fn close_unless(&mut self, is_needed: impl Fn(&str) -> bool) {
        self.0.retain(|id, _| is_needed(id));
    }
}

async fn bind(address: Address) -> Result<Listener> {
    let until = Instant::now() + PATIENCE;
    loop {
        match Listener::bind(address) {
            Err(Error::Os { source, .. })
                if source.kind() == ErrorKind::AddrInUse && Instant::now() < until =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            bound => return Ok(bound?),
        }
    }
}
