//! Only the name tells the attribute that something is a `Result`.

struct Result<T>(T);

struct Counter;

#[procession::actor]
impl Counter {
    pub fn total(&self) -> Result<u64> {
        Result(0)
    }
}

fn main() {}
