//! One process, stepped through one act by ptrace(2) instruction by instruction.
//!
//! States of a traced process: *prepared* (it has said so, and is traced) -> *before* the act (stopped at its first mark) ->
//! inside -> *behind* it (stopped at the second mark), or killed anywhere. A mark is a SIGSTOP that it sends to itself. One
//! thread of it alone is traced, and a kill ends all of them.

use std::env;
use std::fs;

use nix::errno::Errno;
use nix::libc::SYS_futex_waitv;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use procession::{Connection, Process, pipe};

use crate::support::{eventually, isolated, process, threads_of};

/// Runs `act` between two marks, when the tracer says so: the traced process's part.
pub fn between_marks<T>(line: &Connection, act: impl FnOnce() -> T) {
    line.send(&()).unwrap();
    line.recv::<()>().unwrap();
    raise(Signal::SIGSTOP).unwrap();
    let done = act();
    raise(Signal::SIGSTOP).unwrap();
    drop(done);
}

/// Where a step has led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stepped {
    /// To the next instruction.
    Inside,
    /// To the mark behind the act.
    Behind,
}

/// A process at a mark or between two of them; or the thread of one that learns of deaths, from one sleep to the next.
#[derive(Debug)]
pub struct Traced {
    process: Process<()>,
    /// Of the thread.
    pid: Pid,
    /// The system call before which the act is over, if no mark says so.
    last: Option<i64>,
}

impl Traced {
    /// Brings a process that runs [`between_marks`] before its act, once all is `prepared`; `line` is the other end of its
    /// line. `None`, with a notice, where processes may not be traced.
    ///
    /// # Panics
    ///
    /// Where they may not and `PROCESSION_REQUIRE_PTRACE=1`, as in CI: a skipped test proves nothing.
    pub fn new(process: Process<()>, line: &Connection, prepared: impl FnOnce(i32)) -> Option<Self> {
        let pid = Pid::from_raw(process.pid().cast_signed());
        line.recv::<()>().unwrap();
        prepared(pid.as_raw());
        let this = Self::seize(process, pid, None)?;
        line.send(&()).unwrap();
        assert_eq!(this.next_stop(), Signal::SIGSTOP);
        Some(this)
    }

    /// Stops the thread by which a process learns of the deaths of others, in its sleep. Its act is what it does when it has
    /// woken. `None` and panics as for [`new`](Self::new).
    pub fn keeper(process: Process<()>) -> Option<Self> {
        let task = format!("/proc/{}/task", process.pid());
        let name = |thread| fs::read_to_string(format!("{task}/{thread}/comm")).unwrap_or_default();
        let threads = threads_of(process.pid().cast_signed());
        let thread =
            threads.into_iter().find(|thread| name(*thread).trim_end() == "procession-keep").unwrap();
        let sleep = format!("{SYS_futex_waitv} ");
        let call = || fs::read_to_string(format!("{task}/{thread}/syscall")).unwrap_or_default();
        eventually("it sleeps", || call().starts_with(&sleep));
        let this = Self::seize(process, Pid::from_raw(thread), Some(SYS_futex_waitv))?;
        ptrace::interrupt(this.pid).unwrap();
        assert_eq!(this.next_stop(), Signal::SIGTRAP);
        Some(this)
    }

    fn seize(process: Process<()>, pid: Pid, last: Option<i64>) -> Option<Self> {
        let can_tell = last.is_none() || machine::KNOWS_CALLS;
        let seized = if can_tell { seize(pid) } else { Err(Errno::ENOSYS) };
        let Err(error) = seized else { return Some(Self { process, pid, last }) };
        let required = env::var("PROCESSION_REQUIRE_PTRACE").is_ok_and(|value| value == "1");
        assert!(!required, "PROCESSION_REQUIRE_PTRACE=1, but a child cannot be traced: {error}");
        eprintln!("notice: a child cannot be traced here ({error}), this test is skipped");
        process.kill().unwrap();
        process.join().unwrap();
        None
    }

    /// Goes on by one instruction, one that copies many bytes included. If it falls asleep in it, somebody else has to see to it that it wakes.
    pub fn step(&self) -> Stepped {
        if machine::finish_copy(self) {
            return Stepped::Inside;
        }
        ptrace::step(self.pid, None).unwrap();
        match self.next_stop() {
            Signal::SIGTRAP if self.last.is_some_and(|last| machine::calls(self, last)) => Stepped::Behind,
            Signal::SIGSTOP if machine::is_mark(self) => Stepped::Behind,
            Signal::SIGTRAP => Stepped::Inside,
            // Others may stop whom they like.
            Signal::SIGSTOP => {
                let code = ptrace::getsiginfo(self.pid).map(|info| info.si_code);
                eprintln!("notice: process {} was stopped by somebody else ({code:?})", self.pid);
                Stepped::Inside
            }
            other => panic!("it was stopped by {other}"),
        }
    }

