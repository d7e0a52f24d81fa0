//! What a method takes must be able to travel.

struct Raw(u64);

struct Keeper(Raw);

#[procession::actor]
impl Keeper {
    pub fn put(&mut self, raw: Raw) {
        self.0 = raw;
    }

    pub fn copy(&mut self, raw: &Raw) {
        self.0 = Raw(raw.0);
    }
}

fn main() {}
