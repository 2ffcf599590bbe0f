//! How long to wait before the next attempt. Pure: the caller brings the dice.

use std::time::Duration;

/// Exponential back-off: `base`, twice that, and so on up to `max`, each spread by `jitter`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Backoff {
    /// The first wait.
    pub base: Duration,
    /// No wait is longer.
    pub max: Duration,
    /// The part of a wait that chance decides: 0.2 spreads it over 80 to 120 %.
    pub jitter: f64,
}

impl Backoff {
    /// The wait before attempt `attempt` (the first is 0); `chance` is drawn from `[0, 1)`.
    pub fn delay(&self, attempt: u32, chance: f64) -> Duration {
        let doubled = self.base.saturating_mul(1u32.checked_shl(attempt.min(31)).unwrap_or(u32::MAX));
        let spread = 1.0 + self.jitter.clamp(0.0, 1.0) * (2.0 * chance.clamp(0.0, 1.0) - 1.0);
        doubled.min(self.max).mul_f64(spread).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_jitter_it_is_the_documented_row() {
        let backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_secs(30), jitter: 0.0 };
        let row: Vec<u64> = (0..8).map(|n| backoff.delay(n, 0.7).as_secs()).collect();
        assert_eq!(row, [1, 2, 4, 8, 16, 30, 30, 30]);
    }

    proptest! {
        #[test]
        fn jitter_stays_within_its_share(attempt in 0u32..200, chance in 0.0f64..1.0) {
            let plain = Backoff { base: Duration::from_millis(500), max: Duration::from_secs(30), jitter: 0.0 };
            let wait = Backoff { jitter: 0.2, ..plain }.delay(attempt, chance).as_secs_f64();
            let middle = plain.delay(attempt, chance).as_secs_f64();
            prop_assert!(wait >= middle * 0.8 - 1e-6 && wait <= middle * 1.2 + 1e-6);
            prop_assert!(wait <= plain.max.as_secs_f64());
        }
    }
}
