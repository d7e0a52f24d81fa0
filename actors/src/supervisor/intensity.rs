//! Restart intensity: how many restarts within how much time are too many.
//!
//! OTP's rule (`supervisor.erl`, `add_restart`): a restart is allowed while no more than `restarts` of them, this one
//! included, lie within the last `period`. One more, and the supervisor gives up: a child that always dies ends in an error,
//! never in a storm of new processes.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intensity {
    /// Restarts that are still allowed within the period.
    pub restarts: u32,
    /// The period.
    pub period: Duration,
}

/// The restarts that count.
#[derive(Debug, Default, Clone)]
pub struct History(VecDeque<Instant>);

/// Whether a restart may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Within the limit.
    Restart,
    /// Too many: give up.
    GiveUp,
}

impl Intensity {
    /// Enters a restart at `now` into the history and judges it.
    pub fn judge(self, history: &mut History, now: Instant) -> Verdict {
        history.0.retain(|&past| now.saturating_duration_since(past) <= self.period);
        history.0.push_back(now);
        if history.0.len() as u64 <= u64::from(self.restarts) { Verdict::Restart } else { Verdict::GiveUp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OTP's `supervisor_SUITE`, `restart_intensity`-like cases: seconds of the deaths, and the verdict on the last.
    #[test]
    fn the_table_of_verdicts() {
        use Verdict::{GiveUp, Restart};
        let table: [(&str, u32, u64, &[u64], Verdict); 8] = [
            ("none allowed", 0, 5, &[0], GiveUp),
            ("the first of one", 1, 5, &[0], Restart),
            ("the second of one within the period", 1, 5, &[0, 5], GiveUp),
            ("the second of one after the period", 1, 5, &[0, 6], Restart),
            ("three at once", 3, 5, &[1, 1, 1], Restart),
            ("four at once", 3, 5, &[1, 1, 1, 1], GiveUp),
            ("slow enough for ever", 1, 1, &[0, 2, 4, 6, 8, 10], Restart),
            ("old ones are forgotten", 2, 5, &[0, 1, 7, 8], Restart),
        ];
        let start = Instant::now();
        for (name, restarts, period, deaths, expected) in table {
            let intensity = Intensity { restarts, period: Duration::from_secs(period) };
            let mut history = History::default();
            let verdicts: Vec<_> = deaths
                .iter()
                .map(|&s| intensity.judge(&mut history, start + Duration::from_secs(s)))
                .collect();
            assert_eq!(verdicts.last(), Some(&expected), "{name}: {verdicts:?}");
        }
    }

    #[test]
    fn a_giving_up_supervisor_has_seen_one_more_than_the_limit() {
        let intensity = Intensity { restarts: 7, period: Duration::from_secs(60) };
        let mut history = History::default();
        let now = Instant::now();
        let allowed = (0..).take_while(|_| intensity.judge(&mut history, now) == Verdict::Restart).count();
        assert_eq!(allowed, 7);
    }
}
