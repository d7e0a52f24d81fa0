//! The entry before `main` trusts nobody: whoever is not our parent with a message of this build gets the program as it is.

use std::{
    env,
    fs::{self, File},
    io::Read,
    os::fd::{AsRawFd, OwnedFd},
    process::{Command, Stdio},
};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};

use crate::elf::build_of;
use crate::support::isolated;

/// Set for the helper test below, which says what `main` finds.
const GATE: &str = "PROCESSION_TEST_ENTRY";

/// Does nothing unless a test here starts it.
#[test]
fn helper() {
    if env::var_os(GATE).is_some() {
        say_what_is_here();
    }
}

fn say_what_is_here() {
    let child = procession::Process::spawn(|| env::var_os("PROCESSION_START").is_some(), ());
    println!("\nmain runs, marker: {:?}", env::var_os("PROCESSION_START"));
    println!("child: {:?}", child.and_then(|child| child.result()).ok());
}

/// This program, marked as one that shall take over.
fn marked(program: &str) -> Command {
    mark(Command::new(program))
}

/// The same, started by a shell.
fn marked_below_a_shell(script: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(fs::read_link("/proc/self/exe").unwrap());
    mark(shell)
}

fn mark(mut command: Command) -> Command {
    command
        .args(["--exact", "entry::helper", "--nocapture", "--test-threads=1"])
        .env_remove("PROCESSION_TEST_ROLE")
        .env(GATE, "1")
        .env("PROCESSION_START", "1");
    command
}

#[track_caller]
fn assert_main_runs(what: &str, command: &mut Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{what}: {:?} {text} {output:?}", output.status);
    assert!(text.contains("main runs, marker: None"), "{what}: {text} {output:?}");
    assert!(text.contains("child: Some(false)"), "{what}: {text} {output:?}");
}

fn pair(kind: SockType) -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap()
}

/// A packet socket on which `packet` is queued.
pub fn queued(packet: &[u8]) -> (OwnedFd, OwnedFd) {
    let (ours, theirs) = pair(SockType::SeqPacket);
    assert_eq!(send(ours.as_raw_fd(), packet, MsgFlags::empty()).unwrap(), packet.len());
    (ours, theirs)
}

/// The header of a start message: what it becomes (1: a child, 2: a server) and which build it is from.
pub fn header(kind: u32, build: u64) -> Vec<u8> {
    let words = [&b"PROCESN1"[..], &build.to_le_bytes(), &kind.to_le_bytes(), &[0; 12]];
    words.concat()
}

#[test]
fn stray_marker_with_any_standard_input_runs_main() {
    isolated(|| {
        let path = env::temp_dir().join("input");
        fs::write(&path, header(1, build_of("/proc/self/exe"))).unwrap();
        assert_main_runs("null device", marked("/proc/self/exe").stdin(Stdio::null()));
        assert_main_runs("pipe", marked("/proc/self/exe").stdin(Stdio::piped()));
        assert_main_runs("file", marked("/proc/self/exe").stdin(File::open(&path).unwrap()));
        let (_ours, theirs) = pair(SockType::Stream);
        assert_main_runs("stream", marked("/proc/self/exe").stdin(theirs));
        let (ours, theirs) = pair(SockType::Stream);
        send(ours.as_raw_fd(), &header(1, build_of("/proc/self/exe")), MsgFlags::empty()).unwrap();
        assert_main_runs("stream with a header", marked("/proc/self/exe").stdin(theirs));
        let (_ours, theirs) = pair(SockType::Datagram);
        assert_main_runs("datagram", marked("/proc/self/exe").stdin(theirs));
        let closed = marked("sh").args(["-c", "exec \"$0\" \"$@\" <&-", "/proc/self/exe"]).output();
        assert!(closed.is_ok());
        fs::remove_file(path).unwrap();
    });
}

#[test]
fn packet_socket_without_a_message_of_this_build_runs_main() {
    isolated(|| {
        let build = build_of("/proc/self/exe");
        let (_ours, theirs) = pair(SockType::SeqPacket);
        assert_main_runs("nothing queued", marked("/proc/self/exe").stdin(theirs));
        let (ours, theirs) = pair(SockType::SeqPacket);
        drop(ours);
        assert_main_runs("nothing queued, closed", marked("/proc/self/exe").stdin(theirs));
        let good = header(1, build);
        let cases = [
            ("an empty packet", Vec::new()),
            ("garbage", vec![0xa5; 32]),
            ("much garbage", vec![0xa5; 10_000]),
            ("half a header", good[..16].to_vec()),
            ("a header and more", [&good[..], b"more"].concat()),
            ("another build", header(1, build ^ 1)),
            ("a start message without an invitation", header(3, build)),
            ("an unknown kind", header(77, build)),
        ];
        for (what, packet) in cases {
            let (_ours, theirs) = queued(&packet);
            assert_main_runs(what, marked("/proc/self/exe").stdin(theirs));
        }
    });
}

/// The proof that the header above is a good one: with it, this very test's process gets a child and `main` never runs.
#[test]
fn invitation_of_the_parent_is_taken_and_that_of_a_grandparent_is_not() {
    isolated(|| {
        let packet = header(1, build_of("/proc/self/exe"));
        let (ours, theirs) = queued(&packet);
        let mut child = marked("/proc/self/exe").stdin(theirs).stdout(Stdio::piped()).spawn().unwrap();
        drop(ours);
        let mut text = String::new();
        child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(text, "", "`main` ran");

        let (_ours, theirs) = queued(&packet);
        let mut shell = marked_below_a_shell("\"$0\" \"$@\"; exit $?");
        shell.stdin(theirs);
        assert_main_runs("grandparent", &mut shell);
    });
}

/// The process that started it is gone: nobody wants this program to run, `main` least of all.
#[test]
fn invitation_of_a_dead_parent_ends_the_program() {
    isolated(|| {
        for kind in [1, 2] {
            let (ours, theirs) = queued(&header(kind, build_of("/proc/self/exe")));
            drop(ours);
            let mut shell = marked_below_a_shell("\"$0\" \"$@\"; echo \"code $?\"");
            let output = shell.stdin(theirs).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), "code 0\n", "{output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{output:?}");
        }
    });
}
