//! Isolated queues within one process: what they leave, and what a file must be to be taken for one.

use super::*;
use crate::codec::{HandleFd, decode, decode_with_handles, encode, encode_with_handles};
use crate::mailbox::{SharedQueue, Wait};
use crate::sync::SharedLock;
use crate::sys::memory::write_at;
use crate::travel::{Manifest, once};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::os::fd::AsRawFd;
use std::ptr;

/// What these tests look at, they have in common.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

fn make() -> SharedQueue {
    SharedQueue::isolated(None).unwrap()
}

/// How a queue travels: the bytes of all are the same.
fn parts(queue: &SharedQueue) -> (Vec<u8>, OwnedFd) {
    let (bytes, files) = encode_with_handles(queue).unwrap();
    let [file] = files.try_into().unwrap();
    (bytes, file)
}

/// As from another process: another descriptor that this process opens by itself.
fn opened_again(file: &OwnedFd) -> OwnedFd {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().read(true).write(true).open(path).unwrap().into()
}

fn put(queue: &SharedQueue, number: u64) {
    queue.put_value(&number, Wait::Never).unwrap();
}

fn get(queue: &SharedQueue) -> u64 {
    queue.get_value(Wait::Never).unwrap()
}

#[test]
fn all_handles_of_a_process_are_of_one_arena_however_the_file_was_opened() {
    let _alone = alone();
    let queue = make();
    let (bytes, file) = parts(&queue);
    let foreign = Foreign::arrive(opened_again(&file), Kind::Queue).unwrap();
    let again: SharedQueue = decode_with_handles(&bytes, vec![opened_again(&file)]).unwrap();
    assert!(Arc::ptr_eq(&foreign, &Foreign::arrive(file, Kind::Queue).unwrap()));
    for number in 0..10 {
        put(&queue, number);
        put(&again, number + 100);
        assert_eq!((get(&again), get(&queue)), (number, number + 100));
    }
    assert_eq!(foreign.arena.table.count(), 1, "it is one process");
    let other = make();
    put(&queue, 1);
    assert!(other.is_empty() && known().mapped.len() >= 2);
}

#[test]
fn a_queue_that_is_left_lives_with_its_descriptor_and_comes_back() {
    let _alone = alone();
    let queue = make();
    let (bytes, file) = parts(&queue);
    for round in 0..20 {
        let queue: SharedQueue = decode_with_handles(&bytes, vec![file.try_clone().unwrap()]).unwrap();
        put(&queue, round);
        put(&queue, round + 100);
        assert_eq!(get(&queue), if round == 0 { 0 } else { round + 99 });
        if round > 0 {
            assert_eq!(get(&queue), round);
        }
        let foreign = Foreign::arrive(file.try_clone().unwrap(), Kind::Queue).unwrap();
        assert_eq!(foreign.arena.table.count(), 1, "whoever left has no slot");
        let arena = foreign.arena;
        drop((queue, foreign));
        if round == 0 {
            assert!(!known().left.iter().any(|left| ptr::eq(*left, arena)), "there is another handle");
        }
    }
    drop(queue);
}

/// As many addresses as queues at the same time, and one keeper that has not ended yet.
#[test]
fn addresses_are_used_again_once_the_keeper_has_ended() {
    let _alone = alone();
    let seen = |arena: &'static Arena| ptr::from_ref(arena).addr();
    let mut places = std::collections::BTreeSet::new();
    for number in 0..200 {
        let queue = make();
        let foreign = Foreign::arrive(parts(&queue).1, Kind::Queue).unwrap();
        let arena = foreign.arena;
        places.insert(seen(arena));
        assert!(queue.is_empty() && arena.inside().is_none(), "it begins as a new one");
        put(&queue, number);
        assert!(arena.inside().is_some() && !arena.is_free());
        drop(queue);
        drop(foreign);
        assert!(arena.inside().is_none());
        until(|| arena.is_free());
        assert!(arena.header.family().is_none(), "nothing of it is kept");
    }
    // Those of other tests may be among them.
    assert!(places.len() <= known().left.len() && places.len() < 10, "{places:?}");
}

#[test]
fn addresses_whose_keeper_is_there_are_not_used_again() {
    let _alone = alone();
    let foreign = Foreign::make(Kind::Queue).unwrap();
    let arena = foreign.arena;
    arena.keeper.store(1, Ordering::Relaxed);
    drop(foreign);
    let others: Vec<_> = (0..5).map(|_| Foreign::make(Kind::Queue).unwrap()).collect();
    assert!(others.iter().all(|other| !ptr::eq(other.arena, arena)));
    arena.keeper.store(0, Ordering::Relaxed);
    let others: Vec<_> = (0..20).map(|_| Foreign::make(Kind::Queue).unwrap()).collect();
    assert!(others.iter().any(|other| ptr::eq(other.arena, arena)));
}

