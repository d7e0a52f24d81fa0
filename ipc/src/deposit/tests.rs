//! What one host keeps. That others are served is shown with processes, in `tests/it/deposit.rs`.

use super::*;

fn descriptor(content: &str) -> OwnedFd {
    crate::sys::memory::sealed_memory(&[content.as_bytes()]).unwrap()
}

fn content(fd: OwnedFd, length: u64) -> Vec<u8> {
    crate::sys::memory::read_memory(fd, length).unwrap()
}

#[test]
fn a_descriptor_is_taken_once_and_lent_until_it_is_taken_back() {
    let deposit = Deposit::new(descriptor("once").as_fd(), false).unwrap();
    let ticket = deposit.ticket();
    deposit.leave();
    assert_eq!(content(take(ticket).unwrap(), 4), b"once");
    assert!(matches!(take(ticket), Err(Error::Gone { what: WHAT })));

    let lent = Deposit::new(descriptor("often").as_fd(), true).unwrap();
    let ticket = lent.ticket();
    take(ticket).unwrap();
    take(ticket).unwrap();
    drop(lent);
    assert!(take(ticket).is_err());

    let unsent = Deposit::new(descriptor("never").as_fd(), false).unwrap();
    let ticket = unsent.ticket();
    drop(unsent);
    assert!(take(ticket).is_err());
}

#[test]
fn what_a_ticket_was_for_that_is_given_back_is_gone() {
    let deposits = [(); 3].map(|()| Deposit::new(descriptor("left").as_fd(), false).unwrap());
    let [one, other, kept] = deposits.each_ref().map(Deposit::ticket);
    deposits.into_iter().for_each(Deposit::leave);
    let mut tickets = Tickets::from_iter([one, other, kept]);
    tickets.remove(kept);
    tickets.give_back();
    assert!(take(one).is_err() && take(other).is_err());
    take(kept).unwrap();
}

#[test]
fn tickets_of_nobody_are_errors() {
    let deposit = Deposit::new(descriptor("").as_fd(), false).unwrap();
    let ticket = deposit.ticket();
    for host in [0, u32::MAX, 77] {
        assert!(take(Ticket { host, ..ticket }).is_err(), "{host}");
    }
    assert!(take(Ticket { number: [0; 16], ..ticket }).is_err());
}

#[test]
fn what_was_lent_ends_with_its_lender_and_nothing_else_does() {
    let mut store = Store::default();
    let fd = descriptor("");
    let mut put = |lender| store.put(fd.try_clone().unwrap(), lender).unwrap();
    let ids = [1, 2].map(|slot| ProcessId::new(slot, 7));
    let numbers = [put(ids[0]), put(ids[1]), put(None)];
    store.prune(|lender| Some(lender) != ids[0]);
    assert!(store.take(&numbers[0]).is_err());
    store.take(&numbers[1]).unwrap();
    store.take(&numbers[2]).unwrap();
}

#[test]
fn a_host_keeps_so_many_and_no_more() {
    let mut store = Store::default();
    let fd = descriptor("");
    let put = |store: &mut Store| store.put(fd.try_clone().unwrap(), None);
    let numbers: Vec<_> = (0..MOST).map(|_| put(&mut store).unwrap()).collect();
    assert!(matches!(put(&mut store), Err(Error::TooManyDeposits { limit: MOST })));
    store.take(&numbers[7]).unwrap();
    put(&mut store).unwrap();
}