    /// Kills it wherever it is, and waits for its end.
    pub fn kill(self) {
        self.process.kill().unwrap();
        if self.last.is_some() {
            // The end of a traced thread that is not the first one is told to its tracer alone.
            while waitpid(self.pid, Some(WaitPidFlag::__WALL)).is_ok() {}
        }
        self.process.join().unwrap();
    }

    fn next_stop(&self) -> Signal {
        match waitpid(self.pid, Some(WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::Stopped(_, signal) | WaitStatus::PtraceEvent(_, signal, _) => signal,
            other => panic!("the traced process is {other:?}"),
        }
    }
}

fn seize(pid: Pid) -> nix::Result<()> {
    ptrace::seize(pid, ptrace::Options::PTRACE_O_EXITKILL)
}

/// What the next instruction is.
#[cfg(target_arch = "x86_64")]
mod machine {
    use super::Traced;
    use nix::libc::SYS_tgkill;
    use nix::sys::ptrace;
    use nix::sys::signal::Signal;

    /// Whether [`calls`] can tell.
    pub(super) const KNOWS_CALLS: bool = true;

    const SYSCALL: &[u8] = &[0x0F, 0x05];
    /// `rep movsb`, `rep stosb`, `rep movsq`, `rep stosq`.
    const COPIES: [&[u8]; 4] = [&[0xF3, 0xA4], &[0xF3, 0xAA], &[0xF3, 0x48, 0xA5], &[0xF3, 0x48, 0xAB]];
    /// `int3`: stops whoever comes there.
    const STOP: i64 = 0xCC;

    /// If the next instruction copies many bytes, goes on to the one behind it: the processor stops after each byte, which would
    /// be a hundred thousand steps.
    ///
    /// Other threads of the process share its code; they do not copy so much.
    pub(super) fn finish_copy(traced: &Traced) -> bool {
        let at = ptrace::getregs(traced.pid).unwrap().rip;
        let code = read(traced, at);
        let Some(copy) = COPIES.iter().find(|copy| code.to_le_bytes().starts_with(copy)) else {
            return false;
        };
        let behind = at + copy.len() as u64;
        let code = read(traced, behind);
        ptrace::write(traced.pid, behind as ptrace::AddressType, code & !0xFF | STOP).unwrap();
        ptrace::cont(traced.pid, None).unwrap();
        assert_eq!(traced.next_stop(), Signal::SIGTRAP);
        ptrace::write(traced.pid, behind as ptrace::AddressType, code).unwrap();
        let mut registers = ptrace::getregs(traced.pid).unwrap();
        registers.rip = behind;
        ptrace::setregs(traced.pid, registers).unwrap();
        true
    }

    /// Whether the process has sent the signal that stops it itself, by the call out of which it comes.
    pub(super) fn is_mark(traced: &Traced) -> bool {
        ptrace::getregs(traced.pid).unwrap().orig_rax.cast_signed() == SYS_tgkill
    }

    /// Whether the next instruction is that system call.
    pub(super) fn calls(traced: &Traced, number: i64) -> bool {
        let registers = ptrace::getregs(traced.pid).unwrap();
        registers.rax.cast_signed() == number
            && read(traced, registers.rip).to_le_bytes().starts_with(SYSCALL)
    }

    fn read(traced: &Traced, at: u64) -> i64 {
        ptrace::read(traced.pid, at as ptrace::AddressType).unwrap()
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod machine {
    pub(super) const KNOWS_CALLS: bool = false;

    pub(super) fn finish_copy(_traced: &super::Traced) -> bool {
        false
    }

    pub(super) fn is_mark(_traced: &super::Traced) -> bool {
        true
    }

    pub(super) fn calls(_traced: &super::Traced, _number: i64) -> bool {
        false
    }
}

fn nothing(line: Connection) {
    between_marks(&line, || {});
}

/// waitid(2) gives the stops of a traced child to whoever in the process asks first, whatever it asks for.
#[test]
fn asking_whether_a_traced_process_lives_takes_no_stop_from_its_tracer() {
    isolated(|| {
        let (line, there) = pipe().unwrap();
        let process = Process::spawn(nothing, (there,)).unwrap();
        let Some(traced) = Traced::new(process, &line, |_| {}) else { return };
        for _ in 0..10 {
            ptrace::step(traced.pid, None).unwrap();
            eventually("it is stopped", || process_state(traced.pid) == Some('t'));
            assert!(traced.process.is_alive());
            assert_eq!(traced.next_stop(), Signal::SIGTRAP);
        }
        traced.kill();
    });
}

fn process_state(pid: Pid) -> Option<char> {
    process(pid.as_raw()).map(|found| found.state)
}
