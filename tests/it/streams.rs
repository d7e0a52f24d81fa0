//! Standard streams of children: what they print at their end, and streams that are closed or broken.

use std::{
    env,
    io::Write,
    process::{Command, Stdio},
};

use nix::unistd::{close, dup2_stderr, dup2_stdout, pipe};
use procession::{Context, Process};
use serde::{Deserialize, Serialize};

use crate::family::{Death, contexts, die, leave, run, start};
use crate::support::{fd_table, isolated};

/// Which program the helper test plays, and by which start method.
const PLAY: &str = "PROCESSION_TEST_STREAMS";

/// Exit code of a program that found everything as it should be.
const FINE: i32 = 42;

/// Runs this binary as another program, which does what `play` says in the helper test below: its code and its stderr.
#[track_caller]
fn run_program(play: &str, context: &Context) -> (Option<i32>, String) {
    let output = Command::new("/proc/self/exe")
        .args(["--exact", "streams::program", "--nocapture", "--test-threads=1"])
        .env_remove("PROCESSION_TEST_ROLE")
        .env(PLAY, format!("{play} {}", context.start_method().name()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Plays a program, but only when a test here starts it.
#[test]
fn program() {
    if let Ok(role) = env::var(PLAY) {
        let (play, method) = role.rsplit_once(' ').unwrap();
        act(play, &Context::new(method.parse().unwrap()).allow_threads());
    }
}

fn act(play: &str, context: &Context) {
    match play {
        "complain" => complain(context),
        "closed" | "closed later" => {
            if play == "closed later" {
                // A fork server that has them; and then other descriptors take their numbers.
                run(context, || (), ());
            }
            (0..3).for_each(|number| close(number).unwrap());
            let streams = run(context, standard_streams, ());
            speak_in_a_child(context, streams == ["/dev/null"; 3]);
        }
        "broken" => {
            let (reader, writer) = pipe().unwrap();
            dup2_stdout(&writer).unwrap();
            dup2_stderr(&writer).unwrap();
            drop((reader, writer));
            speak_in_a_child(context, true);
        }
        _ => panic!("{play}"),
    }
}

/// Leaves at once with [`FINE`], or something else: libtest could not print its verdict.
fn speak_in_a_child(context: &Context, fine_so_far: bool) {
    let process = start(context, speak, ());
    process.join().unwrap();
    leave(if fine_so_far && process.exitcode() == Some(0) { FINE } else { 1 });
}

/// Prints on both streams, without looking whether it works.
fn speak() {
    let _ = std::io::stdout().write_all(b"to nobody");
    let _ = std::io::stderr().write_all(b"to nobody");
}

fn standard_streams() -> Vec<String> {
    fd_table().into_iter().filter(|(fd, _)| *fd <= 2).map(|(_, link)| link).collect()
}

/// T21, T22 (_TestProcess.test_error_on_stdio_flush_1, test_error_on_stdio_flush_2). Streams that are closed are the null
/// device in a child: what it opens must not become its standard output.
#[test]
fn children_without_working_output_end_well() {
    isolated(|| {
        for context in &contexts() {
            for play in ["closed", "closed later", "broken"] {
                let (code, text) = run_program(play, context);
                assert_eq!(code, Some(FINE), "{play}, {context:?}: {text}");
            }
        }
    });
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Refusal {
    Busy { seconds: u32 },
}

fn refuse() -> Result<u8, Refusal> {
    Err(Refusal::Busy { seconds: 3 })
}

/// Children that end badly; they have names to be found by.
fn complain(context: &Context) {
    let begin = |name: &str| context.builder(die).name(name);
    for process in [begin("panics").args((Death::Panic,)), begin("exits").args((Death::Exit(3),))] {
        process.start().unwrap().join().unwrap();
    }
    context.builder(refuse).name("refuses").start().unwrap().join().unwrap();
    let controls = context.builder(|| -> Result<(), String> { Err("line\nfeed\u{1b}[31m".to_owned()) });
    controls.name("controls").start().unwrap().join().unwrap();
}

/// T26 (_TestSubclassingProcess.test_stderr_flush), the last row of T27 (test_sys_exit): told on stderr, each once.
#[test]
fn children_that_end_badly_say_so_on_standard_error() {
    isolated(|| {
        for context in &contexts() {
            let (code, text) = run_program("complain", context);
            assert_eq!(code, Some(0), "{text}");
            assert_eq!(text.matches("as it was told").count(), 1, "{text}");
            assert!(text.contains("family.rs:"), "{text}");
            let line = "procession: refuses: returned an error: Busy { seconds: 3 }\n";
            assert_eq!(text.matches(line).count(), 1, "{text}");
            let line = "procession: controls: returned an error: \"line\\nfeed\\u{1b}[31m\"\n";
            assert_eq!(text.matches(line).count(), 1, "{text}");
            assert!(!text.contains("exits"), "{text}");
        }
    });
}

/// T27 (_TestSubclassingProcess.test_sys_exit): a function that returns an error ends like one that failed.
#[test]
fn returned_error_is_exit_code_1_and_still_a_value() {
    isolated(|| {
        for context in &contexts() {
            let process = start(context, refuse, ());
            assert_eq!(process.result().unwrap(), Err(Refusal::Busy { seconds: 3 }));
            assert_eq!(process.exitcode(), Some(1));
            let fine: Process<Result<u8, Refusal>> = start(context, || Ok(1), ());
            assert_eq!(fine.result().unwrap(), Ok(1));
            assert_eq!(fine.exitcode(), Some(0));
            // Only the root counts: what is inside a value is no failure of the function.
            let inside: Process<Vec<Result<u8, u8>>> = start(context, || vec![Err(1)], ());
            assert_eq!(inside.result().unwrap(), [Err(1)]);
            assert_eq!(inside.exitcode(), Some(0));
        }
    });
}
