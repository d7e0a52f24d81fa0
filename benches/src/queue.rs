//! Group `queue`: messages from producers to consumers, each a process of its own, and round trips between two.

mod idle;
mod ipc_channel;
mod pipe;

use crate::harness::{Better, Contest, Figure, Peer, Result, Side, check};
use crate::processors::Processors::{self, All, One};
use procession::prelude::*;
use procession::set_spin_limit;
use serde::{Deserialize, Serialize};

use std::time::{Duration, Instant};

/// A figure of `queue.bytes`: name, bytes of a message, producers (and as many consumers), our N, Python's, goal, floor.
macro_rules! bytes {
    ($name:literal, $size:literal, $pairs:literal, $n:literal, $python:literal, $goal:literal, $floor:literal) => {
        Figure {
            name: concat!("queue.bytes.", $name),
            unit: "msg/s",
            better: Better::Higher,
            workload: concat!(
                $pairs,
                " producer(s) put bytes of ",
                $size,
                " B, as many consumers get them, unbounded, numbers and \
                 lengths summed; we: N = ",
                $n,
                ", python: N = ",
                $python
            ),
            contest: Contest::Against {
                ours: || Crew::of_bytes($size, $pairs),
                n: $n,
                peer: Peer::Python { n: $python },
                goal: $goal,
                floor: $floor,
            },
        }
    };
}

/// The same against ipc-channel.
macro_rules! bytes_over_channel {
    ($size:literal, $n:literal) => {
        Figure {
            name: concat!("queue.bytes.", $size),
            unit: "msg/s",
            better: Better::Higher,
            workload: concat!("1 producer, 1 consumer, bytes of ", $size, " B; both: N = ", $n),
            contest: Contest::Against {
                ours: || Crew::of_bytes($size, 1),
                n: $n,
                peer: Peer::Crate { name: "ipc-channel", side: || ipc_channel::side($size), n: $n },
                goal: 3.0,
                floor: 2.5,
            },
        }
    };
}

/// A figure of `queue.rtt`.
macro_rules! round_trip {
    ($name:literal, $how:literal, $limit:expr, $processors:expr, $goal:literal, $floor:literal) => {
        Figure {
            name: concat!("queue.rtt.", $name),
            unit: "us",
            better: Better::Lower,
            workload: concat!("8 B there and back over two queues, ", $how, "; we: N = 50k, python: N = 10k"),
            contest: Contest::Against {
                ours: || PingPong::side($limit, $processors),
                n: 50_000,
                peer: Peer::Python { n: 10_000 },
                goal: $goal,
                floor: $floor,
            },
        }
    };
}

/// The same, without looking before sleeping, against what the kernel takes to wake a process twice.
macro_rules! round_trip_over_pipes {
    ($name:literal, $how:literal, $processors:expr) => {
        Figure {
            name: concat!("queue.rtt.", $name),
            unit: "us",
            better: Better::Lower,
            workload: concat!("8 B there and back, ", $how, "; over two pipes and cat(1); both: N = 20k"),
            contest: Contest::Against {
                ours: || PingPong::side(Duration::ZERO, $processors),
                n: 20_000,
                peer: Peer::Crate { name: "pipe", side: || pipe::side($processors), n: 20_000 },
                goal: 1.0,
                floor: 0.7,
            },
        }
    };
}

/// A queue with so many messages in it, against the same queue almost empty.
macro_rules! depth {
    ($depth:literal) => {
        Figure {
            name: concat!("queue.depth.", $depth),
            unit: "ns",
            better: Better::Lower,
            workload: concat!(
                "put and get of 64 B by one process while ",
                $depth,
                " messages wait, N = 200k"
            ),
            contest: Contest::Against {
                ours: || at_depth($depth),
                n: 200_000,
                peer: Peer::Crate { name: "depth 1", side: || at_depth(1), n: 200_000 },
                goal: 0.9,
                floor: 0.5,
            },
        }
    };
}

/// A queue with memory of its own, against one in that of the family.
macro_rules! isolated {
    ($name:literal, $workload:literal, $side:expr, $n:literal) => {
        Figure {
            name: concat!("queue.isolated.", $name),
            unit: "msg/s",
            better: Better::Higher,
            workload: concat!("1 producer, 1 consumer, ", $workload, "; both: N = ", $n),
            contest: Contest::Against {
                ours: || $side(Queue::isolated()?),
                n: $n,
                peer: Peer::Crate { name: "not isolated", side: || $side(Queue::new()?), n: $n },
                goal: 1.0,
                floor: 0.9,
            },
        }
    };
}

