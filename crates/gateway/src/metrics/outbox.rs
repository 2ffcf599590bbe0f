//! Metrics of the outbox.

use std::time::Duration;

use prometheus::{GaugeVec, Histogram, IntCounterVec, IntGaugeVec};

use super::registrar::{Registrar, says};

const SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

/// What may come of an event.
pub(super) const OUTCOMES: [&str; 4] = ["published", "repeated", "refused", "later"];

/// Metrics of the outbox.
pub struct Outbox {
    /// Events by what came of them.
    pub events: IntCounterVec,
    /// How long carrying one out took.
    pub seconds: Histogram,
    /// Whether it is this node that publishes.
    pub leads: IntGaugeVec,
    /// What waits.
    pub waiting: IntGaugeVec,
    /// For how long the oldest of it has waited.
    pub lag: GaugeVec,
    /// What was put aside.
    pub aside: IntGaugeVec,
}

impl Outbox {
    pub(super) fn new(r: &Registrar) -> Self {
        r.group("Outbox");
        Self {
            events: r.counters(
                "app_outbox_events_total",
                &["source", "call", "outcome"],
                says(
                    "Events of the application's outbox that were tried, by where they were written down (`table`, `stream`), their call and what came of it",
                    "`repeated`: it had been published before, by a node that was killed right then. `refused`: put aside; the log says why, and `parlance outbox status`. `later`: something is away, and it is tried again.",
                ),
            ),
            seconds: r.histogram(
                "app_outbox_seconds",
                &SECONDS,
                says("How long carrying out an event took", "As of the call of the server API: the engine."),
            ),
            leads: r.gauges(
                "app_outbox_leads",
                &["source"],
                says("Whether this node publishes (0, 1)", "Of all nodes one does; where none does, the source is away or held by a process that hangs."),
            ),
            waiting: r.gauges(
                "app_outbox_waiting_events",
                &["source"],
                says("Events that are not published yet; above 100,000, 100,000. Of the node that leads; 0 at others", "Whether some node leads, and what keeps events `later`."),
            ),
            lag: r.durations(
                "app_outbox_lag_seconds",
                &["source"],
                says("For how long the oldest of them has waited", "As above."),
            ),
            aside: r.gauges(
                "app_outbox_aside_events",
                &["source"],
                says("Events that were refused and lie put aside; above 100,000, 100,000", "`parlance outbox status` says which and why, `parlance outbox retry` tries them again."),
            ),
        }
    }

    /// Something came of an event.
    pub fn came(&self, source: &str, call: &str, outcome: &str, took: Duration) {
        self.events.with_label_values(&[source, call, outcome]).inc();
        self.seconds.observe(took.as_secs_f64());
    }

    /// Whether this node leads; what waits is shown by the one that does.
    pub fn leads(&self, source: &str, leads: bool) {
        self.leads.with_label_values(&[source]).set(i64::from(leads));
        if !leads {
            self.backlog(source, (0, 0), Duration::ZERO);
        }
    }

    /// What waits, what lies aside, and for how long the oldest has waited.
    pub fn backlog(&self, source: &str, (waiting, aside): (u64, u64), lag: Duration) {
        let count = |events: u64| i64::try_from(events).unwrap_or(i64::MAX);
        self.waiting.with_label_values(&[source]).set(count(waiting));
        self.aside.with_label_values(&[source]).set(count(aside));
        self.lag.with_label_values(&[source]).set(lag.as_secs_f64());
    }
}
