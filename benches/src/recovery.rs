//! How soon the death of a process is told, or repaired.

use crate::harness::{Result, check};
use crate::pool::{WORKERS, map_chunk1};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procession::prelude::*;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// For what takes a millisecond: only a defect is slower.
const PATIENCE: Duration = Duration::from_secs(10);

/// Says over the abstract socket `name` which process runs it, and never returns.
fn hold(name: String) -> Result<(), String> {
    let announce = move || {
        let pid = std::process::id().to_le_bytes();
        UnixDatagram::unbound()?.send_to_addr(&pid, &SocketAddr::from_abstract_name(name)?)
    };
    announce().map_err(|error: std::io::Error| format!("cannot announce the task: {error}"))?;
    loop {
        std::thread::park();
    }
}

/// Milliseconds from each kill of a worker to the error of its task.
pub(crate) fn worker(n: u64) -> Result<Vec<f64>> {
    let name = format!("procession-bench-{}", std::process::id());
    let announcements = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
    announcements.set_read_timeout(Some(PATIENCE))?;
    let pool = Pool::new(WORKERS)?;
    let samples = (0..n).map(|_| kill_once(&pool, &name, &announcements)).collect::<Result<_>>()?;
    check("results after the kills", &map_chunk1(&pool, 100)?, &(0..100).collect())?;
    Ok(samples)
}

fn kill_once(pool: &Pool, name: &str, announcements: &UnixDatagram) -> Result<f64> {
    let held = pool.apply_async(hold, (name.to_owned(),))?;
    let mut pid = [0; size_of::<u32>()];
    announcements.recv(&mut pid).map_err(|error| format!("no worker took the task: {error}"))?;
    let pid = u32::from_le_bytes(pid);
    check("worker's pid", &pool.worker_pids().contains(&pid), &true)?;
    let victim = Pid::from_raw(pid.try_into()?);
    let begin = Instant::now();
    kill(victim, Signal::SIGKILL)?;
    let outcome = held.get_timeout(PATIENCE);
    let took = begin.elapsed();
    match outcome {
        Err(error) if is_killed(&error, pid) => Ok(took.as_secs_f64() * 1e3),
        other => Err(format!("the task of a killed worker gave {other:?}").into()),
    }
}

fn is_killed(error: &procession::Error, pid: u32) -> bool {
    let ErrorKind::WorkerLost { status: ExitStatus::Signaled { signal, .. } } = error.kind() else {
        return false;
    };
    *signal == Signal::SIGKILL as i32 && error.pid().map(i32::unsigned_abs) == Some(pid)
}

struct Echo;

#[procession::actor(vis = "pub(self)")]
impl Echo {
    pub(crate) fn pid(&self) -> u32 {
        std::process::id()
    }
}

/// Milliseconds from each kill of an actor to the answer of the next one.
pub(crate) fn actor(n: u64) -> Result<Vec<f64>> {
    let tree = Supervisor::builder().intensity(u32::MAX, PATIENCE).child(ChildSpec::new("echo", || Echo));
    let tree = tree.start()?;
    let echo = tree.proxy::<Echo>("echo")?;
    let samples = (0..n).map(|_| replace_once(&echo)).collect::<Result<_>>()?;
    tree.stop()?;
    Ok(samples)
}

fn replace_once(echo: &EchoProxy) -> Result<f64> {
    let old = echo.pid()?;
    let victim = Pid::from_raw(old.try_into()?);
    let begin = Instant::now();
    kill(victim, Signal::SIGKILL)?;
    loop {
        match echo.pid() {
            Ok(new) if new != old => return Ok(begin.elapsed().as_secs_f64() * 1e3),
            // It was in flight when the process died, or even answered.
            Ok(_) | Err(CallError::ActorDied { .. }) if begin.elapsed() < PATIENCE => {}
            other => return Err(format!("a killed actor gave {other:?}").into()),
        }
    }
}
