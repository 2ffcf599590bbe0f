//! When the next send into a conversation may go on that somebody is behind in. Pure.
//!
//! First all wait, until nobody says any more that they are late: by then the queue is empty. Then one goes after the
//! other, as far apart as the delivery of one took; ever closer, until somebody is late again. How many nodes send is
//! not known: whoever let go too early lets go more slowly the next time. Must not know: who waits.

use std::time::Duration;

use tokio::time::Instant;

/// Silence of those who are late means so much: they say it more than twice as often.
const HOLD: Duration = Duration::from_millis(250);
/// Nobody waits longer for a word from a node that may be dead.
const LONGEST_HOLD: Duration = Duration::from_secs(2);
/// The distances worth keeping.
const SPACING: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(1));
/// Within which the distance halves.
const HALVES: f64 = 1.0;
/// How much further apart they go when that was too early.
const SLOWER: f64 = 1.5;

/// What was heard of one conversation.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    held_until: Instant,
    spacing: Duration,
    last: Option<Instant>,
}

impl Pace {
    /// Somebody is late who takes `each` for an entry.
    pub fn new(now: Instant, each: Duration) -> Self {
        Self { held_until: now + hold(each), spacing: clamp(each), last: None }
    }

    /// Somebody is late, still or again.
    pub fn heard(&mut self, now: Instant, each: Duration) {
        let let_go = self.last.is_some_and(|last| last >= self.held_until) && now > self.held_until;
        self.spacing = clamp(if let_go {
            each.max(self.spacing_at(now).mul_f64(SLOWER))
        } else {
            each.max(self.spacing)
        });
        self.held_until = self.held_until.max(now + hold(each));
    }

    fn spacing_at(&self, now: Instant) -> Duration {
        let free = now.saturating_duration_since(self.held_until).as_secs_f64();
        self.spacing.mul_f64((-free / HALVES).exp2())
    }

    /// From when the next one may go.
    pub fn free_at(&self, now: Instant) -> Instant {
        let after = self.last.map_or(self.held_until, |last| last + self.spacing_at(now));
        after.max(self.held_until)
    }

    /// One goes.
    pub const fn went(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// Whether nothing of it is left.
    pub fn is_over(&self, now: Instant) -> bool {
        now > self.held_until && self.spacing_at(now) < SPACING.0
    }
}

fn hold(each: Duration) -> Duration {
    (each * 2).clamp(HOLD, LONGEST_HOLD)
}

fn clamp(spacing: Duration) -> Duration {
    spacing.clamp(SPACING.0, SPACING.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EACH: Duration = Duration::from_millis(100);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn all_wait_until_nobody_is_late_and_then_go_one_by_one_and_faster() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun, EACH);
        pace.heard(begun + ms(150), EACH);
        assert_eq!(pace.free_at(begun + ms(200)), begun + ms(400), "250 ms after the last word");
        let mut now = begun;
        let mut distances = Vec::new();
        while now < begun + ms(4_500) {
            let next = pace.free_at(now).max(now);
            if next > now {
                distances.push(next - now);
                now = next;
                continue;
            }
            pace.went(now);
        }
        assert!(distances[1] <= EACH && distances[1] > ms(90), "{distances:?}");
        assert!(distances[1..].is_sorted_by(|one, next| one >= next), "{distances:?}");
        assert!(distances.len() > 41, "faster than it would deliver all along: {}", distances.len());
        assert!(!pace.is_over(now) && pace.is_over(begun + ms(20_000)), "it ends by itself");
    }

    #[test]
    fn who_let_go_too_early_lets_go_more_slowly() {
        let begun = Instant::now();
        let mut pace = Pace::new(begun, EACH);
        for slower in [1.5, 2.25, 3.375] {
            let now = pace.held_until;
            pace.went(now);
            pace.heard(now + ms(1), EACH);
            assert!(pace.spacing > EACH.mul_f64(slower * 0.9), "{slower}: {:?}", pace.spacing);
        }
        let spacing = pace.spacing;
        pace.heard(begun, EACH);
        assert_eq!(pace.spacing, spacing, "nobody went meanwhile");
    }

    #[test]
    fn no_word_holds_for_long() {
        let begun = Instant::now();
        let pace = Pace::new(begun, Duration::from_secs(3600));
        assert_eq!(pace.free_at(begun), begun + LONGEST_HOLD);
        assert_eq!(pace.spacing, SPACING.1);
    }
}
