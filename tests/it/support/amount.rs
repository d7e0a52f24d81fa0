//! How much a test does, and what it leaves to chance.

use std::{env, time::SystemTime};

/// `short` in CI, `long` with `PROCESSION_LONG=1`: what takes minutes, and is run before a claim is made.
pub fn amount<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}

/// Whether this is the long form.
pub fn is_long() -> bool {
    env::var("PROCESSION_LONG").is_ok_and(|value| value == "1")
}

/// Random numbers (splitmix64). Each failing test shows the seed; `PROCESSION_SEED` has it used again.
#[derive(Debug)]
pub struct Chance(u64);

impl Chance {
    /// From the seed that was asked for, or a new one.
    pub fn new() -> Self {
        let now = SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |time| time.as_secs() ^ u64::from(time.subsec_nanos()));
        let seed = env::var("PROCESSION_SEED").map_or(now, |seed| seed.parse().unwrap());
        eprintln!("PROCESSION_SEED={seed}");
        Self(seed)
    }

    /// From a seed that other random numbers have given.
    pub fn with(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % limit
    }
}
