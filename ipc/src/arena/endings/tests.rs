//! Queues that end while whoever ends them is killed at every point, and so is the one who goes on: nothing ends too early, and what
//! stays is what one message carried for each death.

use super::super::cell::{Kind, Mark, Place};
use super::super::deaths::mortal;
use super::super::layout::Layout;
use super::*;
use crate::codec;
use crate::liveness::ProcessId;
use crate::mailbox::chain::Chain;
use crate::mailbox::ring::Actor;
use crate::shm::Region;
use crate::sync::Futex;
use crate::sys::memory::{Map, sparse_memory};
use crate::travel::Manifest;
use std::os::fd::AsFd;

fn id(slot: u32) -> ProcessId {
    ProcessId::new(slot, 1).unwrap()
}

/// An arena, the process that makes all objects, and one that lives.
struct World {
    cells: Cells,
    annexes: Annexes,
    own: ProcessId,
    other: ProcessId,
}

impl World {
    fn new() -> Self {
        let (file, layout) = (sparse_memory(8 << 20).unwrap(), Layout::of(8 << 20).unwrap());
        let region = Region::new(Map::new(file.as_fd()).unwrap());
        let (cells, annexes) = (layout.cells(&region).unwrap(), layout.annexes(&region).unwrap());
        Self { cells, annexes, own: id(1), other: id(2) }
    }

    fn make(&self, kind: Kind) -> Place {
        self.cells.make(kind, self.own).unwrap()
    }

    /// A message with one more pin for each of the objects: in the queue itself, or in segments of its own.
    fn put(&self, queue: Place, carried: &[Place], is_large: bool) {
        carried.iter().for_each(|place| assert!(self.cells.pin(*place, self.own)));
        let manifest = Manifest { places: carried.to_vec(), ..Manifest::default() };
        let manifest = if carried.is_empty() { Vec::new() } else { codec::encode(&manifest).unwrap() };
        let (length, value) = (manifest.len(), [7; 1000]);
        let (ring, segments) = (self.annexes.ring(queue.index).unwrap(), self.annexes.segments());
        let actor = Actor { queue: queue.index, own: self.own, segments, park: &Futex, deadline: None };
        let parts: [&[u8]; 2] = [&manifest, &value];
        if is_large {
            let chain = Chain::write(segments, self.own, length, &parts).unwrap();
            ring.put_large(&actor, u32::MAX, &chain).unwrap();
        } else {
            ring.put(&actor, u32::MAX, length, &parts).unwrap();
        }
    }

    fn leave(&self, place: Place, own: ProcessId) {
        if let Some(ended) = self.cells.leave(place.index, own) {
            let _ = bury(&self.cells, &self.annexes, ended);
        }
    }

    fn sweep(&self, gone: ProcessId, own: ProcessId) {
        self.annexes.sweep(gone);
        for index in self.cells.all() {
            if let Some(ended) = self.cells.sweep(index, gone, own, || true) {
                let _ = bury(&self.cells, &self.annexes, ended);
            }
        }
    }

    fn has(&self, place: Place) -> bool {
        self.cells.cell(place.index).unwrap().has(Mark::new(place.generation, place.kind))
    }
}

/// What is in a queue, by message.
struct Scene {
    world: World,
    queue: Place,
    messages: Vec<Vec<Place>>,
    /// In a queue that is in the queue.
    inner: Place,
    /// Also in another message, which is on its way.
    travelling: Place,
    /// The other process has a handle too.
    held: Place,
}

impl Scene {
    fn new() -> Self {
        let world = World::new();
        let [queue, nested] = [(); 2].map(|()| world.make(Kind::Queue));
        let [inner, travelling, held, one, two] = [(); 5].map(|()| world.make(Kind::Lock));
        assert!(world.cells.share(held, world.own) && world.cells.adopt(held, world.other, false));
        assert!(world.cells.pin(travelling, world.own));
        world.put(nested, &[inner], false);
        let messages = vec![vec![], vec![one, held], vec![], vec![nested, two, two], vec![travelling]];
        for (number, carried) in messages.iter().enumerate() {
            world.put(queue, carried, number == 3);
        }
        [nested, inner, travelling, held, one, two].iter().for_each(|place| world.leave(*place, world.own));
        Self { world, queue, messages, inner, travelling, held }
    }

    /// The last handle goes. How many were killed in what follows from that.
    fn end(&self, fuses: [u32; 2]) -> usize {
        let (world, sweeper, last) = (&self.world, id(3), id(4));
        if mortal(fuses[0], || world.leave(self.queue, world.own)).is_some() {
            return 0;
        }
        let is_swept = mortal(fuses[1], || world.sweep(world.own, sweeper)).is_some();
        world.sweep(world.own, last);
        world.sweep(sweeper, last);
        if is_swept { 1 } else { 2 }
    }

    fn check(&self, deaths: usize) {
        let world = &self.world;
        assert!(!world.has(self.queue), "the queue has not ended");
        assert!(world.has(self.held), "somebody has it");
        assert!(world.cells.adopt(self.travelling, world.other, true), "it was on its way");
        [self.held, self.travelling].iter().for_each(|place| world.leave(*place, world.other));
        let is_left = |carried: &&Vec<Place>| carried.iter().any(|place| world.has(*place));
        let left = self.messages.iter().filter(is_left).count();
        assert!(left <= deaths, "{left} messages with something left, {deaths} deaths");
        // What was in the queue in the queue stays with that queue, or was in the hands of one more.
        let nested = usize::from(world.has(self.inner));
        assert!(left + nested <= deaths + usize::from(world.has(self.messages[3][0])));
        let segments = usize::from(world.has(self.messages[3][0]));
        assert!(world.annexes.segments().in_use() as usize <= segments << 18);
    }
}

#[test]
fn a_queue_takes_with_it_what_its_messages_carry() {
    let scene = Scene::new();
    assert_eq!(scene.end([0; 2]), 0);
    scene.check(0);
    assert_eq!((scene.world.cells.count(), scene.world.annexes.segments().in_use()), (0, 0));
}

/// Of the one who ends it, each point; of the one who goes on, one in three, another one each time.
#[test]
fn whoever_ends_a_queue_may_be_killed_at_every_point() {
    for fuse in 1.. {
        for sweeper in (fuse % 3..).step_by(3) {
            let scene = Scene::new();
            let deaths = scene.end([fuse, sweeper]);
            scene.check(deaths);
            match deaths {
                0 => {
                    assert!(fuse > 100, "{fuse} points");
                    return;
                }
                1 if sweeper > 0 => break,
                _ => {}
            }
        }
    }
}
