//! Peers that mean harm, or are broken: before they have proved that they know the key, and after.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use procession::{ActorProcess, CallError, ErrorKind, Process, authkey};
use procession_ipc::authkey::AuthKey;
use procession_ipc::connection::auth::{Handshake, next_message};

use crate::actor::{Counter, CounterProxy};
use crate::actor_death::death;
use crate::actor_travel::{frame, name_of, rest, stranger};
use crate::support::{eventually, isolated, kill9};

/// Memory of a process, in KiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn counter() -> (ActorProcess<Counter>, String) {
    let counter = ActorProcess::spawn(Counter::default()).unwrap();
    counter.add(1).unwrap();
    let name = name_of(&ActorProcess::proxy(&counter));
    (counter, name)
}

#[test]
fn garbage_of_strangers_is_not_kept() {
    isolated(|| {
        let (counter, name) = counter();
        let pid = ActorProcess::process(&counter).pid();
        let before = resident(pid);
        let endless = vec![b'x'; 1 << 20];
        let garbage: [(&str, Vec<u8>); 7] = [
            ("zeros", vec![0; 4096]),
            ("ones", vec![0xff; 4096]),
            ("no end", endless.clone()),
            ("a frame that is announced too long", [&257_u32.to_be_bytes()[..], &endless].concat()),
            ("a frame without end", [&256_u32.to_be_bytes()[..], &[b'x'; 255]].concat()),
            ("many small frames", frame(b"").repeat(10_000)),
            ("a request", [&[0_u8; 16][..], &endless].concat()),
        ];
        for round in 0..8 {
            for (what, garbage) in &garbage {
                let mut stream = stranger(&name);
                // It may hang up in the middle.
                let _ = stream.write_all(garbage);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let said = rest(stream);
                assert!(!said.windows(9).any(|part| part == b"#WELCOME#"), "{what}");
            }
            assert_eq!(counter.add(1).unwrap(), round + 2);
        }
        let after = resident(pid);
        assert!(after < before + 4096, "{before} KiB before, {after} KiB after");
    });
}

/// Goes through the handshake with the family's key, as a caller that is broken afterwards.
fn member(name: &str) -> UnixStream {
    let mut stream = stranger(name);
    let mut handshake = Handshake::dialer(AuthKey::new(authkey().unwrap().as_bytes()).unwrap());
    let (mut heard, mut buffer) = (Vec::new(), [0; 256]);
    loop {
        while let Some((message, used)) = next_message(&heard).unwrap() {
            let mut out = Vec::new();
            let is_done = handshake.receive(message, &mut out).unwrap();
            stream.write_all(&out).unwrap();
            heard.drain(..used);
            if is_done {
                return stream;
            }
        }
        let count = stream.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "refused");
        heard.extend_from_slice(&buffer[..count]);
    }
}

/// A request of `Counter`: its status byte, the length of its message, its id and its message.
fn request(first: u8, length: u64, message: &[u8]) -> Vec<u8> {
    let mut word = length.to_le_bytes();
    word[7] = first;
    [&word[..], &7_u64.to_le_bytes(), message].concat()
}

#[test]
fn a_member_that_makes_no_sense_is_hung_up_on() {
    isolated(|| {
        let (counter, name) = counter();
        for (what, said) in [
            ("a first byte that no request has", request(1, 0, b"")),
            ("a length that nobody has", request(0, (1 << 56) - 1, b"")),
            ("noise", vec![0xa5; 5000]),
        ] {
            let mut stream = member(&name);
            stream.write_all(&said).unwrap();
            assert_eq!(rest(stream), b"", "{what}");
            assert_eq!(counter.total().unwrap(), 1, "{what}");
        }
    });
}

#[test]
fn a_message_that_cannot_be_read_costs_only_itself() {
    isolated(|| {
        let (counter, name) = counter();
        let mut stream = member(&name);
        for message in [&b""[..], &[0xff; 4], &[0xff; 64], &[0; 3]] {
            stream.write_all(&request(0, message.len() as u64, message)).unwrap();
            let mut header = [0; 16];
            stream.read_exact(&mut header).unwrap();
            assert_eq!(header[8..], 7_u64.to_le_bytes(), "{message:?}");
            let length = u64::from_le_bytes(header[..8].try_into().unwrap()) & ((1 << 56) - 1);
            let mut reply = vec![0; length.try_into().unwrap()];
            stream.read_exact(&mut reply).unwrap();
        }
        assert_eq!(counter.log().unwrap(), [1]);
    });
}

