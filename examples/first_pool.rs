//! The programs of the book's chapter "Your first pool".

#![allow(clippy::panic, reason = "shows what a panic in a worker looks like")]

use procession::prelude::*;

// ANCHOR: map
fn square(x: u64) -> u64 {
    x * x
}

fn map() -> Result<(), Error> {
    let pool = Pool::new(4)?;
    println!("{:?}", pool.map(square, 1..=10)?);

    pool.close();
    pool.join()
}
// ANCHOR_END: map

// ANCHOR: verbs
fn verbs(pool: &Pool) -> Result<(), Error> {
    // One call, waited for.
    println!("{}", pool.apply(u64::pow, (2, 10))?);

    // One call, waited for later.
    let later = pool.apply_async(u64::pow, (3, 4))?;
    println!("{}", later.get()?);

    // Results one by one, in order; the input may be endless.
    for square in pool.imap(square, 1..)?.take(3) {
        print!("{} ", square?);
    }
    println!();
    Ok(())
}
// ANCHOR_END: verbs

// ANCHOR: arguments
fn arguments(pool: &Pool) -> Result<(), Error> {
    let words = vec!["many".to_owned(), "hands".to_owned()];
    println!("{:?}", pool.map(String::len, &words)?);
    println!("{:?}", pool.map(|word| word.len() > 4, &words)?);
    println!("{}", pool.apply(|word: String, times: usize| word.repeat(times), ("ab".to_owned(), 2))?);
    Ok(())
}
// ANCHOR_END: arguments

// ANCHOR: failures
/// Some numbers are bad, and some are worse.
fn risky(x: u32) -> u32 {
    match x {
        3 => panic!("three again"),
        5 => std::process::abort(),
        _ => x,
    }
}

fn failures(pool: &Pool) -> Result<(), Error> {
    for (x, result) in (0..8).zip(pool.imap(risky, 0..8)?) {
        match result {
            Ok(_) => println!("{x}: fine"),
            Err(error) => println!("{x}: {}", error.kind()),
        }
    }
    Ok(())
}
// ANCHOR_END: failures

// ANCHOR: options
fn options(pool: &Pool) -> Result<(), Error> {
    let squares = pool.options().chunksize(1000).progress("squares").retries(2).map(square, 0..100_000)?;
    println!("{}", squares.len());
    Ok(())
}
// ANCHOR_END: options

fn main() -> Result<(), Error> {
    map()?;
    let pool = Pool::new(2)?;
    verbs(&pool)?;
    arguments(&pool)?;
    failures(&pool)?;
    options(&pool)
}
