use procession::prelude::*;

fn greet(name: &str) -> String {
    format!("hello {name}")
}

fn main() -> Result<(), Error> {
    assert_eq!(Process::spawn(greet, ("bob",))?.result()?, "hello bob");
    Ok(())
}
