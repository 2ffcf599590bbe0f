//! When a call that failed is made again, and when an event is given up. Pure.

use std::time::Duration;

use parlance_backplane::trail::Step;
use parlance_model::Time;

use crate::config::Webhooks;

/// A call that was refused so often is made for one event at a time: one that the backend cannot take holds up no other then.
const TOGETHER: u64 = 3;

/// What a backend's answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has them.
    Taken,
    /// It does not want them: no attempt will be better.
    Refused,
    /// It was not there, or is busy.
    Away,
}

impl Outcome {
    /// As a label.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Refused => "refused",
            Self::Away => "away",
        }
    }
}

/// By the status; `None`: there was no answer.
pub(super) const fn outcome(status: Option<u16>) -> Outcome {
    match status {
        Some(200..=299) => Outcome::Taken,
        // A time-out, too early, too many: it is asked to come again.
        Some(408 | 425 | 429) | None => Outcome::Away,
        Some(400..=499) => Outcome::Refused,
        Some(_) => Outcome::Away,
    }
}

/// How many events go together where one was taken so often before.
pub(super) const fn together(options: &Webhooks, tries: Tries) -> usize {
    if tries.refused >= TOGETHER { 1 } else { options.batch }
}

/// How long to wait after so many failures in a row (from 1). `random`: in 0..1; up to half of it is left to chance, so that
/// nodes and parts do not come together.
pub(super) fn backoff(options: &Webhooks, failures: u64, random: f64) -> Duration {
    let doubled = options.backoff_ms.saturating_mul(1 << failures.saturating_sub(1).min(30));
    let whole = Duration::from_millis(doubled.min(options.backoff_max_ms));
    whole / 2 + whole.mul_f64(random.clamp(0.0, 1.0) / 2.0)
}

/// How often a call failed in a row, and how often of that it was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tries {
    /// All failures since the last success.
    pub failed: u64,
    /// Of these.
    pub refused: u64,
}

impl Tries {
    /// After one more call.
    pub(super) const fn after(self, outcome: Outcome) -> Self {
        match outcome {
            Outcome::Taken => Self { failed: 0, refused: 0 },
            Outcome::Away => Self { failed: self.failed + 1, ..self },
            Outcome::Refused => Self { failed: self.failed + 1, refused: self.refused + 1 },
        }
    }
}

/// Whether an event is put aside: refused too often in a row, or tried in vain and older than may be.
pub(super) fn is_hopeless(options: &Webhooks, step: &Step, tries: Tries, now: Time) -> bool {
    let at = step.what.as_ref().map_or(now, parlance_backplane::Happening::at);
    let longest = Duration::from_secs(options.give_up_hours.saturating_mul(3_600));
    tries.refused >= u64::from(options.attempts) || (tries.failed > 0 && now.since(at) >= longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_they_say() {
        for (status, expected) in [
            (Some(200), Outcome::Taken),
            (Some(204), Outcome::Taken),
            (Some(302), Outcome::Away),
            (Some(400), Outcome::Refused),
            (Some(404), Outcome::Refused),
            (Some(429), Outcome::Away),
            (Some(500), Outcome::Away),
            (Some(503), Outcome::Away),
            (None, Outcome::Away),
        ] {
            assert_eq!(outcome(status), expected, "{status:?}");
        }
    }

    #[test]
    fn waits_double_up_to_the_most_and_half_is_left_to_chance() {
        let options = Webhooks { backoff_ms: 1_000, backoff_max_ms: 5_000, ..Webhooks::default() };
        let wait = |failures, random| backoff(&options, failures, random).as_millis();
        assert_eq!((wait(1, 0.0), wait(1, 1.0)), (500, 1_000));
        assert_eq!((wait(2, 1.0), wait(3, 1.0), wait(4, 1.0), wait(99, 1.0)), (2_000, 4_000, 5_000, 5_000));
    }

    #[test]
    fn what_is_refused_goes_alone_and_is_given_up_after_its_attempts_or_its_time() {
        let options = Webhooks { batch: 50, attempts: 4, give_up_hours: 1, ..Webhooks::default() };
        let tries = |failed, refused| Tries { failed, refused };
        assert_eq!((together(&options, tries(9, 2)), together(&options, tries(3, 3))), (50, 1));
        let what = parlance_backplane::Happening::Created {
            conversation: parlance_model::ConversationId::parse("c").unwrap(),
            by: None,
            at: Time(1_000),
        };
        let step = Step { id: "1".to_owned(), place: "1".to_owned(), taken: 9, what: Some(what) };
        let hopeless = |tries, now| is_hopeless(&options, &step, tries, Time(now));
        assert!(!hopeless(tries(9, 3), 2_000) && hopeless(tries(4, 4), 2_000));
        assert!(!hopeless(tries(1, 0), 3_600_999) && hopeless(tries(1, 0), 3_601_000));
        assert!(!hopeless(tries(0, 0), 9_999_999), "whatever is old is tried once");
    }
}
