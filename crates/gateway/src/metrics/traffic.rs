//! Metrics of what clients ask and what they are answered.

use prometheus::{Histogram, IntCounter, IntCounterVec};

use super::registrar::{PerDialect, Registrar, says};

/// From 50 µs (memory) over a millisecond (a file's fsync) to what a stalled disk takes.
const APPEND_BUCKETS: [f64; 13] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0];

/// Metrics of what clients ask and what they are answered.
pub struct Traffic {
    /// Events and requests received.
    pub frames_in: PerDialect<IntCounter>,
    /// Events and answers queued to clients.
    pub frames_out: PerDialect<IntCounter>,
    /// Frames of an edition that is on its way out.
    pub deprecated_frames: PerDialect<IntCounter>,
    /// Messages put into the log, by the sender's dialect.
    pub messages_accepted: PerDialect<IntCounter>,
    /// Resends of messages that were in the log already.
    pub messages_duplicate: PerDialect<IntCounter>,
    /// Seconds from a send to its durable place in the log.
    pub append_seconds: PerDialect<Histogram>,
    /// Commands refused by dialect and code.
    pub rejects: IntCounterVec,
    /// Refused by a rate limit, by dialect and limit.
    pub rate_limited: IntCounterVec,
}

impl Traffic {
    pub(super) fn new(r: &Registrar) -> Self {
        r.group("Commands and messages");
        Self {
            frames_in: r.spoken(
                "frames_in_total",
                says("Events and requests received from clients", "The load that clients make."),
            ),
            frames_out: r.spoken(
                "frames_out_total",
                says(
                    "Events and answers queued for clients: live, read from the log for those who come back, answers",
                    "Much above `parlance_deliveries_total`: clients that come back read a lot from the log.",
                ),
            ),
            deprecated_frames: r.spoken(
                "deprecated_frames_total",
                says(
                    "Frames of an edition on its way out",
                    "When it stays at rest for as long as clients live, the edition can go.",
                ),
            ),
            messages_accepted: r.spoken(
                "messages_accepted_total",
                says("Messages put into the log", "The rate of real work; multiply by the sizes of rooms for deliveries."),
            ),
            messages_duplicate: r.spoken(
                "messages_duplicate_total",
                says(
                    "Resends of messages that are in the log already",
                    "Acknowledgements get lost or are late: bad networks, cut connections, a slow engine.",
                ),
            ),
            append_seconds: r.histograms(
                "append_seconds",
                &APPEND_BUCKETS,
                says(
                    "From a send to its durable place in the log",
                    "With Redis compare `parlance_redis_command_seconds`; embedded, it is the disk. `redis-wait` and `redis-fsync` cost their part.",
                ),
            ),
            rejects: r.counters(
                "rejects_total",
                &["dialect", "code"],
                says(
                    "Commands refused",
                    "`internal`: the node's log tells which. `unavailable`: the engine. `forbidden` and `not_found`: clients and memberships disagree.",
                ),
            ),
            rate_limited: r.counters(
                "rate_limited_total",
                &["dialect", "limit"],
                says(
                    "Messages and polls refused by their rate limit",
                    "A client in a loop, or a limit of the mount (`messages`, `polls`) that is too tight.",
                ),
            ),
        }
    }
}
