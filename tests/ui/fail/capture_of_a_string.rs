use procession::prelude::*;

fn main() {
    let word = String::from("x");
    let _ = Process::spawn(move |n: usize| word.repeat(n), (2,));
}