pub(crate) const FIGURES: &[Figure] = &[
    bytes!("8", 8, 1, 1_000_000, 50_000, 30.0, 24.0),
    bytes!("256", 256, 1, 1_000_000, 50_000, 30.0, 24.0),
    bytes!("4096", 4096, 1, 400_000, 40_000, 20.0, 16.0),
    bytes!("65536", 65536, 1, 40_000, 8_000, 10.0, 8.0),
    bytes!("1048576", 1_048_576, 1, 2_000, 400, 15.0, 12.0),
    bytes!("8.2p2c", 8, 2, 1_000_000, 50_000, 15.0, 12.0),
    bytes!("256.2p2c", 256, 2, 1_000_000, 50_000, 15.0, 12.0),
    bytes!("4096.2p2c", 4096, 2, 400_000, 40_000, 10.0, 8.0),
    bytes!("65536.2p2c", 65536, 2, 40_000, 8_000, 6.0, 5.0),
    bytes!("1048576.2p2c", 1_048_576, 2, 2_000, 400, 10.0, 8.0),
    bytes!("256.4p4c", 256, 4, 1_000_000, 50_000, 10.0, 8.0),
    bytes!("256.8p8c", 256, 8, 1_000_000, 50_000, 10.0, 8.0),
    bytes!("256.16p16c", 256, 16, 1_000_000, 50_000, 10.0, 8.0),
    bytes!("256.32p32c", 256, 32, 1_000_000, 50_000, 10.0, 8.0),
    bytes_over_channel!(8, 400_000),
    bytes_over_channel!(256, 400_000),
    bytes_over_channel!(4096, 200_000),
    bytes_over_channel!(65536, 40_000),
    bytes_over_channel!(1_048_576, 2_000),
    Figure {
        name: "queue.struct",
        unit: "msg/s",
        better: Better::Higher,
        workload: "1 producer, 1 consumer, {u64, String, 200 bytes}, Python's a tuple; we: N = 500k, python: N = 50k",
        contest: Contest::Against {
            ours: Crew::of_records,
            n: 500_000,
            peer: Peer::Python { n: 50_000 },
            goal: 15.0,
            floor: 8.0,
        },
    },
    isolated!("256", "bytes of 256 B", |queue| Crew::of_bytes_over(&queue, 256, 1), 1_000_000),
    isolated!("struct", "{u64, String, 200 bytes}", |queue| Crew::of_records_over(&queue), 500_000),
    round_trip!("hot", "default settings", Duration::MAX, All, 30.0, 20.0),
    round_trip!("blocking", "no looking before sleeping", Duration::ZERO, All, 4.0, 3.0),
    round_trip_over_pipes!("blocking", "no looking before sleeping", All),
    round_trip!(
        "blocking.1core",
        "no looking before sleeping, both processes on one processor",
        Duration::ZERO,
        One,
        4.0,
        3.0
    ),
    round_trip_over_pipes!(
        "blocking.1core",
        "no looking before sleeping, both processes on one processor",
        One
    ),
    depth!(1_000),
    depth!(1_000_000),
    Figure {
        name: "queue.idle",
        unit: "us",
        better: Better::Lower,
        workload: "processor time of 8 processes that wait in get(), all their threads, in 100 ms, 20 times",
        contest: Contest::Alone { samples: idle::samples, n: 20, goal: 0.0 },
    },
];

/// The message with a number: bytes as Python's are.
fn message(number: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0x5A; size];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

fn sum_of(bytes: &[u8]) -> Option<u64> {
    let number = bytes.first_chunk().copied().map(u64::from_le_bytes)?;
    Some(number.wrapping_add(bytes.len() as u64))
}

/// Puts that many numbered messages whenever it is told to, and answers with their sum.
fn produce(queue: &Queue<Vec<u8>>, size: usize, there: &Connection) -> Result<(), String> {
    serve(there, |n| {
        (0..n).try_fold(0, |sum: u64, number| {
            queue.put(message(number, size))?;
            Ok(sum + number + size as u64)
        })
    })
}

/// Gets that many whenever it is told to.
fn consume(queue: &Queue<Vec<u8>>, there: &Connection) -> Result<(), String> {
    serve(there, |n| (0..n).try_fold(0, |sum: u64, _| Ok(sum + sum_of(&queue.get()?).unwrap_or(0))))
}

/// {u64, String, 200 bytes}.
#[derive(Serialize, Deserialize)]
struct Record {
    number: u64,
    name: String,
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

impl Record {
    fn new(number: u64) -> Self {
        Self { number, name: "name of a record".to_owned(), bytes: vec![0x5A; 200] }
    }

