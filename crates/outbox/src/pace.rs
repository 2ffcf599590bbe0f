//! When what failed is tried again. Pure.

use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);
/// Lanes of which nothing was tried for so long are forgotten: their events may be gone.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// How long to wait after so many failures in a row. `random`: in 0..1; half of the wait is left to chance.
pub fn wait(failures: u32, random: f64) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let whole = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    whole / 2 + whole.mul_f64(random.clamp(0.0, 1.0) / 2.0)
}

/// Lanes that wait to be tried again.
#[derive(Debug, Default)]
pub struct Waits(FxHashMap<String, (u32, Instant)>);

impl Waits {
    /// Whether nothing of a lane is to be tried yet.
    pub fn waits(&self, lane: &str, now: Instant) -> bool {
        self.0.get(lane).is_some_and(|(_, until)| *until > now)
    }

    /// Since when something of a lane may be tried again, of one that failed.
    pub fn due(&self, lane: &str) -> Option<Instant> {
        self.0.get(lane).map(|(_, until)| *until)
    }

    /// Something of it went well.
    pub fn went(&mut self, lane: &str) {
        self.0.remove(lane);
    }

    /// Something of it failed; whether for the first time in a row.
    pub fn failed(&mut self, lane: &str, now: Instant, random: f64) -> bool {
        self.0.retain(|_, (_, until)| *until + FORGOTTEN > now);
        let (failures, until) = self.0.entry(lane.to_owned()).or_insert((0, now));
        *failures = failures.saturating_add(1);
        *until = now + wait(*failures, random);
        *failures == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_end_with_success() {
        let all: Vec<u128> = (1..=12).map(|failures| wait(failures, 1.0).as_millis()).collect();
        assert_eq!(&all[..4], [200, 400, 800, 1_600]);
        assert_eq!(all[11], 10_000);
        assert_eq!(wait(u32::MAX, 0.0), Duration::from_secs(5));
        let (mut waits, now) = (Waits::default(), Instant::now());
        assert!(waits.failed("a", now, 1.0) && !waits.failed("a", now, 1.0));
        assert!(waits.waits("a", now + Duration::from_millis(399)) && !waits.waits("b", now));
        assert!(!waits.waits("a", now + Duration::from_millis(400)));
        waits.went("a");
        assert!(!waits.waits("a", now));
    }

    #[test]
    fn lanes_of_which_nothing_is_heard_are_forgotten() {
        let (mut waits, now) = (Waits::default(), Instant::now());
        for lane in 0..100 {
            waits.failed(&lane.to_string(), now, 0.0);
        }
        waits.failed("later", now + FORGOTTEN * 2, 0.0);
        assert_eq!(waits.0.len(), 1);
    }
}