/// A file of that length and these seals, with these bytes at these places.
fn file(length: u64, seals: SealFlag, content: &[(u64, &[u8])]) -> OwnedFd {
    let file = File::from(memfd_create("test", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap());
    file.set_len(length).unwrap();
    content.iter().for_each(|(at, bytes)| write_at(file.as_fd(), *at, bytes).unwrap());
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).unwrap();
    file.into()
}

#[test]
fn a_file_that_is_no_queue_is_refused() {
    let _alone = alone();
    let fixed = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    let header = Header::bytes(7, 7);
    let start: &[(u64, &[u8])] = &[(0, &header)];
    let length = 64 << 20;
    let lock = Foreign::make(Kind::Lock).unwrap();
    let queue = make();
    let (_, sound) = parts(&queue);
    let reading = File::open(format!("/proc/self/fd/{}", sound.as_raw_fd())).unwrap();
    let pipe = nix::unistd::pipe().unwrap().0;
    let table: [(&str, OwnedFd); 11] = [
        ("a pipe", pipe),
        ("a device", File::options().read(true).write(true).open("/dev/null").unwrap().into()),
        ("it can shrink", file(length, SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL, start)),
        ("it can grow", file(length, SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_SEAL, start)),
        ("it can be sealed", file(length, SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW, start)),
        ("nobody can write", file(length, fixed | SealFlag::F_SEAL_WRITE, start)),
        ("nobody else can write", file(length, fixed | SealFlag::F_SEAL_FUTURE_WRITE, start)),
        ("we cannot write", reading.into()),
        ("it is empty", file(0, fixed, &[])),
        ("it has no length of ours", file(length + 4096, fixed, start)),
        ("nothing is in it", file(length, fixed, &[])),
    ];
    let maps = || std::fs::read_to_string("/proc/self/maps").unwrap().matches("memfd:test").count();
    for (name, file) in table {
        let error = Foreign::arrive(file, Kind::Queue).unwrap_err();
        assert!(matches!(error, Error::Malformed { what: WHAT }), "{name}: {error:?}");
    }
    assert_eq!(maps(), 0, "none was mapped");
    for (name, file) in [
        ("there is no object", file(length, fixed, start)),
        ("the object is another one", lock.file.try_clone().unwrap().into()),
    ] {
        let error = Foreign::arrive(file, Kind::Queue).unwrap_err();
        assert!(matches!(error, Error::Malformed { what: WHAT }), "{name}: {error:?}");
    }
    assert_eq!(maps(), 0, "none is kept");
    put(&queue, 1);
    assert_eq!(get(&queue), 1);
}

#[test]
fn what_carries_anything_is_refused_and_nothing_is_counted_or_lost() {
    let _alone = alone();
    let (lock, queue) = (SharedLock::new().unwrap(), make());
    let refused = |error: Error| assert!(matches!(error, Error::Isolated { .. }), "{error:?}");
    for _ in 0..100 {
        refused(queue.put_value(&(1, lock.clone()), Wait::Never).unwrap_err());
        refused(queue.put_value(&Some(make()), Wait::Never).unwrap_err());
    }
    assert!(queue.is_empty());
    // A message with a handle in it that nobody should have written there.
    let (bytes, pins) = once(|| encode(&lock)).unwrap();
    queue.put(&[&bytes], Wait::Never).unwrap();
    refused(queue.get_value::<SharedLock>(Wait::Never).unwrap_err());
    // One that names a descriptor of whatever message is being decoded by who gets it.
    let (beside, descriptors) = encode_with_handles(&HandleFd::from(parts(&make()).1)).unwrap();
    queue.put(&[&beside], Wait::Never).unwrap();
    refused(queue.get_value::<HandleFd>(Wait::Never).unwrap_err());
    assert_eq!(descriptors.len(), 1);
    let manifest = encode(&Manifest::default()).unwrap();
    queue.put_with_manifest_for_tests(manifest.len(), &[&manifest, &7_u64.to_le_bytes()]);
    refused(queue.get_value::<u64>(Wait::Never).unwrap_err());
    put(&queue, 3);
    assert_eq!(get(&queue), 3);
    drop((lock, pins));
    assert!(decode::<SharedLock>(&bytes).unwrap_err().to_string().contains("is gone"), "nobody counts it");
}
