//! Connections in queues while those are killed who send them, keep them and take them: nobody hangs, a loss is told by an error,
//! and nothing stays open but what was in the hands of the dead.

use crate::family::{contexts, park_forever, start};
use crate::support::{Chance, amount, eventually, fd_table_of, isolated, kill9};
use procession::prelude::*;
use procession::{Context, ErrorKind};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// Most connections in the queue.
const BOUND: u32 = 8;

/// How long a player waits for something to put or to get.
const PATIENCE: Duration = Duration::from_millis(5);

/// What the processes of a test do, step by step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Part {
    /// Puts a connection.
    Send,
    /// Takes one out and reads from it.
    Take,
}

/// Puts a connection, of which nothing is left here, with a number in it.
fn put_one(queue: &Queue<Connection>) -> Result<(), ErrorKind> {
    let (one, other) = pipe().unwrap();
    one.send(&7_u32).unwrap();
    queue.put_timeout(other, PATIENCE).map_err(|error| error.kind().clone())
}

fn take_one(queue: &Queue<Connection>) -> Result<(), ErrorKind> {
    let connection = queue.get_timeout(PATIENCE).map_err(|error| error.kind().clone())?;
    assert_eq!(connection.recv::<u32>().unwrap(), 7);
    connection.recv::<u32>().unwrap_err();
    Ok(())
}

/// Makes a queue, if it is given none, and tells it. Then a step for each word, with a word when it is done.
fn play(part: Part, given: Option<Vec<u8>>, line: Connection) {
    let (to_self, from_self) = pipe().unwrap();
    let queue: Queue<Connection> = match given {
        Some(bytes) => {
            to_self.send_bytes(&bytes).unwrap();
            from_self.recv().unwrap()
        }
        None => Queue::bounded(BOUND as usize).unwrap(),
    };
    line.send(&queue).unwrap();
    while line.recv::<()>().is_ok() {
        let done = match part {
            Part::Send => put_one(&queue),
            Part::Take => take_one(&queue),
        };
        match done {
            Ok(()) | Err(ErrorKind::Full | ErrorKind::Empty) => {}
            // Its host was killed, or it cannot be told who that is.
            Err(ErrorKind::Codec { reason }) => assert!(reason.contains("gone"), "{reason}"),
            Err(other) => panic!("{part:?}: {other}"),
        }
        line.send(&()).unwrap();
    }
}

/// A process that plays, and the way to it.
struct Player {
    part: Part,
    process: Process<()>,
    line: Connection,
}

impl Player {
    /// The new one, and its handle of the queue as bytes: this process never uses shared memory, so that it keeps nothing.
    fn new(context: &Context, part: Part, queue: Option<Vec<u8>>) -> (Self, Vec<u8>) {
        let (line, there) = pipe().unwrap();
        let process = start(context, play, (part, queue, there));
        let queue = line.recv_bytes().unwrap();
        (Self { part, process, line }, queue)
    }

    fn descriptors(&self) -> usize {
        fd_table_of(self.process.pid().cast_signed()).len()
    }
}

/// Plays a round; if there is a victim, it is killed somewhere in it. All others come through.
fn round(players: &[Player], victim: Option<usize>, chance: &mut Chance) {
    for player in players {
        player.line.send(&()).unwrap();
    }
    if let Some(victim) = victim {
        let end = Instant::now() + Duration::from_nanos(chance.below(400_000));
        while Instant::now() < end {
            std::hint::spin_loop();
        }
        players[victim].process.kill().unwrap();
    }
    for (number, player) in players.iter().enumerate() {
        let done = player.line.recv::<()>();
        assert!(done.is_ok() || victim == Some(number), "{:?} has ended: {done:?}", player.part);
    }
}

