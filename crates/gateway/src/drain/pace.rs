//! How fast clients are sent elsewhere. Pure, but for the jitter.

use std::time::Duration;

/// Told at once.
const BATCH: usize = 50;
/// The longest pause between two batches.
const PAUSE: Duration = Duration::from_millis(250);
/// So many batches in a second, where the limit is small: clients go one by one rather than in a burst.
const BATCHES: u32 = 20;

/// A pace.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Clients of all nodes in a second; 0 = any number.
    limit: u32,
    batch: usize,
    first: bool,
    pause: Duration,
}

impl Pace {
    /// For so many clients, spread over `within` at most.
    pub fn new(limit: u32, clients: usize, within: Duration) -> Self {
        let by_limit = usize::try_from(limit / BATCHES).unwrap_or(BATCH).clamp(1, BATCH);
        let batch = if limit == 0 { BATCH } else { by_limit };
        let batches = u32::try_from(clients.div_ceil(batch)).unwrap_or(u32::MAX).max(1);
        // Alone, a node is about as fast as all of them may be.
        let longest =
            if limit == 0 { PAUSE } else { PAUSE.min(per_client(limit) * u32::try_from(batch).unwrap_or(1)) };
        Self { limit, batch, first: true, pause: (within / batches).min(longest) }
    }

    /// How many are told at once.
    pub const fn batch(&self) -> usize {
        self.batch
    }

    /// How many batches fit into a window of all nodes; `None`: any number.
    pub fn batches_in(&self, window: Duration) -> Option<u32> {
        if self.limit == 0 {
            return None;
        }
        let clients = f64::from(self.limit) * window.as_secs_f64();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let batches = (clients / self.batch as f64) as u32;
        Some(batches.max(1))
    }

    /// How long to wait before the next batch; `None`: the time is over, and everybody who is left is told now.
    pub fn pause(&mut self, remaining: Duration) -> Option<Duration> {
        if remaining.is_zero() {
            self.batch = usize::MAX;
            return None;
        }
        if std::mem::take(&mut self.first) {
            return Some(Duration::ZERO);
        }
        // Between nothing and twice the pause, so the mean holds.
        Some(self.pause.mul_f64(rand::random_range(0.0..2.0)).min(remaining))
    }
}

/// The share of a second that is one client's.
fn per_client(limit: u32) -> Duration {
    Duration::from_secs(1) / limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_fit_the_limit_and_the_window() {
        for (limit, batch, in_a_second) in [
            (0, 50, None),
            (1, 1, Some(1)),
            (30, 1, Some(30)),
            (100, 5, Some(20)),
            (1_000, 50, Some(20)),
            (10_000, 50, Some(200)),
        ] {
            let pace = Pace::new(limit, 10_000, Duration::from_secs(30));
            assert_eq!(
                (pace.batch(), pace.batches_in(Duration::from_secs(1))),
                (batch, in_a_second),
                "{limit}"
            );
        }
    }

    #[test]
    fn pauses_are_random_around_their_mean_and_end_with_the_time() {
        let mut pace = Pace::new(0, 5_000, Duration::from_secs(10));
        assert_eq!(pace.pause(Duration::from_secs(10)), Some(Duration::ZERO), "the first go at once");
        let mean = Duration::from_millis(100);
        let pauses: Vec<_> = (0..200).filter_map(|_| pace.pause(Duration::from_secs(10))).collect();
        assert!(pauses.iter().all(|pause| *pause <= mean * 2));
        let sum: Duration = pauses.iter().sum();
        assert!((mean * 150..mean * 250).contains(&sum), "{sum:?}");
        assert!(pauses.iter().any(|pause| *pause < mean / 2) && pauses.iter().any(|pause| *pause > mean));
        assert_eq!(pace.pause(Duration::ZERO), None);
        assert_eq!(pace.batch(), usize::MAX, "all who are left");
    }
}
