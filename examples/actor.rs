//! The program of the book's chapter "Typed actors": an account in a process of its own, and who talks to it.

#![allow(clippy::panic, reason = "an actor that cannot be made says why")]

use procession::prelude::*;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io::Write;

// ANCHOR: account
#[derive(Serialize, Deserialize)]
struct Account {
    balance: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Refused {
    missing: u64,
}

#[procession::actor(vis = "pub(crate)")]
impl Account {
    /// Pays in, and says what there is now.
    pub(crate) fn deposit(&mut self, amount: u64) -> u64 {
        self.balance += amount;
        self.balance
    }

    /// Pays out, if there is enough.
    pub(crate) fn withdraw(&mut self, amount: u64) -> Result<u64, Refused> {
        match self.balance.checked_sub(amount) {
            Some(rest) => self.balance = rest,
            None => return Err(Refused { missing: amount - self.balance }),
        }
        Ok(self.balance)
    }
}
// ANCHOR_END: account

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} are missing", self.missing)
    }
}

impl std::error::Error for Refused {}

// ANCHOR: journal
struct Journal {
    file: File,
    lines: u32,
}

#[procession::actor(vis = "pub(crate)")]
impl Journal {
    fn create(path: &str) -> Self {
        Self { file: File::create(path).unwrap_or_else(|error| panic!("no journal: {error}")), lines: 0 }
    }

    pub(crate) fn write(&mut self, line: &str) -> Result<u32, String> {
        writeln!(self.file, "{line}").map_err(|error| error.to_string())?;
        self.lines += 1;
        Ok(self.lines)
    }
}
// ANCHOR_END: journal

// ANCHOR: save
/// Runs in a process of its own, and talks to the account directly.
fn save(account: &AccountProxy, amount: u64) -> usize {
    (0..10).filter(|_| account.deposit(amount).is_ok()).count()
}
// ANCHOR_END: save

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // ANCHOR: spawn
    let account = ActorProcess::spawn(Account { balance: 0 })?;
    println!("{} after a deposit", account.deposit(100)?);
    println!("{} after a withdrawal", account.withdraw(30)?);
    if let Err(CallError::Method(refused)) = account.withdraw(500) {
        println!("refused: {refused}");
    }
    // ANCHOR_END: spawn

    // ANCHOR: pipelined
    let calls: Vec<Call<u64>> = (0..1000).map(|_| account.deposit_async(1)).collect();
    let balances: Vec<u64> = calls.into_iter().map(Call::wait).collect::<Result<_, _>>()?;
    println!("{:?} after the last of {} deposits", balances.last(), balances.len());
    // ANCHOR_END: pipelined

    // ANCHOR: travel
    let proxy: AccountProxy = ActorProcess::proxy(&account);
    let savers = [Process::spawn(save, (&proxy, 1))?, Process::spawn(save, (&proxy, 2))?];
    for saver in savers {
        println!("a process saved {} times", saver.result()?);
    }
    println!("{} in the end", account.deposit(0)?);
    // ANCHOR_END: travel

    // ANCHOR: made_there
    let path = std::env::temp_dir().join(format!("journal-{}", std::process::id()));
    let journal = ActorProcess::spawn_with(Journal::create, (&*path.to_string_lossy(),))?;
    journal.write("opened")?;
    println!("{} lines in the journal", journal.write("closed")?);
    // ANCHOR_END: made_there
    std::fs::remove_file(path).unwrap_or_default();

    // ANCHOR: death
    ActorProcess::process(&account).kill()?;
    if let Err(error) = account.deposit(1) {
        println!("{error}");
    }
    // ANCHOR_END: death
    Ok(())
}
