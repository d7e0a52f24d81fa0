//! Processes: starting them, and the actor that watches each.
//!
//! Who holds the handle of a process can join it, so nobody else has to watch while it is held: a program that starts, joins
//! and drops never has the thread of the actors, and its copies are those of a process with one thread, which are cheaper.
//! The root is told when the handle is dropped and the process still runs ([`Unwatched`]), or at once if the thread is there
//! anyway, or if somebody hears when and how processes end.

use crate::Result;
use crate::runtime;
use procession_ipc as ipc;
use procession_ipc::child::{Child, ExitStatus};
use procession_ipc::codec::Wire;
use procession_ipc::start::target::Target;
use procession_ipc::start::{self, Apart, Encoded, Identity, Plan, Recipe, StartMethod, Started, forkserver};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::Interest;

/// Target of the log messages about processes.
const TARGET: &str = "procession::process";

pub(crate) const SIGKILL: i32 = 9;
pub(crate) const SIGTERM: i32 = 15;

/// How a process shall be started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Start method; `None` is the default method.
    pub method: Option<StartMethod>,
    /// Whether `fork` may leave threads behind that are not ours.
    pub allow_threads: bool,
    /// Name; `None` forms one from the place in the family: `Process-1:2`.
    pub name: Option<String>,
    /// Whether it ends with this process; `None` takes the flag of this process.
    pub daemon: Option<bool>,
    /// Whether the kernel kills it when this process is killed; `None`: if it is a daemon.
    pub armed: Option<bool>,
    /// What it shares with others in place of the memory of its family.
    pub apart: Option<Apart>,
}

/// A child that no actor watches as long as this is there.
#[derive(Debug)]
pub struct Unwatched(Arc<Child>);

impl Unwatched {
    /// Has the child watched at once if that costs nothing, or somebody listens; then there is nothing to hold.
    fn unless_watched(child: &Arc<Child>) -> Option<Self> {
        if runtime::is_running() || tracing::enabled!(target: TARGET, tracing::Level::INFO) {
            runtime::watch(Arc::clone(child));
            return None;
        }
        Some(Self(Arc::clone(child)))
    }
}

impl Drop for Unwatched {
    fn drop(&mut self) {
        match self.0.try_wait() {
            Ok(None) => runtime::watch(Arc::clone(&self.0)),
            Ok(Some(status)) => tell_end(&self.0, status),
            // In a copy of the process that started it, it is nobody's affair.
            Err(_) => {}
        }
    }
}

/// Runs `f(args)` in a new process.
///
/// # Errors
///
/// Those of [`start::start`].
pub fn start<F, A, M>(f: F, args: &A, options: &Options) -> Result<(Started, Option<Unwatched>)>
where
    F: Target<A, M, Output: Wire>,
{
    let started = start_unwatched(f, args, options)?;
    let unwatched = Unwatched::unless_watched(&started.child);
    Ok((started, unwatched))
}

/// Runs a closure in a copy of this process.
///
/// # Errors
///
/// Those of [`start::start_closure`]; inside an async runtime.
pub fn fork<F, R>(closure: F, options: &Options) -> Result<(Started, Option<Unwatched>)>
where
    F: FnOnce() -> R,
    R: Wire,
{
    if runtime::is_current() {
        let reason = "a closure cannot move to another thread, and the copy of this one would be inside an async \
                      runtime: fork before the runtime starts, or from a thread of your own, or start a plain function";
        return Err(ipc::Error::NotSupported { method: "fork", reason: reason.to_owned() }.into());
    }
    let plan = Plan { method: Some(StartMethod::Fork), ..plan(options) };
    let started = tell_start(start::start_closure(closure, &plan)?);
    let unwatched = Unwatched::unless_watched(&started.child);
    Ok((started, unwatched))
}

/// Starts a process that the caller watches itself.
pub(crate) fn start_unwatched<F, A, M>(f: F, args: &A, options: &Options) -> Result<Started>
where
    F: Target<A, M, Output: Wire>,
{
    start_encoded(start::encode(f, args)?, options)
}

/// Starts a process from a recipe; the caller watches it itself.
pub(crate) fn start_recipe(recipe: &Recipe, options: &Options) -> Result<Started> {
    start_encoded(recipe.encoded()?, options)
}

