//! Metrics of the authoriser.

use prometheus::{Histogram, IntCounterVec, IntGauge};

use super::registrar::{Registrar, says};
use crate::config::Action;

const SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];

/// Metrics of the authoriser.
pub struct Authoriser {
    /// Questions by action and what came of them.
    pub questions: IntCounterVec,
    /// How long the backend took.
    pub seconds: Histogram,
    /// Whether none is asked for a while.
    pub open: IntGauge,
}

/// What may come of a question.
pub(super) const OUTCOMES: [&str; 6] = ["allowed", "denied", "failed", "breaker", "cached", "shared"];

impl Authoriser {
    pub(super) fn new(r: &Registrar) -> Self {
        r.group("Authoriser");
        Self {
            questions: r.counters(
                "authoriser_questions_total",
                &["action", "outcome"],
                says(
                    "Questions whether somebody may connect, enter a conversation or write to it",
                    "`failed` and `breaker`: the backend does not answer, and `authoriser.on_failure` holds. `cached` and `shared` are not put to it: few of them beside `allowed` mean that `authoriser.cache_ms` is short or the answers' `ttl_ms` is.",
                ),
            ),
            seconds: r.histogram(
                "authoriser_seconds",
                &SECONDS,
                says(
                    "How long the backend took to answer a question, or not to",
                    "Connecting, entering and sending wait for it. At `authoriser.timeout_ms`: it does not answer.",
                ),
            ),
            open: r.gauge(
                "authoriser_breaker_open",
                says(
                    "1 while the backend is not asked because it did not answer several times in a row",
                    "The backend behind `authoriser.url`; the node's log says how it fails. It falls with the first answer.",
                ),
            ),
        }
    }

    /// Something came of a question.
    pub fn question(&self, action: Action, outcome: &str) {
        self.questions.with_label_values(&[action.as_str(), outcome]).inc();
    }
}
