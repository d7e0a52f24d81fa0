//! What `/proc` says about processes. A process may go at any moment, so whatever cannot be read is left out.

use std::fs;

use nix::libc::SYS_futex;

/// One process at the moment of asking.
#[derive(Debug, Clone)]
pub struct ProcessState {
    /// Its id.
    pub pid: i32,
    /// Its parent's id.
    pub ppid: i32,
    /// The letter of `/proc/PID/stat`: R, S, D, T, Z …
    pub state: char,
    /// The arguments, or the name in brackets where there are none, as for a zombie.
    pub cmdline: String,
}

/// The process `pid`.
pub fn process(pid: i32) -> Option<ProcessState> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (comm, state, ppid) = parse_stat(&stat)?;
    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&cmdline).replace('\0', " ").trim().to_owned();
    let cmdline = if arguments.is_empty() { format!("[{comm}]") } else { arguments };
    Some(ProcessState { pid, ppid, state, cmdline })
}

/// Name, state and parent. The name may hold spaces and parentheses: only the last `)` ends it.
pub fn parse_stat(stat: &str) -> Option<(&str, char, i32)> {
    let (head, tail) = stat.rsplit_once(')')?;
    let (_pid, comm) = head.split_once('(')?;
    let mut fields = tail.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let ppid = fields.next()?.parse().ok()?;
    Some((comm, state, ppid))
}

/// All processes.
pub fn all() -> Vec<ProcessState> {
    numbers_in("/proc").into_iter().filter_map(process).collect()
}

/// The children of `pid`, zombies among them.
pub fn children_of(pid: i32) -> Vec<ProcessState> {
    all().into_iter().filter(|candidate| candidate.ppid == pid).collect()
}

/// The children of `pid`, their children, and so on, parents first.
pub fn descendants_of(pid: i32) -> Vec<ProcessState> {
    let mut rest = all();
    let mut found: Vec<ProcessState> = Vec::new();
    let mut parents = vec![pid];
    while let Some(parent) = parents.pop() {
        let (children, others) = rest.into_iter().partition(|candidate| candidate.ppid == parent);
        rest = others;
        let children: Vec<ProcessState> = children;
        parents.extend(children.iter().map(|child| child.pid));
        found.extend(children);
    }
    found
}

/// One line for each process.
pub fn list(processes: &[ProcessState]) -> String {
    let line =
        |p: &ProcessState| format!("  pid {} parent {} state {}: {}", p.pid, p.ppid, p.state, p.cmdline);
    processes.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The ids of the threads of `pid`.
pub fn threads_of(pid: i32) -> Vec<i32> {
    numbers_in(&format!("/proc/{pid}/task"))
}

/// The ids of the threads of `pid` that sleep in futex(2): on a word of shared memory, or for another thread.
pub fn sleepers_of(pid: i32) -> Vec<i32> {
    let call = format!("{SYS_futex} ");
    let is_asleep = |thread: &i32| {
        let file = |name| fs::read_to_string(format!("/proc/{pid}/task/{thread}/{name}")).unwrap_or_default();
        // One that is stopped may be said to be in the call that it was in before.
        let state = file("stat");
        file("syscall").starts_with(&call) && parse_stat(&state).is_some_and(|(_, state, _)| state == 'S')
    };
    threads_of(pid).into_iter().filter(is_asleep).collect()
}

/// Memory of `pid` that belongs to no file, in KiB.
pub fn memory_of(pid: i32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let value = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")?.strip_suffix("kB"))?;
    value.trim().parse().ok()
}

/// The open descriptors of `pid` and what they lead to, without the one that this function opens to find out.
pub fn fd_table(pid: i32) -> Vec<(i32, String)> {
    let folder = format!("/proc/{pid}/fd");
    let target = |fd: i32| {
        let link = fs::read_link(format!("{folder}/{fd}")).ok()?;
        Some((fd, link.to_string_lossy().into_owned()))
    };
    numbers_in(&folder).into_iter().filter_map(target).collect()
}

/// The entries of a folder whose name is a number, sorted.
fn numbers_in(folder: &str) -> Vec<i32> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut numbers: Vec<i32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}
