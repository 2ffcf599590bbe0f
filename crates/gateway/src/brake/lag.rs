//! How late entries are delivered. Pure.
//!
//! An entry says when it came into its log by the clock of whoever keeps the log. No two clocks agree, so what counts is
//! how much longer than at best it takes: the least difference of the last one to two windows. It falls back to that
//! whenever a queue was empty once. Must not know: what is delivered, what follows from being late.

use std::time::Duration;

use parlance_model::Time;

/// A clock that was set is believed after two of these.
const WINDOW: Duration = Duration::from_secs(60);

/// What is known of one log's delivery.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lag {
    begun: Duration,
    /// The least difference of this window, and of the one before, in milliseconds.
    least: Option<i64>,
    before: Option<i64>,
}

impl Lag {
    /// How late an entry of `at` is that was delivered `now`, on a clock that is never set and begins anywhere.
    pub fn note(&mut self, now: Duration, at: Time) -> Duration {
        let passed = now.saturating_sub(self.begun);
        if passed >= WINDOW {
            self.before = self.least.take().filter(|_| passed < WINDOW * 2);
            self.begun = now;
        }
        let took = signed(now.as_millis()).saturating_sub(signed(at.millis().into()));
        let least = self.least.map_or(took, |least| least.min(took));
        self.least = Some(least);
        let best = self.before.map_or(least, |before| before.min(least));
        Duration::from_millis(took.saturating_sub(best).try_into().unwrap_or(0))
    }
}

fn signed(millis: u128) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(lag: &mut Lag, now: u64, at: u64) -> u64 {
        u64::try_from(lag.note(Duration::from_millis(now), Time::from_millis(at)).as_millis()).unwrap()
    }

    #[test]
    fn only_what_is_later_than_at_best_counts_whatever_the_clocks_say() {
        for ahead in [0, 1_700_000_000_000] {
            let mut lag = Lag::default();
            assert_eq!(note(&mut lag, 1_000, 1_000 + ahead), 0, "it may always take so long");
            assert_eq!(note(&mut lag, 2_400, 2_000 + ahead), 400);
            assert_eq!(note(&mut lag, 2_990, 3_000 + ahead), 0, "better than ever");
            assert_eq!(note(&mut lag, 4_000, 4_000 + ahead), 10);
        }
    }

    #[test]
    fn a_clock_that_was_set_is_believed_in_the_end() {
        let mut lag = Lag::default();
        assert_eq!(note(&mut lag, 100_000, 100_000), 0);
        let late: Vec<u64> =
            (1..=15).map(|n| 100_000 + n * 10_000).map(|now| note(&mut lag, now, now - 5_000)).collect();
        assert_eq!(late[..11], [5_000; 11]);
        assert_eq!(late[12..], [0; 3]);
    }

    #[test]
    fn long_silence_forgets_what_was_best() {
        let mut lag = Lag::default();
        assert_eq!(note(&mut lag, 0, 0), 0);
        assert_eq!(note(&mut lag, 130_000, 129_000), 0);
        assert_eq!(note(&mut lag, 131_000, 129_500), 500);
    }
}
