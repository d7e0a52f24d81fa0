//! What is part of a message must be `Wire`.

struct Stack<T>(Vec<T>);

#[procession::actor]
impl<T> Stack<T> {
    pub fn push(&mut self, item: T) {
        self.0.push(item);
    }
}

fn main() {}
