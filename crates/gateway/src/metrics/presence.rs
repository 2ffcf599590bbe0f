//! Metrics of presence, of sweeping, of sessions that come back, and of what goes to other nodes.

use parlance_model::Status;
use prometheus::{Histogram, IntCounter, IntCounterVec};

use super::registrar::{Registrar, says};

/// From what a sweep's own interval makes to a night's outage.
const OVERDUE_BUCKETS: [f64; 10] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Metrics of presence and sweeping.
pub struct Presence {
    pub(super) transitions: IntCounterVec,
    /// Leases and typists ended by this node's sweep, by kind.
    pub swept: IntCounterVec,
    /// How overdue they were.
    pub lag: Histogram,
    /// Sweeps that failed.
    pub sweep_errors: IntCounter,
}

impl Presence {
    pub(super) fn new(r: &Registrar) -> Self {
        r.group("Presence");
        Self {
            transitions: r.counters(
                "presence_transitions_total",
                &["status"],
                says(
                    "Presence transitions heard, by the status that followed; at a node to whose clients nobody's presence is told, none are",
                    "Many at once: clients were cut off together. `offline` and `online` in turn: bad networks, or leases that end too early.",
                ),
            ),
            swept: r.counters(
                "sweep_expired_total",
                &["kind"],
                says(
                    "Leases and typists ended by this node's sweeps",
                    "Leases: clients that went without a word, or nodes that died.",
                ),
            ),
            lag: r.histogram(
                "sweep_lag_seconds",
                &OVERDUE_BUCKETS,
                says(
                    "By how much the most overdue lease or typist that a sweep ended was past its deadline; once per sweep that ended any",
                    "Users stay online for so much longer. Redis is slow, nodes die while it is their turn, or nothing is ended for a while after an outage (on purpose).",
                ),
            ),
            sweep_errors: r.counter(
                "sweep_errors_total",
                says("Sweeps that failed, at least in part", "The engine is away; what is due waits."),
            ),
        }
    }

    /// A transition was heard.
    pub fn transition(&self, status: Status) {
        self.transitions.with_label_values(&[status.as_str()]).inc();
    }
}

/// Metrics of sessions that come back, here or elsewhere.
pub struct Sessions {
    /// Attempts to recover a session, by dialect and outcome.
    pub recoveries: IntCounterVec,
    /// Requests taken to the node that owns their session, by kind and outcome.
    pub forwarded: IntCounterVec,
    /// Clients told to come back elsewhere.
    pub sent_away: IntCounter,
}

impl Sessions {
    pub(super) fn new(r: &Registrar) -> Self {
        r.group("Sessions");
        Self {
            recoveries: r.counters(
                "recoveries_total",
                &["dialect", "outcome"],
                says(
                    "Sessions that clients wanted to go on with: Socket.IO's state recovery, and SocialHub's kept subscriptions (of which only `recovered` can be told)",
                    "`unknown`: it ended too long ago (`timings.recovery_ms`), or Redis lost it. `behind`: more was sent than is remembered. `lost`: logs lost entries. `away`: the engine did not answer.",
                ),
            ),
            forwarded: r.counters(
                "forwarded_total",
                &["kind", "outcome"],
                says(
                    "Requests taken to the node that owns their session",
                    "`gone`: that node died, or is not to be reached at the address that it advertises.",
                ),
            ),
            sent_away: r.counter(
                "sent_away_total",
                says(
                    "Clients that were told to come back elsewhere",
                    "A node stops, or evens out its clients.",
                ),
            ),
        }
    }
}
