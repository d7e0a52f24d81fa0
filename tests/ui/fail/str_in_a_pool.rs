use procession::prelude::*;

fn main() {
    let _ = Pool::new(1).unwrap().map(str::len, ["one", "two"]);
}