#[test]
fn members_that_stop_in_the_middle_cost_nothing() {
    isolated(|| {
        let (counter, name) = counter();
        let pid = ActorProcess::process(&counter).pid();
        let before = resident(pid);
        // Each announces far more than it sends, and stays.
        let halves: Vec<UnixStream> = (0..32)
            .map(|_| {
                let mut stream = member(&name);
                stream.write_all(&request(0, 1 << 39, &[0; 1000])).unwrap();
                stream
            })
            .collect();
        for n in 2..10 {
            assert_eq!(counter.add(1).unwrap(), n);
        }
        drop(halves);
        for _ in 0..100 {
            // Gone in the middle of the handshake, or of a request.
            drop(stranger(&name));
            member(&name).write_all(&request(0, 100, &[0; 10])).unwrap();
        }
        assert_eq!(counter.add(1).unwrap(), 10);
        let after = resident(pid);
        assert!(after < before + 8192, "{before} KiB before, {after} KiB after");
    });
}

/// Asks for large answers, again and again, and reads none.
fn never_reads(counter: CounterProxy) {
    let calls: Vec<_> = (0..400).map(|_| counter.echo_async(vec![5; 100_000])).collect();
    crate::family::park_forever();
    drop(calls);
}

#[test]
fn a_caller_that_does_not_read_is_not_waited_for() {
    isolated(|| {
        let (counter, name) = counter();
        let pid = ActorProcess::process(&counter).pid();
        let process = Process::builder(never_reads)
            .args((ActorProcess::proxy(&counter),))
            .daemon(true)
            .start()
            .unwrap();
        // And one that does not even have a library that reads for it.
        let mut stream = member(&name);
        // The third method is `log`, which has no arguments. The answer is a value.
        let request = request(0, 4, &2_u32.to_le_bytes());
        stream.write_all(&request).unwrap();
        let mut answer = [0xff; 16];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!((answer[7], answer[8]), (0, 7));
        stream.set_nonblocking(true).unwrap();
        let mut sent = 0;
        while sent < 2_000_000 && stream.write_all(&request).is_ok() {
            sent += request.len();
        }
        for n in 2..20 {
            assert_eq!(counter.add(1).unwrap(), n);
        }
        kill9(process.pid() as i32);
        drop(stream);
        process.join().unwrap();
        assert_eq!(counter.total().unwrap(), 19);
        assert!(resident(pid) < 64 * 1024, "{} KiB", resident(pid));
    });
}

#[test]
fn an_impostor_at_the_address_of_a_dead_actor_gets_nothing() {
    isolated(|| {
        let (counter, name) = counter();
        let process = ActorProcess::process(&counter);
        kill9(process.pid() as i32);
        process.join().unwrap();
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let impostor = UnixListener::bind_addr(&address).unwrap();
        for (what, said) in [
            ("it welcomes without a question", frame(b"#WELCOME#")),
            ("it asks for what others can answer", frame(b"#CHALLENGE#{md5}01234567890123456789")),
            ("noise", vec![0xa5; 5000]),
        ] {
            let call = counter.add_async(1);
            let (mut stream, _) = impostor.accept().unwrap();
            stream.write_all(&said).unwrap();
            match call.wait() {
                Err(CallError::Unreachable(error)) => assert!(
                    matches!(error.kind(), ErrorKind::NotAuthenticated | ErrorKind::Other { .. }),
                    "{what}: {error}"
                ),
                other => panic!("{what}: {other:?}"),
            }
            assert_eq!(rest(stream), b"", "{what}: nothing of the call was sent");
        }
        // One that hangs up is as good as nobody.
        let call = counter.add_async(1);
        drop(impostor.accept().unwrap());
        assert!(death(call.wait()).unwrap().contains("SIGKILL"));
        drop(impostor);
        eventually("nobody is there", || death(counter.add(1)).is_some());
    });
}
