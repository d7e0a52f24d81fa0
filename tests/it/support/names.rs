//! Names that outlive processes: files in `/dev/shm` and the temporary folder, and abstract sockets.
//!
//! Other tests run at the same time and make names too. A new name is held against a test only when it carries the pid
//! of one of its processes, or when, for the whole time of grace, nobody else holds it: no process has it open or
//! mapped, and it carries no living process's pid.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{poll, procfs};

/// Folders of wardens, which are checked by themselves.
const SCRATCH: &str = "procession-test-";

/// A name that some process made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// A path, or `@name` for an abstract socket.
    pub label: String,
    /// What the links in `/proc/PID/fd` say of it.
    link: String,
}

/// The names of procession that exist now.
pub fn snapshot() -> BTreeSet<Name> {
    let mut names = BTreeSet::new();
    for folder in [PathBuf::from("/dev/shm"), env::temp_dir()] {
        names.extend(entries(&folder).into_iter().map(|path| Name { label: path.clone(), link: path }));
    }
    names.retain(|name| !name.label.contains(SCRATCH));
    names
        .extend(fs::read_to_string("/proc/net/unix").unwrap_or_default().lines().filter_map(abstract_socket));
    names.retain(|name| name.label.contains("procession"));
    names
}

/// Everything in `folder`.
pub fn entries(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path().to_string_lossy().into_owned()).collect()
}

/// One line of `/proc/net/unix`: seven columns, the last the inode, then the path.
fn abstract_socket(line: &str) -> Option<Name> {
    let mut columns = line.split_whitespace().skip(6);
    let inode = columns.next()?;
    let label = columns.next()?;
    // A connection that nobody has accepted yet has the name of its listener, which is listed itself, and no inode.
    (label.starts_with('@') && inode != "0")
        .then(|| Name { label: label.to_owned(), link: format!("socket:[{inode}]") })
}

/// The names that came since `before`, stay through `grace` and can only be left by the processes `family`, which are
/// all gone.
pub fn left_behind(before: &BTreeSet<Name>, family: &BTreeSet<i32>, grace: Duration) -> Vec<String> {
    let mut suspects: Vec<Name> = snapshot().difference(before).cloned().collect();
    poll(grace, || {
        if suspects.is_empty() {
            return true;
        }
        let existing = snapshot();
        suspects.retain(|name| existing.contains(name) && is_ours(name, family));
        suspects.is_empty()
    });
    suspects.into_iter().map(|name| name.label).collect()
}

fn is_ours(name: &Name, family: &BTreeSet<i32>) -> bool {
    let pids = pids_in(&name.label);
    pids.iter().any(|pid| family.contains(pid))
        || !(pids.iter().any(|&pid| procfs::process(pid).is_some()) || is_held(name))
}

/// The numbers in a name that stand for themselves and are no part of a longer word.
pub fn pids_in(name: &str) -> Vec<i32> {
    name.split(|c: char| !c.is_ascii_alphanumeric()).filter_map(|word| word.parse().ok()).collect()
}

fn is_held(name: &Name) -> bool {
    procfs::all().iter().any(|process| {
        procfs::fd_table(process.pid).iter().any(|(_fd, link)| *link == name.link)
            || fs::read_to_string(format!("/proc/{}/maps", process.pid))
                .is_ok_and(|maps| maps.lines().any(|line| line.ends_with(&name.link)))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{isolated, own_pid};
    use super::snapshot;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    /// Or a test would be blamed for a caller who waits at another one's listener.
    #[test]
    fn connection_that_nobody_accepted_is_no_name_of_its_own() {
        isolated(|| {
            let name = format!("procession-selftest-{}", own_pid());
            let address = SocketAddr::from_abstract_name(&name).unwrap();
            let count = || snapshot().iter().filter(|found| found.label == format!("@{name}")).count();
            let listener = UnixListener::bind_addr(&address).unwrap();
            let _caller = UnixStream::connect_addr(&address).unwrap();
            assert_eq!(count(), 1);
            let _accepted = listener.accept().unwrap();
            assert_eq!(count(), 2);
        });
    }
}
