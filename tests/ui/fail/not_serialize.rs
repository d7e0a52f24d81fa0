use procession::prelude::*;

struct Raw(u64);

fn take(raw: Raw) -> u64 {
    raw.0
}

fn main() {
    let _ = Process::spawn(take, (Raw(1),));
}