/// Starts a process; the caller watches it itself.
///
/// A fork by a caller inside an async runtime is made by a plain thread: its copy shall be outside.
pub(crate) fn start_encoded(call: Encoded, options: &Options) -> Result<Started> {
    let plan = plan(options);
    let forks = plan.method.or_else(start::method::decided) == Some(StartMethod::Fork);
    let started = if forks && runtime::is_current() {
        runtime::on_plain_thread(|| Ok(start::start_encoded(call, &plan)?))?
    } else {
        start::start_encoded(call, &plan)?
    };
    Ok(tell_start(started))
}

fn tell_start(mut started: Started) -> Started {
    if let Some(helper) = started.helper.take() {
        runtime::watch(helper);
    }
    let child = &started.child;
    let (name, pid, daemon) = (child.name(), child.pid(), child.is_daemon());
    tracing::debug!(target: TARGET, name, pid, daemon, "process started");
    started
}

/// Says how a child ended; once for each.
pub(crate) fn tell_end(child: &Child, status: ExitStatus) {
    let (name, pid) = (child.name(), child.pid());
    match status {
        // A fork server that ends is of interest when it is replaced, and that is told there.
        _ if child.is_helper() => tracing::debug!(target: TARGET, name, pid, %status, "helper ended"),
        ExitStatus::Exited(_) => tracing::debug!(target: TARGET, name, pid, %status, "process ended"),
        _ => tracing::info!(target: TARGET, name, pid, %status, "process ended"),
    }
}

/// Takes care of what a helper leaves behind that has ended: the children that a fork server had made ahead.
async fn bury(helper: &Arc<Child>) {
    loop {
        match forkserver::bury(helper) {
            Some(strays) => return strays.into_iter().for_each(runtime::watch),
            None => tokio::time::sleep(runtime::MOMENT).await,
        }
    }
}

/// Gives the process its name and its place in the family.
fn plan(options: &Options) -> Plan {
    let own = start::identity();
    let path: Vec<u32> = own.path.iter().copied().chain([next_place()]).collect();
    let name = options.name.clone().unwrap_or_else(|| default_name(&path));
    let daemon = options.daemon.unwrap_or(own.daemon);
    let armed = options.armed.unwrap_or(daemon);
    let identity = Identity { name, path, daemon };
    let (method, allow_threads, apart) = (options.method, options.allow_threads, options.apart.clone());
    Plan { method, allow_threads, identity, armed, apart }
}

/// Counts the children of this process, from 1, as Python does.
fn next_place() -> u32 {
    /// The process that started the last one, and how many it has started: in a copy of it, that is another process.
    static LAST: AtomicU64 = AtomicU64::new(0);
    let own = u64::from(std::process::id()) << 32;
    let next = |last: u64| if last >> 32 == own >> 32 { last + 1 } else { own + 1 };
    next(LAST.update(Ordering::Relaxed, Ordering::Relaxed, next)) as u32
}

fn default_name(path: &[u32]) -> String {
    let place: Vec<String> = path.iter().map(ToString::to_string).collect();
    format!("Process-{}", place.join(":"))
}

/// Watches one child: it lives as long as the child, takes its status, and stops. Its supervisor sees that.
pub(crate) struct ProcessActor;

/// The child of a [`ProcessActor`].
pub(crate) struct Watched(pub(crate) Arc<Child>);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.sentinel().as_raw_fd()
    }
}

impl Actor for ProcessActor {
    type Msg = ();
    type State = ();
    type Arguments = Watched;

    async fn pre_start(&self, myself: ActorRef<()>, child: Watched) -> Result<(), ActorProcessingErr> {
        let sentinel = runtime::register(child, Interest::READABLE)?;
        tokio::spawn(async move {
            loop {
                // The registration only fails when the runtime ends, and then nobody watches any more.
                let Ok(mut ready) = sentinel.readable().await else { break };
                match sentinel.get_ref().0.try_wait() {
                    Ok(None) => ready.clear_ready(),
                    Ok(Some(status)) => {
                        let child = &sentinel.get_ref().0;
                        tell_end(child, status);
                        if child.is_helper() {
                            bury(child).await;
                        }
                        break;
                    }
                    // An error here is one of waitid(2) itself; whoever joins the child meets it again.
                    Err(_) => break,
                }
            }
            myself.stop(None);
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_place_in_the_family() {
        assert_eq!(default_name(&[1]), "Process-1");
        assert_eq!(default_name(&[1, 2]), "Process-1:2");
    }
}
