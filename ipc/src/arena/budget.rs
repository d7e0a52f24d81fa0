//! How much memory the queues of a family may take, unless the program says it: a quarter of what the machine has, or of what a
//! cgroup allows.
//!
//! Looked up once for each family, when the first message is put into a queue. What cannot be read is no limit.

use crate::sys::memory::physical_memory;
use std::fs::read_to_string;
use std::path::Path;

/// One part in so many.
const PART: u64 = 4;

/// Where cgroups are mounted: those of version 2, and those of version 1 that limit memory.
const MOUNTS: [(&str, &str); 2] =
    [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];

/// In bytes.
pub(super) fn of_this_machine() -> u64 {
    let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = MOUNTS.iter().filter_map(|(mount, file)| tightest(Path::new(mount), file, &groups));
    limits.chain(physical_memory()).min().unwrap_or(u64::MAX) / PART
}

/// The lowest limit of the cgroups that `/proc/self/cgroup` names, and of those above them.
fn tightest(mount: &Path, file: &str, groups: &str) -> Option<u64> {
    // `number:controllers:path`; in version 2 there are no controllers.
    let paths = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let controllers = parts.next()?;
        let path = parts.next()?;
        let limits_memory = controllers.is_empty() || controllers.split(',').any(|name| name == "memory");
        limits_memory.then_some(path.trim_start_matches('/'))
    });
    let folders = paths.flat_map(|path| Path::new(path).ancestors());
    folders.filter_map(|folder| limit(&mount.join(folder).join(file))).min()
}

fn limit(file: &Path) -> Option<u64> {
    // "max" is no limit.
    read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, remove_dir_all, write};

    #[test]
    fn the_tightest_cgroup_counts() {
        let root = std::env::temp_dir().join(format!("procession-cgroup-{}", std::process::id()));
        create_dir_all(root.join("a/b")).unwrap();
        for (folder, limit) in [("a/b", "max"), ("a", "5000"), (".", "7000")] {
            write(root.join(folder).join("memory.max"), format!("{limit}\n")).unwrap();
        }
        let table = [
            ("0::/a/b\n", Some(5000)),
            ("0::/\n", Some(7000)),
            ("4:cpu,memory:/a\n3:pids:/x\n", Some(5000)),
            ("3:pids:/a\n", None),
            ("0::/nowhere\n", Some(7000)),
            ("nonsense", None),
            ("", None),
        ];
        for (groups, expected) in table {
            assert_eq!(tightest(&root, "memory.max", groups), expected, "{groups:?}");
        }
        remove_dir_all(root).unwrap();
        assert!((1..=physical_memory().unwrap() / PART).contains(&of_this_machine()));
    }
}
