//! The key of the family: who gets it, who does not, and what it opens.

use std::fs;

use procession::{
    ActorProcess, AuthKey, CallError, Connection, ErrorKind, Process, authkey, pipe, set_authkey,
};

use crate::actor::{Counter, CounterProxy};
use crate::family::{contexts, run};
use crate::support::isolated;

fn key() -> Vec<u8> {
    authkey().unwrap().as_bytes().to_vec()
}

/// The keys of a child and of its child.
fn keys_below() -> (Vec<u8>, Vec<u8>) {
    (key(), Process::spawn(key, ()).unwrap().result().unwrap())
}

/// T2 (_TestProcess.test_current), T8 (test_process): their lines about the key.
#[test]
fn the_family_has_one_key_until_one_of_it_takes_another() {
    isolated(|| {
        let own = key();
        assert_eq!(own.len(), 32);
        for context in &contexts() {
            assert_eq!(run(context, keys_below, ()), (own.clone(), own.clone()));
        }
        for (context, bytes) in contexts().iter().zip([&b"one"[..], b"another"]) {
            set_authkey(AuthKey::new(bytes).unwrap());
            assert_eq!(run(context, keys_below, ()), (bytes.to_vec(), bytes.to_vec()));
        }
    });
}

#[test]
fn two_families_have_two_keys() {
    assert_ne!(AuthKey::random().unwrap().as_bytes(), AuthKey::random().unwrap().as_bytes());
    assert_eq!(AuthKey::new("").unwrap_err().kind(), &ErrorKind::EmptyKey);
}

/// Command line and environment of this process, as others see them.
fn what_others_see() -> Vec<u8> {
    ["cmdline", "environ"].map(|file| fs::read(format!("/proc/self/{file}")).unwrap()).concat()
}

#[test]
fn the_key_is_not_where_others_look() {
    isolated(|| {
        let secret = "the secret of this family";
        set_authkey(AuthKey::new(secret).unwrap());
        let is_in = |text: &[u8]| text.windows(secret.len()).any(|part| part == secret.as_bytes());
        for context in &contexts() {
            assert!(!is_in(&run(context, what_others_see, ())));
        }
        assert!(!format!("{:?}", authkey()).contains("secret"));
    });
}

#[track_caller]
fn is_refused(result: Result<i64, CallError>) {
    match result {
        Err(CallError::Unreachable(error)) => assert_eq!(error.kind(), &ErrorKind::NotAuthenticated),
        other => panic!("{other:?}"),
    }
}

/// Calls with a wrong key and with the right one.
fn tries_keys(counter: CounterProxy, connection: Connection) {
    let right = authkey().unwrap();
    set_authkey(AuthKey::new("wrong").unwrap());
    is_refused(counter.add(1));
    is_refused(counter.add_async(1).wait());
    set_authkey(right);
    connection.send(&counter.add(1).unwrap()).unwrap();
    // A connection that is made stays.
    set_authkey(AuthKey::new("wrong again").unwrap());
    connection.send(&counter.add(1).unwrap()).unwrap();
}

#[test]
fn a_process_with_another_key_is_refused() {
    isolated(|| {
        for context in &contexts() {
            let counter = ActorProcess::builder(Counter::default()).context(context).start().unwrap();
            let (here, there) = pipe().unwrap();
            run(context, tries_keys, (ActorProcess::proxy(&counter), there));
            assert_eq!((here.recv::<i64>().unwrap(), here.recv::<i64>().unwrap()), (1, 2));
            assert_eq!(counter.log().unwrap(), [1, 1]);
        }
    });
}
