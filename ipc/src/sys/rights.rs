//! Rights: whether a copy of this program that is executed would have others than this process.
//!
//! The kernel decides at each execve(2), and marks a program whose rights are not those of its caller with AT_SECURE.
//! Such a program must not take orders from whoever started it.

use nix::libc;
use nix::unistd::{Gid, ResGid, ResUid, Uid, getgroups, getresgid, getresuid};
use std::ffi::CStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;

/// Whether this program runs with more rights than whoever started it (AT_SECURE, getauxval(3)).
#[must_use]
pub fn has_elevated_rights() -> bool {
    // SAFETY: reads the auxiliary vector, takes an integer.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Why the kernel would mark a copy of this program with AT_SECURE if this process executed it now; `None` if it would
/// not, as far as user, group and the program's file tell (a security module may have rules of its own).
#[must_use]
pub fn reason_for_elevation() -> Option<&'static str> {
    const PROGRAM: &CStr = c"/proc/self/exe";
    if has_elevated_rights() {
        return Some("this program was started with more rights than its caller has");
    }
    let (user, group) = (Uid::current(), Gid::current());
    if user != Uid::effective() || group != Gid::effective() {
        return Some(
            "the effective user or group of this process is not its real one: make them the same first",
        );
    }
    // Without /proc nothing can be executed either, and that has its own error.
    let file = fs::metadata(PROGRAM.to_str().ok()?).ok()?;
    let raises = changes_owner(&file, user, group) || (!user.is_root() && has_capabilities(PROGRAM));
    raises.then_some("the program's file is set-user-id or set-group-id, or has capabilities")
}

/// Whether execve(2) of `file` gives another user or group. Without its execute bit, set-group-id means something else.
fn changes_owner(file: &Metadata, user: Uid, group: Gid) -> bool {
    let has = |bits| file.mode() & bits == bits;
    (has(libc::S_ISUID) && file.uid() != user.as_raw())
        || (has(libc::S_ISGID | libc::S_IXGRP) && file.gid() != group.as_raw())
}

/// Whether executing `program` may give capabilities(7).
fn has_capabilities(program: &CStr) -> bool {
    let name = c"security.capability";
    // SAFETY: both strings end with a zero; with size 0 nothing is written (getxattr(2)).
    unsafe { libc::getxattr(program.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) > 0 }
}

/// Who this process is to the kernel: what a copy of it inherits, and a change of which only later copies see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    user: ResUid,
    group: ResGid,
    groups: Vec<Gid>,
}

impl Credentials {
    /// Those of now.
    ///
    /// # Errors
    ///
    /// None that the kernel documents for a process that asks about itself.
    pub fn current() -> io::Result<Self> {
        Ok(Self { user: getresuid()?, group: getresgid()?, groups: getgroups()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn test_binary_is_an_ordinary_program() {
        assert_eq!(reason_for_elevation(), None);
        assert_eq!(Credentials::current().unwrap(), Credentials::current().unwrap());
    }

    #[test]
    fn set_id_bits_matter_to_all_but_the_owner() {
        let path = std::env::temp_dir().join(format!("procession-rights-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        let (own, other) = (fs::metadata(&path).unwrap(), 65_000);
        let (user, group) = (own.uid(), own.gid());
        let cases = [
            ("plain", 0o755, other, other, false),
            ("set-user-id, owner", 0o4755, user, other, false),
            ("set-user-id, other", 0o4755, other, group, true),
            ("set-group-id, group", 0o2755, other, group, false),
            ("set-group-id, other", 0o2755, user, other, true),
            ("mandatory locking", 0o2745, user, other, false),
        ];
        for (what, mode, user, group, expected) in cases {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let file = fs::metadata(&path).unwrap();
            assert_eq!(changes_owner(&file, Uid::from_raw(user), Gid::from_raw(group)), expected, "{what}");
        }
        fs::remove_file(path).unwrap();
    }
}
