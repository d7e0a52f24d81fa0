//! The thread `procession-calls`: moves the calls of this process that no blocked caller moves.
//!
//! It starts when a task first waits for an answer, or when a socket first takes less than was sent. A process that only
//! makes blocking calls hardly ever has it. It sleeps while there is nothing to move, and holds on to a link only as long
//! as the link needs it.

use super::link::Link;
use crate::gate::{self, Passage};
use crate::spin::Spin;
use crate::stream::{Interest, Wake, wait_any};
use crate::{Error, Result};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

/// The thread of this process.
struct Running {
    /// Who started it: after a fork the thread is not there.
    owner: u32,
    desk: Arc<Desk>,
}

/// Where links are handed in.
struct Desk {
    wake: Wake,
    newcomers: Mutex<Vec<Arc<Link>>>,
}

static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

/// Has the thread look at `link`, which may be new to it.
///
/// # Errors
///
/// The thread cannot be started.
pub(super) fn engage(link: &Arc<Link>) -> Result<()> {
    let _passage = gate::enter("the thread of calls");
    let mut slot = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let own = std::process::id();
    let running = match slot.take().filter(|running| running.owner == own) {
        Some(running) => running,
        None => Running { owner: own, desk: start()? },
    };
    let desk = &slot.insert(running).desk;
    desk.newcomers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(link));
    desk.wake.wake();
    Ok(())
}

fn start() -> Result<Arc<Desk>> {
    let desk = Arc::new(Desk { wake: Wake::new()?, newcomers: Mutex::default() });
    let own = Arc::clone(&desk);
    let builder = std::thread::Builder::new().name("procession-calls".to_owned());
    gate::spawn(builder, move |passage| run(&own, passage))
        .map_err(|error| Error::os("start the thread of calls", error))?;
    Ok(desk)
}

fn run(desk: &Desk, mut passage: Passage) {
    let mut links: Vec<Arc<Link>> = Vec::new();
    let mut spin = Spin::default();
    loop {
        desk.wake.clear();
        for link in desk.newcomers.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if !links.iter().any(|known| Arc::ptr_eq(known, &link)) {
                links.push(link);
            }
        }
        let mut interests = vec![Interest::Read];
        links.retain(|link| {
            let interest = link.interest();
            interests.extend(interest);
            interest.is_some()
        });
        let fds = std::iter::once(desk.wake.as_fd()).chain(links.iter().map(|link| link.as_fd()));
        let fds: Vec<_> = fds.zip(interests).collect();
        // If the kernel refuses to wait, each link finds out for itself.
        drop(passage);
        let ready = wait_any(&fds, &mut spin).unwrap_or_else(|_| vec![true; fds.len()]);
        passage = gate::enter("the thread of calls");
        for (link, is_ready) in links.iter().zip(&ready[1..]) {
            if *is_ready {
                link.serve();
            }
        }
    }
}
