//! How much is written at once, when it is tried again, and what is put aside. Pure.

use std::time::Duration;

use parlance_postgres::Refused;

const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// A step whose content PostgreSQL refuses so often, alone, is put aside.
const ATTEMPTS: u32 = 5;

/// What came of writing a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is there.
    Written,
    /// PostgreSQL does not take its content: no attempt will be better.
    Refused,
    /// PostgreSQL is not there, or cannot now.
    Away,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Written, Self::Refused, Self::Away];

    /// What a failure comes to.
    pub const fn of(why: &Refused) -> Self {
        match why {
            Refused::Away(_) => Self::Away,
            Refused::Content(_) => Self::Refused,
        }
    }

    /// As a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Refused => "refused",
            Self::Away => "away",
        }
    }
}

/// How a part has gone lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tries {
    /// Failures in a row.
    failed: u32,
    /// Of these, how often a single step was refused.
    refused: u32,
    /// So many steps go one by one: one of them was refused.
    alone: usize,
}

impl Tries {
    /// How many steps go together.
    pub const fn together(self, batch: usize) -> usize {
        if self.alone > 0 { 1 } else { batch }
    }

    /// After so many steps went together.
    #[must_use]
    pub const fn after(self, outcome: Outcome, steps: usize) -> Self {
        match outcome {
            Outcome::Written => Self { failed: 0, refused: 0, alone: self.alone.saturating_sub(steps) },
            Outcome::Away => Self { failed: self.failed.saturating_add(1), ..self },
            Outcome::Refused if steps > 1 => Self { alone: steps, ..self },
            Outcome::Refused => {
                Self { failed: self.failed.saturating_add(1), refused: self.refused + 1, ..self }
            }
        }
    }

    /// Whether the step that is next is put aside.
    pub const fn is_hopeless(self) -> bool {
        self.refused >= ATTEMPTS
    }

    /// How long to wait now; `None`: not at all. `random`: in 0..1; half of the wait is left to chance, so that nodes do not come
    /// together.
    pub fn wait(self, random: f64) -> Option<Duration> {
        let doublings = self.failed.checked_sub(1)?;
        let whole = FIRST_WAIT.saturating_mul(1 << doublings.min(16)).min(LONGEST_WAIT);
        Some(whole / 2 + whole.mul_f64(random.clamp(0.0, 1.0) / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_end_with_success() {
        let mut tries = Tries::default();
        assert_eq!(tries.wait(1.0), None);
        let mut waits = Vec::new();
        for _ in 0..40 {
            tries = tries.after(Outcome::Away, 9);
            waits.push(tries.wait(1.0).unwrap().as_millis());
        }
        assert_eq!(&waits[..3], [200, 400, 800]);
        assert_eq!(waits[39], 10_000);
        assert_eq!(tries.wait(0.0), Some(Duration::from_secs(5)));
        assert!(!tries.is_hopeless(), "whatever is away comes back");
        assert_eq!(tries.after(Outcome::Written, 9).wait(1.0), None);
    }

    #[test]
    fn what_is_refused_is_found_one_by_one_and_given_up() {
        let mut tries = Tries::default().after(Outcome::Refused, 3);
        assert_eq!((tries.together(500), tries.wait(1.0)), (1, None));
        tries = tries.after(Outcome::Written, 1);
        for _ in 0..ATTEMPTS {
            assert!(!tries.is_hopeless() && tries.together(500) == 1);
            tries = tries.after(Outcome::Refused, 1);
        }
        assert!(tries.is_hopeless());
        tries = tries.after(Outcome::Written, 1);
        assert!(!tries.is_hopeless() && tries.together(500) == 1);
        assert_eq!(tries.after(Outcome::Written, 1).together(500), 500);
    }
}
