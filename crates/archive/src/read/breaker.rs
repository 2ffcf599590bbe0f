//! When PostgreSQL is not asked, so that not everybody waits for one that does not answer. Pure.

use std::time::Duration;

use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How asking has gone lately.
#[derive(Debug, Default)]
pub struct Breaker {
    failed: u32,
    /// Nobody asks before.
    until: Option<Instant>,
}

impl Breaker {
    /// Whether somebody may ask now. After a pause one does, and the others wait for what comes of it.
    pub fn admits(&mut self, now: Instant) -> bool {
        match self.until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                self.until = Some(now + FIRST_PAUSE);
                true
            }
        }
    }

    /// It did not answer. `true`: until now it did.
    pub fn failed(&mut self, now: Instant) -> bool {
        let first = self.failed == 0;
        self.failed = self.failed.saturating_add(1);
        let pause = FIRST_PAUSE.saturating_mul(1 << (self.failed - 1).min(8)).min(LONGEST_PAUSE);
        self.until = self.until.max(Some(now + pause));
        first
    }

    /// It answered. `true`: until now it did not.
    pub fn answered(&mut self) -> bool {
        self.until = None;
        std::mem::take(&mut self.failed) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failure_one_asks_now_and_then() {
        let (mut breaker, start) = (Breaker::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(breaker.admits(at(0)) && breaker.admits(at(0)));
        assert!(breaker.failed(at(0)) && !breaker.admits(at(249)));
        assert!(breaker.admits(at(250)) && !breaker.admits(at(260)), "one of them");
        assert!(!breaker.failed(at(300)) && !breaker.admits(at(799)) && breaker.admits(at(800)));
        for _ in 0..20 {
            breaker.failed(at(1_000));
        }
        assert!(!breaker.admits(at(5_999)) && breaker.admits(at(6_000)), "not for ever");
        assert!(breaker.answered() && breaker.admits(at(6_001)) && breaker.admits(at(6_001)));
        assert!(!breaker.answered());
    }
}
