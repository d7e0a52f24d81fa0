//! Everything that is wrong with a block is told at once.

struct Counter;

#[procession::actor]
impl Counter {
    pub fn by_value(self) {}

    pub fn boxed(self: Box<Self>) {}

    pub fn out_parameter(&self, total: &mut i64) {
        *total = 0;
    }

    pub fn generic<T>(&self, value: T) {
        drop(value);
    }

    pub fn any(&self, value: impl ToString) -> impl ToString {
        value.to_string()
    }

    pub fn lifetime<'a>(&self, text: &'a str) -> &'a str {
        text
    }

    pub fn borrowed(&self) -> &str {
        ""
    }

    pub fn inner(&self, text: Option<&str>, texts: &[&str]) {
        drop((text, texts));
    }

    pub fn never(&self) -> ! {
        loop {}
    }

    pub extern "C" fn foreign(&self) {}

    fn private<'a>(&'a mut self, text: &'a mut String) -> &'a mut String {
        text
    }
}

struct Twins;

#[procession::actor]
impl Twins {
    pub fn add(&self) {}

    pub fn add_async(&self) {}

    pub fn clone(&self) {}
}

fn main() {}
