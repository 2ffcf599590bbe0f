//! Metrics of webhooks.

use parlance_backplane::trail::Backlog;
use parlance_model::Time;
use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge};

use super::registrar::{Registrar, says};
use crate::config::Told;

const SECONDS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 10.0];

/// Metrics of webhooks.
pub struct Webhooks {
    /// Calls by what came of them.
    pub calls: IntCounterVec,
    /// Events that the backend took, by type.
    pub events: IntCounterVec,
    /// How long calls took.
    pub seconds: Histogram,
    /// Events put aside.
    pub dead: IntCounter,
    /// What waits, at all nodes.
    pub waiting: IntGauge,
    /// For how long the oldest of it has waited.
    pub lag: Gauge,
    /// What was put aside and not brought back.
    pub aside: IntGauge,
}

/// What may come of a call.
pub(super) const OUTCOMES: [&str; 3] = ["taken", "refused", "away"];

impl Webhooks {
    pub(super) fn new(r: &Registrar) -> Self {
        r.group("Webhooks");
        Self {
            calls: r.counters(
                "webhook_calls_total",
                &["outcome"],
                says(
                    "Calls that told the backend what happened",
                    "`away`: it does not answer, or with 5xx, 408, 425 or 429. `refused`: it answers with another 4xx, and no attempt will be better: after `webhooks.attempts` the event is put aside.",
                ),
            ),
            events: r.counters(
                "webhook_events_total",
                &["event"],
                says("Events that the backend took", "Which kinds there are: `webhooks.events` chooses."),
            ),
            seconds: r.histogram(
                "webhook_seconds",
                &SECONDS,
                says("How long a call took", "The backend behind `webhooks.url`. It holds up later events of the same part only."),
            ),
            dead: r.counter(
                "webhook_given_up_total",
                says("Events that were given up and put aside", "`parlance webhooks list` shows them, `parlance webhooks retry` tells them again."),
            ),
            waiting: r.gauge(
                "webhook_backlog_events",
                says("Steps that no node has told yet, of all nodes together", "Whether the backend answers, and how fast; more calls at once: `webhooks.max_in_flight`."),
            ),
            lag: r.duration(
                "webhook_lag_seconds",
                says("For how long the oldest of them has waited", "As above."),
            ),
            aside: r.gauge(
                "webhook_aside_events",
                says("Events that lie put aside, of all nodes together", "As `parlance_webhook_given_up_total`."),
            ),
        }
    }

    /// Something came of a call.
    pub fn called(&self, outcome: &str) {
        self.calls.with_label_values(&[outcome]).inc();
    }

    /// The backend took an event.
    pub fn told(&self, event: Told) {
        self.events.with_label_values(&[event.as_str()]).inc();
    }

    /// What waits.
    pub fn backlog(&self, backlog: &Backlog, now: Time) {
        let count = |steps: u64| i64::try_from(steps).unwrap_or(i64::MAX);
        self.waiting.set(count(backlog.steps));
        self.aside.set(count(backlog.dead));
        self.lag.set(backlog.since.map_or(0.0, |since| now.since(since).as_secs_f64()));
    }
}
