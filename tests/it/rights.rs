//! Rights: a program that has more of them than its caller starts nothing, and children never have more than their parent.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use nix::{
    sys::statvfs::{FsFlags, statvfs},
    unistd::{Gid, Uid, getegid, geteuid, getgroups, seteuid, setgroups, setresgid, setresuid},
};
use procession::{ErrorKind, Process, StartMethod};

use crate::builds::{PATIENT, Program, lines_of};
use crate::elf::build_of;
use crate::entry::{header, queued};
use crate::family::{contexts, run};
use crate::support::{children_of, isolated, isolated_with, own_pid};

/// Somebody else.
const NOBODY: u32 = 65_534;

/// Whether another owner can be given to a file in `folder`, and a set-user-id bit there means anything.
fn can_raise(folder: &Path) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = statvfs(folder).unwrap().flags().contains(FsFlags::ST_NOSUID);
    let able = geteuid().is_root() && !ignored && status.contains("NoNewPrivs:\t0");
    if !able {
        eprintln!("notice: programs cannot be made set-user-id here, this part of the test is skipped");
    }
    able
}

/// Without the bits the same message takes the program over: it is they that make the entry refuse.
#[test]
fn program_with_more_rights_than_its_caller_runs_main_once_and_starts_nothing() {
    isolated_with(PATIENT, || {
        let probe = Program::build("probe", &[]);
        let invited = || {
            let (ours, theirs) = queued(&header(1, build_of(probe.path())));
            // Whoever takes over finds that nothing more will come, and leaves.
            drop(ours);
            lines_of(probe.command().env("PROCESSION_START", "1").stdin(theirs))
        };
        assert_eq!(invited(), [""; 0], "an invited program runs `main`");
        if !can_raise(probe.path()) {
            return;
        }
        let cases =
            [("set-user-id", Some(NOBODY), None, 0o4755), ("set-group-id", None, Some(NOBODY), 0o2755)];
        for (what, user, group, mode) in cases {
            chown(probe.path(), Some(user.unwrap_or(0)), Some(group.unwrap_or(0))).unwrap();
            fs::set_permissions(probe.path(), fs::Permissions::from_mode(mode)).unwrap();
            assert_refuses(what, &probe.lines());
            assert_refuses(what, &invited());
        }
    });
}

/// `main` has run once, and each start was refused by name.
#[track_caller]
fn assert_refuses(what: &str, lines: &[String]) {
    assert_eq!(lines.len(), 7, "{what}: {lines:#?}");
    assert_eq!(lines[0], "main: early late", "{what}");
    for line in &lines[1..] {
        let (_, text) = line.split_once(": ").unwrap();
        assert!(text.starts_with("NotSupported") && text.contains("more rights"), "{what}: {line}");
    }
}

fn user_and_groups() -> (u32, u32, Vec<u32>) {
    let groups = getgroups().unwrap().into_iter().map(Gid::as_raw).collect();
    (geteuid().as_raw(), getegid().as_raw(), groups)
}

#[test]
fn process_that_runs_as_somebody_else_for_a_while_starts_nothing_meanwhile() {
    isolated(|| {
        if !geteuid().is_root() {
            return eprintln!("notice: not root, this test is skipped");
        }
        // A copy made by fork has the rights of its original, whatever they are.
        for context in contexts().iter().filter(|context| context.start_method() != StartMethod::Fork) {
            run(context, || (), ());
            let before = children_of(own_pid()).len();
            seteuid(Uid::from_raw(NOBODY)).unwrap();
            let refused = Process::builder(user_and_groups).context(context).start();
            seteuid(Uid::from_raw(0)).unwrap();
            let error = refused.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::NotSupported { .. }), "{error:?}");
            assert!(error.to_string().contains("effective user"), "{error}");
            assert!(children_of(own_pid()).len() <= before, "something was started");
            assert_eq!(run(context, user_and_groups, ()), user_and_groups());
        }
    });
}

/// The fork server was there before, and so was a child that it keeps ready, with the rights of root.
#[test]
fn children_have_no_right_that_their_parent_gave_up() {
    isolated(|| {
        if !geteuid().is_root() {
            return eprintln!("notice: not root, this test is skipped");
        }
        for context in &contexts() {
            assert_eq!(run(context, user_and_groups, ()).0, 0);
        }
        let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        setgroups(&[group]).unwrap();
        assert_eq!(run(&contexts()[1], user_and_groups, ()), user_and_groups());
        setresgid(group, group, group).unwrap();
        setresuid(user, user, user).unwrap();
        for context in &contexts() {
            assert_eq!(run(context, user_and_groups, ()), (NOBODY, NOBODY, vec![NOBODY]));
        }
    });
}
