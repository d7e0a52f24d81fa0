//! Where the attribute may stand.

use procession::actor;

#[actor]
struct NoBlock;

struct Counter;

#[actor]
impl ToString for Counter {
    fn to_string(&self) -> String {
        String::new()
    }
}

struct Borrows<'a>(&'a str);

#[actor]
impl<'a> Borrows<'a> {
    pub fn text(&self) -> String {
        self.0.to_owned()
    }
}

#[actor]
impl Counter {
    pub fn new() -> Self {
        Self
    }

    fn private(&self) {}
}

#[actor(visibility = "pub(crate)")]
impl Counter {
    pub fn nothing(&self) {}
}

#[actor(vis = "semi-public")]
impl Counter {
    pub fn nothing_else(&self) {}
}

fn main() {}
