//! What a hanging process is doing: each thread's name, state, wait channel, system call and kernel stack, and the user
//! stacks where `gdb` is found.

use std::{
    fmt::Write as _,
    fs::{self, File},
    process::{Command, Stdio},
    time::Duration,
};

use super::{contents, kill9, poll, procfs, procfs::ProcessState};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// A hang of many processes is mostly the same hang: the debugger looks at the first ones.
const MOST_FOR_GDB: usize = 6;
const GDB_TIME: Duration = Duration::from_secs(20);

/// All threads of all `processes`.
pub fn dump(processes: &[ProcessState]) -> String {
    let mut text = format!("{} processes:\n{}\n", processes.len(), procfs::list(processes));
    for process in processes {
        let _ = writeln!(text, "--- pid {} {}", process.pid, process.cmdline);
        for thread in procfs::threads_of(process.pid) {
            dump_thread(&mut text, process.pid, thread);
        }
    }
    for process in processes.iter().filter(|process| process.state != 'Z').take(MOST_FOR_GDB) {
        let _ = writeln!(text, "--- gdb of pid {} {}\n{}", process.pid, process.cmdline, gdb(process.pid));
    }
    text
}

fn dump_thread(text: &mut String, pid: i32, thread: i32) {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/task/{thread}/{file}"));
    let field =
        |file: &str| read(file).map_or_else(|error| format!("({error})"), |text| text.trim().to_owned());
    let state = read("stat").ok().and_then(|stat| Some(procfs::parse_stat(&stat)?.1)).unwrap_or('?');
    let (comm, wchan, syscall) = (field("comm"), field("wchan"), field("syscall"));
    let _ = writeln!(text, "  thread {thread} `{comm}` state {state} wchan {wchan} syscall {syscall}");
    for frame in read("stack").unwrap_or_default().lines() {
        let _ = writeln!(text, "    {frame}");
    }
}

/// The user stacks of `pid`, or why there are none.
fn gdb(pid: i32) -> String {
    run_gdb(pid).unwrap_or_else(|error| format!("(no gdb: {error})"))
}

fn run_gdb(pid: i32) -> std::io::Result<String> {
    let output: File = memfd_create(c"procession-test-gdb", MFdFlags::MFD_CLOEXEC)?.into();
    let mut gdb = Command::new("gdb")
        .args(["-nx", "-iex", "set debuginfod enabled off", "-p", &pid.to_string(), "-batch"])
        .args(["-ex", "thread apply all bt 30"])
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .spawn()?;
    let ended = poll(GDB_TIME, || !matches!(gdb.try_wait(), Ok(None)));
    if !ended {
        kill9(gdb.id().cast_signed());
        gdb.wait()?;
    }
    let note = if ended { "" } else { "(gdb took too long)\n" };
    Ok(format!("{note}{}", contents(&output)))
}
