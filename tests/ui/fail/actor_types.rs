//! What a method gives must be able to travel, and so must an actor that is made here.

use procession::ActorProcess;

struct Raw(u64);

struct Keeper(Raw);

#[procession::actor]
impl Keeper {
    fn new(value: u64) -> Self {
        Self(Raw(value))
    }

    pub fn get(&self) -> Raw {
        Raw(self.0.0)
    }

    pub fn value(&self) -> u64 {
        self.0.0
    }
}

fn main() {
    let _made_there = ActorProcess::spawn_with(Keeper::new, (1,));
    let _sent = ActorProcess::spawn(Keeper::new(1));
}
