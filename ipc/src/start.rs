//! Starting a function in another process.
//!
//! ```text
//! face            start()                                  the child
//! ------------    -------------------------------------    -----------------------------------------
//! f, args    ->   descriptor of f as image offset           entry before `main`  (spawn, fork server)
//!                 args as bytes and descriptors        ->   adopt each step: lifeline, identity, ...
//!                 one part per step of `step::STEPS`        find the descriptor, decode, call
//! result     <-   one parcel: value, or why not        <-   encode, send, exit
//! ```
//!
//! Everything goes over one packet socket per child, the *start socket*. A packet arrives whole or not at all, and
//! anything large travels in a sealed memory file beside it, so neither side ever waits for the other to read:
//! `start` returns before the child runs, and a child with a big result ends without being joined.
//!
//! Invariants:
//! - a child gets no descriptor but its start socket and what came over it; everything of ours is close-on-exec;
//! - the start message is sent only once the child's pid is known, so a fork server that dies half-way never leaves a
//!   task running that nobody knows of: its child sees the end of the socket and leaves;
//! - whoever is missing something says so in the result parcel, as data ([`outcome::Failure`]).

pub mod forkserver;
pub mod method;
pub mod outcome;
pub mod preload;
pub mod target;

mod bootstrap;
mod descriptor;
mod entry;
mod identity;
mod key;
mod lifeline;
mod logging;
mod parcel;
mod recipe;
mod script;
mod spawn;
mod step;
mod surroundings;
mod task;

pub use descriptor::assert_inside_main_image;
pub use identity::{Identity, Origin, identity, origin};
pub use method::{StartMethod, UnknownStartMethod};
pub use outcome::Reply;
pub use recipe::Recipe;
pub use script::{Role, Script};
pub use spawn::set_executable;
pub use task::{ReplyForm, Results, TaskEntry, TaskId, item_task, read_reply, task_of, tuple_task};

use crate::child::{About, Child};
use crate::codec::Wire;
use crate::{Error, Result};
use parcel::{Kind, Parcel};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use target::Target;

/// How long a start waits for processes to leave that were made and cannot be used.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a process shall be started.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Start method; `None` takes the default of this process.
    pub method: Option<StartMethod>,
    /// Name and place in the family.
    pub identity: Identity,
    /// Whether the kernel kills the child when this process dies, however it dies.
    pub armed: bool,
}

/// A process that has been started.
#[derive(Debug)]
pub struct Started {
    /// The child.
    pub child: Arc<Child>,
    /// Where its result will arrive.
    pub reply: Reply,
    /// A fork server that nobody watches yet; see [`forkserver::bury`].
    pub helper: Option<Arc<Child>>,
}

/// A process that has been made, is in the table of children, and waits for its start message.
struct Made {
    child: Arc<Child>,
    /// Our end of its start socket.
    socket: OwnedFd,
    helper: Option<Arc<Child>>,
}

/// Runs `f(args)` in a new process.
///
/// # Errors
///
/// Arguments that cannot travel, a function outside the main image, a start method that does not work here, or no
/// process or descriptor left.
pub fn start<F, A, M>(f: F, args: &A, plan: &Plan) -> Result<Started>
where
    F: Target<A, M, Output: Wire>,
{
    const { target::assert_target::<F>() };
    let (entry, args, handles) = encode(f, args)?;
    start_encoded(entry, &args, handles, plan)
}

/// The function as the offset of its descriptor, its arguments as bytes and descriptors.
fn encode<F, A, M>(_f: F, args: &A) -> Result<(u64, Vec<u8>, Vec<OwnedFd>)>
where
    F: Target<A, M, Output: Wire>,
{
    let entry =
        descriptor::offset_of(target::ProcessSite::<F, A, M>::DESCRIPTOR, std::any::type_name::<F>())?;
    let (args, handles) = F::encode(args)?;
    Ok((entry, args, handles))
}

fn start_encoded(entry: u64, args: &[u8], mut handles: Vec<OwnedFd>, plan: &Plan) -> Result<Started> {
    let prepared = step::prepare(plan)?;
    let message = bootstrap::message(entry, &prepared.parts, args)?;
    let mut descriptors = prepared.handles;
    descriptors.append(&mut handles);
    let parcel = Parcel { kind: Kind::Start, bytes: message, handles: descriptors };
    let Identity { name, daemon, .. } = &plan.identity;
    let mut kept = prepared.kept;
    let made = make_process(plan.method, |pid, pidfd| {
        let about = About { name: name.clone(), daemon: *daemon, is_helper: false };
        Child::register(pid, pidfd, about, std::mem::take(&mut kept))
    })?;
    match parcel.send(&made.socket) {
        // A child that is gone already shows in its status; the reason is there, not in this send.
        Ok(()) | Err(Error::Disconnected) => {}
        Err(error) => {
            // It has nothing to do, and leaves when its start socket ends. If it takes its time, a later start reaps it.
            drop(made.socket);
            let _ = made.child.wait(Some(Instant::now() + PATIENCE));
            return Err(error);
        }
    }
    Ok(Started { child: made.child, reply: Reply::new(made.socket), helper: made.helper })
}

/// Makes a process and enters it into the table of children, once.
fn make_process(
    plan: Option<StartMethod>,
    mut enter: impl FnMut(i32, OwnedFd) -> Arc<Child>,
) -> Result<Made> {
    let method = plan.unwrap_or_else(method::default);
    if method == StartMethod::ForkServer {
        match forkserver::process(&mut enter) {
            Err(Error::NotSupported { .. }) if plan.is_none() && method::falls_back(method) => {}
            other => return other,
        }
    }
    let (pid, pidfd, socket) = spawn::process(entry::Role::Child, Vec::new())?;
    Ok(Made { child: enter(pid, pidfd), socket, helper: None })
}
