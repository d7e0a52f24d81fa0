//! Proxies that travel: by argument, result, connection and message; and the place where processes meet.

use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};

use procession::{ActorProcess, Connection, Process, pipe};
use serde::{Deserialize, Serialize};

use crate::actor::{Counter, CounterProxy};
use crate::family::{contexts, run, start};
use crate::support::{eventually, isolated};

fn add(counter: &CounterProxy, n: i64) -> i64 {
    counter.add(n).unwrap()
}

fn give_back(counter: CounterProxy) -> CounterProxy {
    counter.add(1).unwrap();
    counter
}

/// Uses each proxy that comes.
fn add_for_each(connection: Connection) {
    while let Ok(counter) = connection.recv::<CounterProxy>() {
        counter.add(100).unwrap();
    }
}

/// An actor that calls another one.
#[derive(Default, Serialize, Deserialize)]
struct Teller {
    counters: Vec<CounterProxy>,
}

#[procession::actor]
impl Teller {
    pub fn take(&mut self, counter: CounterProxy) {
        self.counters.push(counter);
    }

    pub fn add(&self, n: i64) -> Vec<i64> {
        self.counters.iter().map(|counter| counter.add(n).unwrap()).collect()
    }

    pub async fn add_and_wait(&self, n: i64) -> i64 {
        let mut last = 0;
        for counter in &self.counters {
            last = counter.add_async(n).await.unwrap();
        }
        last
    }

    pub fn first(&self) -> Option<CounterProxy> {
        self.counters.first().cloned()
    }
}

#[test]
fn a_proxy_works_wherever_it_is_sent() {
    isolated(|| {
        for context in &contexts() {
            let counter = ActorProcess::builder(Counter::default()).context(context).start().unwrap();
            let proxy = ActorProcess::proxy(&counter);
            assert_eq!(run(context, add, (&proxy, 5)), 5);
            let returned = run(context, give_back, (proxy.clone(),));
            assert_eq!(returned, proxy);
            assert_eq!(returned.add(1).unwrap(), 7);
            let (here, there) = pipe().unwrap();
            let process = start(context, add_for_each, (there,));
            here.send(&proxy).unwrap();
            here.send(&proxy).unwrap();
            drop(here);
            process.result().unwrap();
            assert_eq!(counter.total().unwrap(), 207);
        }
    });
}

#[test]
fn actors_hold_proxies_of_other_actors() {
    isolated(|| {
        let counter = ActorProcess::spawn(Counter::default()).unwrap();
        let teller = ActorProcess::spawn(Teller::default()).unwrap();
        teller.take(ActorProcess::proxy(&counter)).unwrap();
        teller.take(ActorProcess::proxy(&counter)).unwrap();
        assert_eq!(teller.add(1).unwrap(), [1, 2]);
        assert_eq!(teller.add_and_wait(1).unwrap(), 4);
        assert_eq!(teller.first().unwrap().unwrap().add(1).unwrap(), 5);
    });
}

/// A child of a child uses it too: the key is handed down.
fn from_further_down(counter: CounterProxy) -> i64 {
    Process::spawn(add, (&counter, 1)).unwrap().result().unwrap()
}

#[test]
fn grandchildren_belong_to_the_family() {
    isolated(|| {
        let counter = ActorProcess::spawn(Counter::default()).unwrap();
        let process = Process::spawn(from_further_down, (ActorProcess::proxy(&counter),)).unwrap();
        assert_eq!(process.result().unwrap(), 1);
        // And an actor that a child has started is there for us, as long as the child is.
        let (here, there) = pipe().unwrap();
        let process = Process::spawn(lends_an_actor, (there,)).unwrap();
        let lent: CounterProxy = here.recv().unwrap();
        assert_eq!(lent.add(3).unwrap(), 3);
        here.send(&()).unwrap();
        process.result().unwrap();
    });
}

fn lends_an_actor(connection: Connection) {
    let counter = ActorProcess::spawn(Counter::default()).unwrap();
    connection.send(&ActorProcess::proxy(&counter)).unwrap();
    connection.recv::<()>().unwrap();
}

/// The abstract name behind a proxy, as its `Debug` shows it.
pub fn name_of(proxy: &CounterProxy) -> String {
    let shown = format!("{proxy:?}");
    shown.split(['(', ')']).nth(1).unwrap().to_owned()
}

/// Somebody of our user who found the name, and has no key.
pub fn stranger(name: &str) -> UnixStream {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap()
}

pub fn frame(message: &[u8]) -> Vec<u8> {
    [&u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

/// All that is said before the connection ends; a reset is an end.
pub fn rest(mut stream: UnixStream) -> Vec<u8> {
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    said
}

#[test]
fn who_does_not_know_the_key_is_refused() {
    isolated(|| {
        let counter = ActorProcess::spawn(Counter::default()).unwrap();
        let name = name_of(&ActorProcess::proxy(&counter));
        let wrong = frame(&[&b"{sha256}"[..], &[7; 32]].concat());
        let (welcome, huge) = (frame(b"#WELCOME#"), [&[0x7f, 0xff, 0xff, 0xff][..], &[b'x'; 1000]].concat());
        for (what, said, refused) in
            [("a wrong answer", &wrong, true), ("no answer", &welcome, true), ("a huge frame", &huge, false)]
        {
            let mut stream = stranger(&name);
            let mut challenge = [0; 63];
            stream.read_exact(&mut challenge).unwrap();
            assert!(challenge[4..].starts_with(b"#CHALLENGE#{sha256}"), "{what}");
            stream.write_all(said).unwrap();
            let heard = rest(stream);
            assert_eq!(heard.ends_with(b"#FAILURE#"), refused, "{what}: {heard:?}");
            assert!(!heard.windows(9).any(|part| part == b"#WELCOME#"), "{what}");
        }
        assert_eq!(counter.add(1).unwrap(), 1);
    });
}

#[test]
fn who_only_stands_in_the_door_keeps_nobody_out() {
    isolated(|| {
        let counter = ActorProcess::spawn(Counter::default()).unwrap();
        let name = name_of(&ActorProcess::proxy(&counter));
        let silent: Vec<UnixStream> = (0..100).map(|_| stranger(&name)).collect();
        // Half a header, and nothing more.
        for mut stream in &silent {
            let _ = stream.write_all(&[0, 0]);
        }
        assert_eq!(counter.add(1).unwrap(), 1);
        assert_eq!(Process::spawn(add, (&ActorProcess::proxy(&counter), 1)).unwrap().result().unwrap(), 2);
        // The oldest had to go.
        assert!(rest(silent.into_iter().next().unwrap()).starts_with(&[0, 0, 0, 59]));
    });
}

#[test]
fn the_place_to_meet_is_gone_with_the_actor() {
    isolated(|| {
        let counter = ActorProcess::spawn(Counter::default()).unwrap();
        counter.add(1).unwrap();
        let name = name_of(&ActorProcess::proxy(&counter));
        let is_there = || std::fs::read_to_string("/proc/net/unix").unwrap().contains(&name);
        assert!(is_there());
        drop(counter);
        eventually("the name is free", || !is_there());
    });
}