    fn sum(&self) -> u64 {
        self.number + (self.name.len() + self.bytes.len()) as u64
    }
}

fn produce_records(queue: &Queue<Record>, there: &Connection) -> Result<(), String> {
    serve(there, |n| {
        (0..n).try_fold(0, |sum: u64, number| {
            let record = Record::new(number);
            let sum = sum + record.sum();
            queue.put(record)?;
            Ok(sum)
        })
    })
}

fn consume_records(queue: &Queue<Record>, there: &Connection) -> Result<(), String> {
    serve(there, |n| (0..n).try_fold(0, |sum: u64, _| Ok(sum + queue.get()?.sum())))
}

/// Works whenever it is told how much, until the other end is gone.
fn serve(there: &Connection, mut work: impl FnMut(u64) -> Result<u64>) -> Result<(), String> {
    while let Ok(n) = there.recv::<u64>() {
        work(n).and_then(|sum| Ok(there.send(&sum)?)).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Somebody who produces or consumes.
struct Member {
    line: Connection,
    process: Process<Result<(), String>>,
}

impl Member {
    fn start(
        start: impl FnOnce(Connection) -> procession::Result<Process<Result<(), String>>>,
    ) -> Result<Self> {
        let (line, there) = pipe()?;
        Ok(Self { line, process: start(there)? })
    }
}

/// As many producers as consumers, on one queue.
struct Crew {
    producers: Vec<Member>,
    consumers: Vec<Member>,
}

impl Crew {
    fn of_bytes(size: usize, pairs: usize) -> Result<Side> {
        Self::of_bytes_over(&Queue::new()?, size, pairs)
    }

    fn of_bytes_over(queue: &Queue<Vec<u8>>, size: usize, pairs: usize) -> Result<Side> {
        let producers =
            (0..pairs).map(|_| Member::start(|there| Process::spawn(produce, (queue, size, &there))));
        let producers = producers.collect::<Result<_>>()?;
        let consumers = (0..pairs).map(|_| Member::start(|there| Process::spawn(consume, (queue, &there))));
        Ok(Self { producers, consumers: consumers.collect::<Result<_>>()? }.side())
    }

    fn of_records() -> Result<Side> {
        Self::of_records_over(&Queue::new()?)
    }

    fn of_records_over(queue: &Queue<Record>) -> Result<Side> {
        let producer = Member::start(|there| Process::spawn(produce_records, (queue, &there)))?;
        let consumer = Member::start(|there| Process::spawn(consume_records, (queue, &there)))?;
        Ok(Self { producers: vec![producer], consumers: vec![consumer] }.side())
    }

    /// Messages a second.
    fn side(self) -> Side {
        Box::new(move |n| {
            let each = n.div_ceil(self.producers.len() as u64);
            let begin = Instant::now();
            let put = self.producers.iter().chain(&self.consumers);
            put.clone().try_for_each(|member| member.line.send(&each))?;
            let sum = |members: &[Member]| {
                members.iter().map(|member| member.line.recv::<u64>()).sum::<Result<u64, _>>()
            };
            let put = sum(&self.producers)?;
            let got = sum(&self.consumers)?;
            let took = begin.elapsed();
            check("sum of what was got", &got, &put)?;
            Ok((each * self.producers.len() as u64) as f64 / took.as_secs_f64())
        })
    }
}

/// Two queues between this process and another.
struct PingPong {
    there: Queue<Vec<u8>>,
    back: Queue<Vec<u8>>,
    _process: Process<Result<(), String>>,
}

/// Sends back what comes, for ever.
fn echo(
    there: &Queue<Vec<u8>>,
    back: &Queue<Vec<u8>>,
    spin: Duration,
    processors: Processors,
) -> Result<(), String> {
    let _bound = processors.bind().map_err(|error| error.to_string())?;
    set_spin_limit(spin);
    loop {
        there.get().and_then(|bytes| Ok(back.put(bytes)?)).map_err(|error| error.to_string())?;
    }
}

impl PingPong {
    /// Microseconds of a round trip.
    fn side(spin: Duration, processors: Processors) -> Result<Side> {
        let (there, back) = (Queue::new()?, Queue::new()?);
        let process = Process::builder(echo).args((&there, &back, spin, processors)).daemon(true).start()?;
        let this = Self { there, back, _process: process };
        Ok(Box::new(move |n| {
            let _bound = processors.bind()?;
            set_spin_limit(spin);
            let begin = Instant::now();
            for number in 0..n {
                this.there.put(message(number, 8))?;
                check("echo", &this.back.get()?, &message(number, 8))?;
            }
            let took = begin.elapsed();
            set_spin_limit(Duration::MAX);
            Ok(took.as_secs_f64() * 1e6 / n as f64)
        }))
    }
}

/// Nanoseconds of a put and a get while so many messages wait, this one among them.
fn at_depth(depth: u64) -> Result<Side> {
    let queue = Queue::new()?;
    (1..depth).try_for_each(|number| queue.put(message(number, 64)))?;
    // Of the next message to come in, and to go out.
    let (mut last, mut first) = (depth, 1);
    Ok(Box::new(move |n| {
        let begin = Instant::now();
        for _ in 0..n {
            queue.put(message(last, 64))?;
            check("first message", &sum_of(&queue.get()?), &Some(first + 64))?;
            (last, first) = (last + 1, first + 1);
        }
        Ok(begin.elapsed().as_secs_f64() * 1e9 / n as f64)
    }))
}
