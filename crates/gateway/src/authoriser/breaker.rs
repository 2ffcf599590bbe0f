//! A circuit breaker: a backend that does not answer is left alone for a while, and tried with one question before all are
//! asked again.
//!
//! Pure: the time is passed in. Must not know: what is asked.

use std::time::Duration;

use parlance_model::Time;

/// When it opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// After so many failures in a row.
    pub failures: u32,
    /// For so long nothing is asked.
    pub open: Duration,
    /// How long one question may take: a trial that was given up without a word is over then.
    pub patience: Duration,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Everything is asked; so many failed in a row.
    Closed(u32),
    /// Nothing is asked until then.
    Open(Time),
    /// One question is on its way, and counts until then.
    Trying(Time),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Breaker {
    rules: Rules,
    state: State,
}

impl Breaker {
    pub(super) const fn new(rules: Rules) -> Self {
        Self { rules, state: State::Closed(0) }
    }

    /// Whether a question may be asked now. Whoever may says what came of it.
    pub(super) fn admits(&mut self, now: Time) -> bool {
        match self.state {
            State::Closed(_) => true,
            State::Open(until) | State::Trying(until) if now < until => false,
            State::Open(_) | State::Trying(_) => {
                self.state = State::Trying(now + self.rules.patience);
                true
            }
        }
    }

    /// There was an answer, whatever it said. Whether that closes the breaker.
    pub(super) fn answered(&mut self) -> bool {
        // A late answer from before it opened does not: what came after it failed.
        let tried = matches!(self.state, State::Trying(_));
        if tried || matches!(self.state, State::Closed(_)) {
            self.state = State::Closed(0);
        }
        tried
    }

    /// There was none. Whether that opens the breaker.
    pub(super) fn failed(&mut self, now: Time) -> bool {
        let open = State::Open(now + self.rules.open);
        match self.state {
            State::Closed(before) if before + 1 < self.rules.failures => {
                self.state = State::Closed(before + 1);
                false
            }
            State::Closed(_) => {
                self.state = open;
                true
            }
            State::Trying(_) => {
                self.state = open;
                false
            }
            State::Open(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules =
        Rules { failures: 3, open: Duration::from_secs(5), patience: Duration::from_secs(1) };

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(RULES);
        assert!(!breaker.failed(at(0)) && !breaker.failed(at(0)) && breaker.failed(at(0)));
        breaker
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let mut breaker = Breaker::new(RULES);
        for _ in 0..10 {
            assert!(!breaker.failed(at(0)) && !breaker.failed(at(0)));
            assert!(!breaker.answered());
            assert!(breaker.admits(at(0)));
        }
        assert!(!breaker.failed(at(0)) && !breaker.failed(at(0)) && breaker.failed(at(0)));
        assert!(!breaker.admits(at(0)) && !breaker.admits(at(4_999)));
    }

    #[test]
    fn one_question_tries_and_its_answer_closes_it() {
        let mut breaker = opened();
        assert!(breaker.admits(at(5_000)), "the trial");
        assert!(!breaker.admits(at(5_000)), "and nobody else");
        assert!(breaker.answered());
        assert!(breaker.admits(at(5_000)) && breaker.admits(at(5_000)));
        assert!(!breaker.failed(at(5_001)), "it counts from the beginning");
    }

    #[test]
    fn a_trial_that_fails_opens_it_for_as_long_again() {
        let mut breaker = opened();
        assert!(breaker.admits(at(6_000)));
        assert!(!breaker.failed(at(6_500)), "it was open");
        assert!(!breaker.admits(at(11_499)) && breaker.admits(at(11_500)));
    }

    #[test]
    fn a_trial_without_a_word_is_tried_again() {
        let mut breaker = opened();
        assert!(breaker.admits(at(5_000)));
        assert!(!breaker.admits(at(5_999)) && breaker.admits(at(6_000)));
    }

    #[test]
    fn what_was_asked_before_it_opened_says_nothing_afterwards() {
        let mut breaker = opened();
        assert!(!breaker.answered() && !breaker.failed(at(4_000)));
        assert!(!breaker.admits(at(4_999)) && breaker.admits(at(5_000)));
    }
}
