//! Forks of programs with one thread, and of programs that use tokio with all its features. The program is
//! `tests/programs/full`.

use crate::builds::{PATIENT, Program};
use crate::support::isolated_with;

#[test]
fn programs_fork_alone_and_inside_and_beside_a_runtime() {
    isolated_with(PATIENT, || {
        let program = Program::build_apart("full", "procession-full");
        let printed = |play: &str| {
            let output = program.command().arg(play).output().unwrap();
            assert!(output.status.success(), "{play}: {:?}", output.status);
            String::from_utf8(output.stdout).unwrap()
        };
        // Each once, by whom it was printed.
        let alone = printed("alone");
        assert_eq!(alone, "[printed before the fork][printed by the copy]played to the end\n");
        for play in ["inside", "beside"] {
            assert_eq!(printed(play), "played to the end\n", "{play}");
        }
    });
}
