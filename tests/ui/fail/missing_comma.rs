use procession::prelude::*;

fn greet(name: &str) -> String {
    name.to_owned()
}

fn main() {
    let _ = Process::spawn(greet, ("bob"));
}
