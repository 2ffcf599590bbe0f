//! Metrics of the feed: what is heard over the bus, and what has to be read because it was not.

use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge};

use super::delivery::LATE_BUCKETS;
use super::registrar::{Registrar, says};

/// Metrics of the feed.
pub struct Feed {
    /// What was heard over the bus.
    pub publications: IntCounter,
    /// Gaps between a publication and the position of its log.
    pub chain_gaps: IntCounter,
    /// The bus said that publications were lost.
    pub bus_gaps: IntCounter,
    /// Reads of a log to fill a gap.
    pub repairs: IntCounter,
    /// Entries that were found so.
    pub repaired_entries: IntCounter,
    /// Logs that were found to have lost what was delivered.
    pub losses: IntCounter,
    /// How old entries are when they are taken up.
    pub lag: Histogram,
    /// Publications that wait.
    pub inbox: IntGauge,
    /// Topics that are open.
    pub topics: IntGauge,
    /// Since the feed last came round.
    pub idle: Gauge,
}

impl Feed {
    pub(super) fn new(r: &Registrar) -> Self {
        r.group("Feed");
        let gaps: IntCounterVec = r.counters(
            "feed_gaps_total",
            &["kind"],
            says(
                "Gaps noticed: `chain`: a publication does not follow on the one before; `bus`: the bus says that publications were lost",
                "`bus`: connections to Redis broke, or the inbox was full (`parlance_feed_inbox`). `chain` alone: publications go missing silently, as in a failover.",
            ),
        );
        Self {
            publications: r.counter(
                "publications_total",
                says(
                    "Publications heard over the bus",
                    "Nothing is heard of conversations in which nobody is at this node.",
                ),
            ),
            chain_gaps: gaps.with_label_values(&["chain"]),
            bus_gaps: gaps.with_label_values(&["bus"]),
            repairs: r.counter(
                "feed_repairs_total",
                says("Pages of logs read to fill gaps", "Follows gaps. Without any: logs were further than what was heard of them."),
            ),
            repaired_entries: r.counter(
                "feed_repaired_entries_total",
                says("Entries found by reading logs to fill gaps", "What clients would have missed; they got it late."),
            ),
            losses: r.counter(
                "feed_losses_total",
                says(
                    "Logs that lost entries which were delivered already",
                    "Redis came back with less than it had: a failover, or a start without its file. Look at `ack_level` and Redis' settings.",
                ),
            ),
            lag: r.histogram(
                "feed_lag_seconds",
                &LATE_BUCKETS,
                says(
                    "Age of the oldest log entry among the publications that the feed takes together",
                    "Redis publishes late, the way from it is slow, or publications wait here: `parlance_feed_inbox`.",
                ),
            ),
            inbox: r.gauge(
                "feed_inbox",
                says("Publications that wait for the feed", "It does not come round quickly enough: this node's CPU. When it is full, `parlance_feed_gaps_total` follows."),
            ),
            topics: r.gauge(
                "feed_topics",
                says("Topics that this node listens to", "Grows with the distinct conversations and users of its clients; each is a subscription."),
            ),
            idle: r.duration(
                "feed_idle_seconds",
                says(
                    "Time since the feed last came round; every 0.1 s when there is nothing to do",
                    "Above 5 s the node is not ready. It is stuck or starved of CPU.",
                ),
            ),
        }
    }
}
