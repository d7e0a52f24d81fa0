//! Loom's models of the end of objects: the product's files, every order of the steps of several processes.
//!
//! In each model an object ends exactly once, with the last handle, and never while somebody has one. The body has a word that
//! holders use; if one of them meets what the next object at this place is, it has ended too early.

use super::cell::{Cell, Cells, Clearing, Header, Kind, Mark, Place};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::liveness::ProcessId;
use loom::sync::Arc;
use loom::thread;

fn model(body: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(body);
}

/// A slot apart from the others: their bits are in words of their own, so that no order comes from that of one word.
const APART: u32 = 32;

fn id(number: u32) -> ProcessId {
    ProcessId::new(number * APART, 1).unwrap()
}

/// One cell, with an object that the process 1 has made.
struct World {
    cells: Cells,
    place: Place,
}

impl World {
    fn new() -> Self {
        let header = Box::leak(Box::new(Header::new()));
        let words = Box::leak(Box::new(std::array::from_fn::<_, 5, _>(|_| AtomicU64::new(0))));
        let cells = Cells::new(header, Box::leak(Box::new([Cell::new()])), words);
        let place = cells.make(Kind::Lock, id(1)).unwrap();
        Self { cells, place }
    }

    /// The processes 1 to `holders` have a handle.
    fn shared(holders: u32) -> Arc<Self> {
        let world = Self::new();
        assert!(world.cells.share(world.place, id(1)));
        (2..=holders).for_each(|slot| assert!(world.cells.adopt(world.place, id(slot), false)));
        Arc::new(world)
    }

    fn is_there(&self) -> bool {
        self.cells.cell(0).unwrap().has(Mark::new(self.place.generation, self.place.kind))
    }

    /// Uses the object, of which the process has a handle.
    fn touch(&self) {
        assert!(self.is_there(), "ended too early");
        self.body().fetch_add(1, Ordering::Relaxed);
    }

    fn body(&self) -> &'static AtomicU32 {
        self.cells.cell(0).unwrap().word_for_tests()
    }

    /// Ends it, after all that was ever done with it: nothing comes later.
    fn bury(&self, ended: Option<Clearing>) -> u32 {
        let Some(clearing) = ended else { return 0 };
        let touched = self.body().load(Ordering::Relaxed);
        self.cells.free(clearing);
        assert!(!self.is_there());
        touched + 1
    }

    /// Uses it and gives the handle up.
    fn leave(&self, slot: u32) -> u32 {
        self.touch();
        self.bury(self.cells.leave(0, id(slot)))
    }
}

/// Fails with Relaxed in `Holders::clear` or in `Cell::update`: then whoever ends it has not seen what all did with it.
#[test]
fn of_several_that_leave_at_once_one_ends_it() {
    model(|| {
        let world = World::shared(3);
        let run = |slot| {
            let world = Arc::clone(&world);
            thread::spawn(move || world.leave(slot))
        };
        let others = [run(1), run(2)];
        let ended = world.leave(3) + others.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>();
        assert_eq!(ended, 4, "once, when all three had used it");
    });
}

/// A handle is sent and its sender leaves, while a third one leaves too. Fails if `adopt` sets its bit after the change of the
/// header, and with a plain load in place of the step in `examine` for what is not shared: then nobody ends it.
#[test]
fn what_is_on_its_way_does_not_end() {
    model(|| {
        let world = World::shared(2);
        assert!(world.cells.pin(world.place, id(1)));
        let receiver = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                assert!(world.cells.adopt(world.place, id(3), true));
                world.leave(3)
            }
        });
        let sender = thread::spawn({
            let world = Arc::clone(&world);
            move || world.leave(1)
        });
        let ended = world.leave(2) + receiver.join().unwrap() + sender.join().unwrap();
        assert_eq!(ended, 4);
    });
}

/// A handle goes from 1 to 2 and on to 3, each leaving when it has sent, while 4 leaves and looks: what it reads of the bits
/// is old news by the time at which it ends. Fails as the one before.
#[test]
fn who_looks_while_handles_move_ends_nothing() {
    model(|| {
        let world = World::shared(2);
        let mover = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                assert!(world.cells.pin(world.place, id(1)));
                let mut ended = world.leave(1);
                assert!(world.cells.adopt(world.place, id(3), true));
                ended += world.leave(3);
                ended
            }
        });
        let ended = world.leave(2) + mover.join().unwrap();
        assert_eq!(ended, 4);
    });
}

/// Bytes that were decoded before, or a handle that somebody keeps: it is there, or it is not, and nothing in between.
#[test]
fn who_comes_without_a_pin_gets_it_whole_or_not_at_all() {
    model(|| {
        let world = World::shared(1);
        let late = thread::spawn({
            let world = Arc::clone(&world);
            move || {
                if world.cells.adopt(world.place, id(2), false) {
                    world.leave(2)
                } else {
                    world.bury(world.cells.leave(0, id(2)))
                }
            }
        });
        let ended = world.leave(1) + late.join().unwrap();
        assert!((2..=3).contains(&ended), "{ended}");
        assert!(!world.is_there());
    });
}

/// Two sweep for the process 1, which died with a handle, and one of them is late: its slot has a new holder, which comes to a
/// handle.
#[test]
fn a_late_sweep_takes_nothing_from_the_next_holder_of_the_slot() {
    model(|| {
        let world = World::shared(2);
        let (gone, next) = (id(1), ProcessId::new(APART, 2).unwrap());
        let holder = Arc::new(AtomicU32::new(gone.bits()));
        let late = thread::spawn({
            let (world, holder) = (Arc::clone(&world), Arc::clone(&holder));
            move || {
                let is_its = || holder.load(Ordering::Acquire) == gone.bits();
                world.bury(world.cells.sweep(0, gone, id(3), is_its))
            }
        });
        let is_its = || holder.load(Ordering::Acquire) == gone.bits();
        let mut ended = world.bury(world.cells.sweep(0, gone, id(4), is_its));
        holder.store(next.bits(), Ordering::Release);
        assert!(world.cells.adopt(world.place, next, false));
        ended += world.leave(2);
        world.touch();
        ended += late.join().unwrap();
        assert_eq!(ended, 0);
        assert_eq!(world.bury(world.cells.leave(0, next)), 3);
    });
}
