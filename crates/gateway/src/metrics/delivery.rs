//! Metrics of delivering: how much, how late, to whom it was too much.

use parking_lot::Mutex;
use parlance_backplane::Stats;
use parlance_hub::Fanout;
use parlance_model::Time;
use parlance_wire::Dialect;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::registrar::{PerDialect, Registrar, says};

/// From a millisecond, which is how exactly entries are timed, to what is a failure.
pub(super) const LATE_BUCKETS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// A log entry that was queued to connections and is to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    at: Time,
    /// The dialects in which somebody hears it.
    to: [bool; Dialect::ALL.len()],
}

/// Metrics of delivering.
pub struct Delivery {
    /// Events queued live to connections.
    pub deliveries: PerDialect<IntCounter>,
    /// Seconds from acceptance to the sockets.
    pub seconds: PerDialect<Histogram>,
    /// Typing and presence events dropped at full outboxes.
    pub dropped_passing: PerDialect<IntCounter>,
    /// Connections closed because they took their output too slowly.
    pub slow_consumers: IntCounterVec,
    /// Pieces that wait in outboxes.
    pub outbox_pieces: IntGauge,
    /// And their bytes.
    pub outbox_bytes: IntGauge,
    /// Pieces in the fullest outbox.
    pub outbox_deepest: IntGauge,
    told: Mutex<Vec<Told>>,
}

impl Delivery {
    pub(super) fn new(r: &Registrar) -> Self {
        r.group("Delivery");
        Self {
            deliveries: r.spoken(
                "deliveries_total",
                says("Events queued live to connections", "The work of fan-out; what it costs shows in `process_cpu_seconds_total`."),
            ),
            seconds: r.histograms(
                "delivery_seconds",
                &LATE_BUCKETS,
                says(
                    "From the acceptance of a message, at whichever node, until this node has written it to all of its sockets of the dialect; once per message, node and dialect",
                    "With `parlance_feed_lag_seconds` as high: Redis or the way from it. Otherwise this node is busy: its CPU, `parlance_delivery_late_seconds`.",
                ),
            ),
            dropped_passing: r.spoken(
                "dropped_passing_total",
                says("Typing and presence events dropped at full outboxes", "Clients that do not keep up; `parlance_slow_consumers_total` follows."),
            ),
            slow_consumers: r.counters(
                "slow_consumers_total",
                &["dialect", "reason"],
                says(
                    "Connections closed for taking their output too slowly",
                    "Bad networks, or rooms too loud for their clients. `overflow`: more than `limits.outbox_bytes` or `limits.outbox_frames` waited; `stalled`: nothing was taken for long.",
                ),
            ),
            outbox_pieces: r.gauge(
                "outbox_pieces",
                says("Events and answers that wait in the outboxes of all connections", "Mostly 0. It grows when many clients, or the node itself, do not keep up."),
            ),
            outbox_bytes: r.gauge(
                "outbox_bytes",
                says("Bytes that wait in the outboxes of all connections", "It is memory: compare `process_resident_memory_bytes`."),
            ),
            outbox_deepest: r.gauge(
                "outbox_deepest_pieces",
                says("Events and answers that wait in the fullest outbox", "At `limits.outbox_frames` its connection is closed."),
            ),
            told: Mutex::default(),
        }
    }
}

impl Delivery {
    /// An entry was queued; whoever writes the outboxes says when that is done.
    pub(crate) fn told(&self, at: Time, fanout: &Fanout) {
        let to = fanout.heard.map(|heard| heard.delivered > 0);
        if to.contains(&true) {
            self.told.lock().push(Told { at, to });
        }
    }

    /// What was queued since this was asked last.
    pub(crate) fn take_told(&self) -> Vec<Told> {
        std::mem::take(&mut *self.told.lock())
    }

    /// It is written.
    pub(crate) fn written(&self, all: &[Told], stats: &Stats, now: Time) {
        for Told { at, to } in all {
            let took = stats.since(*at, now).as_secs_f64();
            for (dialect, _) in Dialect::ALL.into_iter().zip(to).filter(|(_, heard)| **heard) {
                self.seconds.of(dialect).observe(took);
            }
        }
    }
}
