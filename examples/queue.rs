//! A queue between this process and a child, with a start method for the program and with one of its own.

use procession::prelude::*;

type Message = (i32, Option<u8>, String);

// ANCHOR: put
fn foo(q: &Queue<Message>) -> Result<(), String> {
    q.put((42, None, "hello".to_owned())).map_err(|error| error.to_string())
}
// ANCHOR_END: put

// ANCHOR: method
fn with_a_method_for_the_program() -> Result<(), Error> {
    set_start_method(StartMethod::Spawn)?;
    let q = Queue::new()?;
    let p = Process::spawn(foo, (&q,))?;
    println!("{:?}", q.get()?);
    p.join()
}
// ANCHOR_END: method

// ANCHOR: context
fn with_a_context() -> Result<(), Error> {
    let ctx = Context::new(StartMethod::Spawn);
    let q = Queue::new()?;
    let p = Process::builder(foo).args((&q,)).context(&ctx).start()?;
    println!("{:?}", q.get()?);
    p.join()
}
// ANCHOR_END: context

// ANCHOR: reader
fn reader_process(q: &Queue<u32>) -> Result<(), String> {
    println!("{}", q.get().map_err(|error| error.to_string())?);
    Ok(())
}

fn reader() -> Result<(), Error> {
    let q = Queue::new()?;
    let p = Process::spawn(reader_process, (&q,))?;
    q.put(100)?;
    p.join()
}
// ANCHOR_END: reader

fn main() -> Result<(), Error> {
    with_a_method_for_the_program()?;
    with_a_context()?;
    reader()
}