/// Who sends keeps nothing itself, so the others keep it, the oldest of them: each is host, sender or taker in turn.
#[test]
fn senders_hosts_and_takers_are_killed_and_the_others_go_on() {
    isolated(|| {
        let mut chance = Chance::new();
        let kills = amount(30, 1000);
        for context in contexts() {
            let (first, queue) = Player::new(&context, Part::Take, None);
            let others = [Part::Send, Part::Take, Part::Send];
            let others = others.map(|part| Player::new(&context, part, Some(queue.clone())).0);
            let mut players: Vec<_> = [first].into_iter().chain(others).collect();
            (0..50).for_each(|_| round(&players, None, &mut chance));
            let before = players.iter().map(Player::descriptors).max().unwrap();
            for _ in 0..kills {
                let victim = chance.below(players.len() as u64) as usize;
                round(&players, Some(victim), &mut chance);
                players[victim].process.join().unwrap();
                players[victim] = Player::new(&context, players[victim].part, Some(queue.clone())).0;
            }
            // The senders leave, the takers empty the queue.
            players.retain(|player| player.part == Part::Take);
            (0..=2 * BOUND).for_each(|_| round(&players, None, &mut chance));
            let most = before + kills;
            let now: Vec<_> = players.iter().map(Player::descriptors).collect();
            assert!(now.iter().all(|count| *count <= most), "{now:?}, {before} before {kills} kills");
            for Player { process, line, .. } in players {
                drop(line);
                process.result().unwrap();
            }
        }
    });
}

fn put_and_park(queue: Queue<Connection>, text: String, said: Connection) {
    let (one, other) = pipe().unwrap();
    one.send(&text).unwrap();
    queue.put(other).unwrap();
    said.send(&()).unwrap();
    park_forever();
}

fn make_and_put(said: Connection, texts: Connection) {
    let queue: Queue<Connection> = Queue::new().unwrap();
    said.send(&queue).unwrap();
    texts.recv::<()>().unwrap();
    put_and_park(queue, "from the oldest".to_owned(), said);
}

fn take_and_read(bytes: Vec<u8>, ready: Connection) -> String {
    let (to_self, from_self) = pipe().unwrap();
    to_self.send_bytes(&bytes).unwrap();
    let queue: Queue<Connection> = from_self.recv().unwrap();
    ready.send(&()).unwrap();
    ready.recv::<()>().unwrap();
    queue.get().unwrap().recv().unwrap()
}

/// Also the oldest process leaves what it sends with somebody else, unless it is the first of the family.
#[test]
fn a_connection_outlives_its_sender_whoever_that_is() {
    isolated(|| {
        for context in contexts() {
            let (said, there) = pipe().unwrap();
            let (go, wait) = pipe().unwrap();
            let oldest = start(&context, make_and_put, (there, wait));
            let queue = said.recv_bytes().unwrap();
            let (ready, there) = pipe().unwrap();
            let taker = start(&context, take_and_read, (queue, there));
            ready.recv::<()>().unwrap();
            go.send(&()).unwrap();
            said.recv::<()>().unwrap();
            kill9(oldest.pid().cast_signed());
            oldest.join().unwrap();
            ready.send(&()).unwrap();
            assert_eq!(taker.result().unwrap(), "from the oldest", "{context:?}");
        }
    });
}

fn lend(task: Connection) {
    // Nobody else has this end: the task ends when its lender does.
    while task.recv::<u32>().is_ok() {}
}

fn lend_to_workers(said: Connection) {
    let pool = Pool::new(1).unwrap();
    let (here, there) = pipe().unwrap();
    let pending = pool.apply_async(lend, (there,)).unwrap();
    said.send(&()).unwrap();
    park_forever();
    drop((here, pending));
}

/// What is lent to workers ends with whoever lent it: at the host too, which is somebody else.
#[test]
fn what_was_lent_does_not_stay_with_its_host_when_the_lender_is_killed() {
    isolated(|| {
        // So this process is there before the others, and the oldest: it keeps what they send.
        let _lock = Lock::new().unwrap();
        let run = || {
            let (said, there) = pipe().unwrap();
            let lender = Process::spawn(lend_to_workers, (there,)).unwrap();
            said.recv::<()>().unwrap();
            lender.kill().unwrap();
            lender.join().unwrap();
        };
        run();
        let count = || fd_table_of(crate::support::own_pid()).len();
        let before = count();
        (0..6).for_each(|_| run());
        eventually("nothing is kept for the dead", || count() <= before);
    });
}
