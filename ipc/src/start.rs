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
//! `start` returns before the child runs, and a child with a big result ends without being joined. Only the start of a
//! copy (`fork`) is not sent: it is in the memory that is copied.
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

mod apart;
mod bootstrap;
mod code;
mod descriptor;
mod entry;
mod fork;
mod identity;
mod key;
mod lifeline;
mod logging;
mod memory;
mod parcel;
mod recipe;
mod script;
mod spawn;
mod step;
mod surroundings;
mod task;

pub use apart::{Apart, Border};
pub use descriptor::assert_inside_main_image;
pub use identity::{Identity, Origin, identity, origin};
pub use method::{StartMethod, UnknownStartMethod};
pub use outcome::Reply;
pub use recipe::Recipe;
pub use script::{Role, Script};
pub use spawn::set_executable;
pub use task::{TaskEntry, TaskId, item_task, read_reply, refuse, task_of, tuple_task};

use crate::arena::seat;
use crate::child::{self, About, Child};
use crate::codec::{self, Wire};
use crate::gate::{self, PrivateFd};
use crate::travel::{self, Kept};
use crate::{Error, Result};
use descriptor::ProcessKind;
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
    /// Whether `fork` may leave threads behind that are not ours.
    pub allow_threads: bool,
    /// Name and place in the family.
    pub identity: Identity,
    /// Whether the kernel kills the child when this process dies, however it dies.
    pub armed: bool,
    /// What it shares with others in place of the memory of its family; never with `fork`.
    pub apart: Option<Apart>,
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

/// A process that has been made, is in the table of children, and waits for its start message if it is not a copy.
struct Made {
    child: Arc<Child>,
    /// Our end of its start socket.
    socket: PrivateFd,
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
    start_encoded(encode(f, args)?, plan)
}

/// A function with its arguments, ready to travel.
#[derive(Debug)]
pub struct Encoded {
    entry: u64,
    args: Vec<u8>,
    luggage: Luggage,
}

/// What is in encoded arguments and cannot be bytes alone.
#[derive(Debug, Default)]
pub struct Luggage {
    /// Descriptors.
    handles: Vec<OwnedFd>,
    /// Handles of shared objects: the arguments can be decoded as long as somebody keeps them.
    kept: Kept,
}

/// Makes a function and its arguments ready to travel.
///
/// # Errors
///
/// Arguments that cannot travel, or a function outside the main image.
pub fn encode<F, A, M>(_f: F, args: &A) -> Result<Encoded>
where
    F: Target<A, M, Output: Wire>,
{
    const { target::assert_target::<F>() };
    let entry =
        descriptor::offset_of(target::ProcessSite::<F, A, M>::DESCRIPTOR, std::any::type_name::<F>())?;
    let (args, luggage) = F::encode(args)?;
    Ok(Encoded { entry, args, luggage })
}

/// Runs what [`encode`] made ready in a new process.
///
/// # Errors
///
/// A start method that does not work here, or no process or descriptor left.
pub fn start_encoded(call: Encoded, plan: &Plan) -> Result<Started> {
    match plan.method.unwrap_or_else(method::default) {
        StartMethod::Fork => {
            let Encoded { entry, args, mut luggage } = call;
            let run = descriptor::at_offset::<ProcessKind>(entry)?.run();
            start_copy(plan, false, || run(Vec::leak(args), &mut luggage))
        }
        method => start_program(call, plan, method),
    }
}

/// Runs a closure, which may capture, in a copy of this process: nothing but its result is turned into bytes.
///
/// # Errors
///
/// As [`start`] with [`StartMethod::Fork`].
pub fn start_closure<F, R>(closure: F, plan: &Plan) -> Result<Started>
where
    F: FnOnce() -> R,
    R: Wire,
{
    start_copy(plan, true, || outcome::of_call(closure))
}

/// Enters a process that has been made, by pid and pidfd, into the table of children; once.
type Enter<'a> = dyn FnMut(i32, OwnedFd) -> Arc<Child> + 'a;

/// What a start is to a fork that waits for it.
const START: &str = "the start of a process";

/// Has a child entered, with what is kept for it as long as it lives; called once.
fn entering(plan: &Plan, mut kept: Vec<PrivateFd>) -> impl FnMut(i32, OwnedFd) -> Arc<Child> {
    let (mut name, daemon) = (plan.identity.name.clone(), plan.identity.daemon);
    move |pid, pidfd| {
        let about = About { name: std::mem::take(&mut name), daemon, is_helper: false };
        Child::register(pid, pidfd, about, std::mem::take(&mut kept))
    }
}

/// Prepares, makes a copy of this process, which adopts what was prepared and makes this call.
fn start_copy(plan: &Plan, keeps_captured: bool, call: impl FnOnce() -> outcome::Outcome) -> Result<Started> {
    plan.check_copy()?;
    let passage = gate::enter(START);
    child::reap();
    let (bequest, kept) = step::bequeath(plan)?;
    let how = fork::How { allow_threads: plan.allow_threads, keeps_captured };
    let life = |socket| bootstrap::run_copy(socket, bequest, call);
    let (made, _passage) = fork::process(passage, &mut entering(plan, kept), how, life)?;
    Ok(Started { child: made.child, reply: Reply::new(made.socket), helper: made.helper })
}

/// Prepares, makes a process that begins anew, sends it the start message.
fn start_program(call: Encoded, plan: &Plan, method: StartMethod) -> Result<Started> {
    let Luggage { mut handles, kept } = call.luggage;
    Border::of(plan.apart.as_ref()).check("an argument", !kept.is_empty())?;
    let _passage = gate::enter(START);
    child::reap();
    let prepared = step::prepare(plan)?;
    // Ours are kept until it is sent, and the child has its own by then.
    let (luggage, _) = travel::often(|| codec::encode(&kept))?;
    let mut descriptors = prepared.handles;
    descriptors.append(&mut handles);
    let made = make_process(plan, method, &mut entering(plan, prepared.kept))?;
    let send = || {
        let seat = seat::seat(made.child.pid(), &kept.places())?;
        let bytes = bootstrap::message(call.entry, &prepared.parts, &call.args, (seat, &luggage))?;
        Parcel { kind: Kind::Start, bytes, handles: descriptors }.send(&made.socket)
    };
    match send() {
        Ok(()) => {}
        // A child that is gone already shows in its status; the reason is there, not in this send.
        Err(Error::Disconnected) => {}
        Err(error) => {
            // It has nothing to do, and leaves when its start socket ends. If it takes its time, a later start reaps it.
            drop(made.socket);
            let _ = made.child.wait(Some(Instant::now() + PATIENCE));
            return Err(error);
        }
    }
    Ok(Started { child: made.child, reply: Reply::new(made.socket), helper: made.helper })
}

/// Makes a process that waits for its start message.
fn make_process(plan: &Plan, method: StartMethod, enter: &mut Enter<'_>) -> Result<Made> {
    if method == StartMethod::ForkServer {
        match forkserver::process(enter) {
            Err(Error::NotSupported { .. }) if plan.method.is_none() && method::falls_back(method) => {}
            made => return made,
        }
    }
    let (pid, pidfd, socket) = spawn::process(entry::Role::Child, Vec::new())?;
    Ok(Made { child: enter(pid, pidfd), socket, helper: None })
}
