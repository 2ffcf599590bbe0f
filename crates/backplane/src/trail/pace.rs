//! How many steps go together, when they are tried again, and which are given up. Pure.

use std::time::Duration;

use parlance_model::Time;

use super::Step;

/// What came of handing steps over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// They are there.
    Taken,
    /// One of them is not wanted for what is in it: no attempt will be better.
    Refused,
    /// Whoever takes them is not there, or cannot now.
    Away,
}

impl Outcome {
    /// As a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Refused => "refused",
            Self::Away => "away",
        }
    }
}

/// How a consumer goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Steps handed over together at most.
    pub batch: usize,
    /// Between the first failure and the next attempt; each time twice as long.
    pub first_wait: Duration,
    /// At most.
    pub longest_wait: Duration,
    /// A step that is refused by itself so often is given up.
    pub attempts: u32,
    /// And one that was tried in vain and is older than this.
    pub give_up: Option<Duration>,
}

/// How a part has gone lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tries {
    /// Failures in a row that were waited for.
    failed: u32,
    /// Of these, how often a single step was refused.
    refused: u32,
    /// So many steps go one by one: one of them was refused. It holds up no other then.
    alone: usize,
}

impl Tries {
    /// How many steps go together.
    pub const fn together(self, rules: &Rules) -> usize {
        if self.alone > 0 {
            return 1;
        }
        // What fails again and again may be too much at once.
        let halvings = self.failed.saturating_sub(2);
        let fewer = rules.batch >> if halvings < 16 { halvings } else { 16 };
        if fewer > 0 { fewer } else { 1 }
    }

    /// After so many steps went together.
    #[must_use]
    pub const fn after(self, outcome: Outcome, steps: usize) -> Self {
        match outcome {
            Outcome::Taken => Self { failed: 0, refused: 0, alone: self.alone.saturating_sub(steps) },
            Outcome::Away => Self { failed: self.failed.saturating_add(1), ..self },
            Outcome::Refused if steps > 1 => Self { alone: steps, ..self },
            Outcome::Refused => {
                Self { failed: self.failed.saturating_add(1), refused: self.refused + 1, ..self }
            }
        }
    }

    /// Whether the step that is next is given up.
    pub fn is_hopeless(self, rules: &Rules, step: &Step, now: Time) -> bool {
        let at = step.what.as_ref().map_or(now, super::Happening::at);
        let is_old = rules.give_up.is_some_and(|longest| now.since(at) >= longest);
        self.refused >= rules.attempts || (self.failed > 0 && is_old)
    }

    /// How long to wait now; `None`: not at all. `random`: in 0..1; half of the wait is left to chance, so that nodes and parts
    /// do not come together.
    pub fn wait(self, rules: &Rules, random: f64) -> Option<Duration> {
        let doublings = self.failed.checked_sub(1)?;
        let whole = rules.first_wait.saturating_mul(1 << doublings.min(30)).min(rules.longest_wait);
        Some(whole / 2 + whole.mul_f64(random.clamp(0.0, 1.0) / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use parlance_model::ConversationId;

    use super::super::Happening;
    use super::*;

    const RULES: Rules = Rules {
        batch: 50,
        first_wait: Duration::from_secs(1),
        longest_wait: Duration::from_secs(5),
        attempts: 4,
        give_up: Some(Duration::from_secs(3_600)),
    };

    /// Of the second 1.
    fn step() -> Step {
        let conversation = ConversationId::parse("c").unwrap();
        let what = Happening::Created { conversation, by: None, at: Time(1_000) };
        Step { id: "1".to_owned(), place: "1".to_owned(), taken: 9, what: Some(what), is_unreadable: false }
    }

    #[test]
    fn waits_double_up_to_the_most_and_end_with_success() {
        let mut tries = Tries::default();
        assert_eq!(tries.wait(&RULES, 1.0), None);
        let mut waits = Vec::new();
        for _ in 0..99 {
            tries = tries.after(Outcome::Away, 9);
            waits.push(tries.wait(&RULES, 1.0).unwrap().as_millis());
        }
        assert_eq!(&waits[..4], [1_000, 2_000, 4_000, 5_000]);
        assert_eq!(waits[98], 5_000);
        let failed = |times| (0..times).fold(Tries::default(), |tries, _| tries.after(Outcome::Away, 50));
        assert_eq!([1, 2, 3, 4, 99].map(|times| failed(times).together(&RULES)), [50, 50, 25, 12, 1]);
        assert_eq!(tries.wait(&RULES, 0.0), Some(Duration::from_millis(2_500)), "half is left to chance");
        let patient = Rules { give_up: None, ..RULES };
        assert!(!tries.is_hopeless(&patient, &step(), Time(u64::MAX)), "whoever is away comes back");
        assert_eq!(tries.after(Outcome::Taken, 9).wait(&RULES, 1.0), None);
    }

    #[test]
    fn what_is_refused_is_found_one_by_one_and_given_up() {
        let mut tries = Tries::default().after(Outcome::Refused, 3);
        assert_eq!((tries.together(&RULES), tries.wait(&RULES, 1.0)), (1, None));
        tries = tries.after(Outcome::Taken, 1);
        for _ in 0..RULES.attempts {
            assert!(!tries.is_hopeless(&RULES, &step(), Time(2_000)) && tries.together(&RULES) == 1);
            tries = tries.after(Outcome::Refused, 1);
        }
        assert!(tries.is_hopeless(&RULES, &step(), Time(2_000)));
        tries = tries.after(Outcome::Taken, 1);
        assert!(!tries.is_hopeless(&RULES, &step(), Time(2_000)) && tries.together(&RULES) == 1);
        assert_eq!(tries.after(Outcome::Taken, 1).together(&RULES), 50);
    }

    #[test]
    fn what_was_tried_in_vain_is_given_up_when_it_is_old() {
        let once = Tries::default().after(Outcome::Away, 9);
        assert!(!once.is_hopeless(&RULES, &step(), Time(3_600_999)));
        assert!(once.is_hopeless(&RULES, &step(), Time(3_601_000)));
        let fresh = Tries::default();
        assert!(!fresh.is_hopeless(&RULES, &step(), Time(9_999_999)), "whatever is old is tried once");
    }
}
