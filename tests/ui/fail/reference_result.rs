use procession::prelude::*;

fn name() -> &'static str {
    "bob"
}

fn main() {
    let _ = Process::spawn(name, ());
}
