//! Workers that take tasks from one queue and put results into another, until they are told to stop.

use procession::prelude::*;
use serde::{Deserialize, Serialize};

const PROCESSES: usize = 4;

// ANCHOR: tasks
/// Where Python sends functions by name, a type says what there is to do.
#[derive(Debug, Serialize, Deserialize)]
enum Task {
    Mul(i64, i64),
    Plus(i64, i64),
    Stop,
}

fn worker(input: &Queue<Task>, output: &Queue<String>) -> Result<(), String> {
    loop {
        let task = input.get().map_err(|error| error.to_string())?;
        let result = match task {
            Task::Mul(a, b) => a * b,
            Task::Plus(a, b) => a + b,
            Task::Stop => return Ok(()),
        };
        let line = format!("{} says that {task:?} = {result}", current_process().name());
        output.put(line).map_err(|error| error.to_string())?;
    }
}
// ANCHOR_END: tasks

// ANCHOR: main
fn main() -> Result<(), Error> {
    let (tasks, done) = (Queue::new()?, Queue::new()?);
    for i in 0..20 {
        tasks.put(Task::Mul(i, 7))?;
    }
    let workers: Vec<_> =
        (0..PROCESSES).map(|_| Process::spawn(worker, (&tasks, &done))).collect::<Result<_, _>>()?;

    println!("Unordered results:");
    for _ in 0..20 {
        println!("\t{}", done.get()?);
    }
    for i in 0..10 {
        tasks.put(Task::Plus(i, 8))?;
    }
    for _ in 0..10 {
        println!("\t{}", done.get()?);
    }

    for _ in 0..PROCESSES {
        tasks.put(Task::Stop)?;
    }
    workers.iter().try_for_each(Process::join)
}
// ANCHOR_END: main
