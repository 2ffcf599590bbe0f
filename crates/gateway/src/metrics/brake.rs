//! Metrics of overload: sends that are held because some node delivers late.

use prometheus::{Gauge, IntCounter, IntGauge};

use super::registrar::{Registrar, says};

/// Metrics of overload.
pub struct Brake {
    /// Sends that waited because some node delivers late.
    pub held: IntCounter,
    /// Those of them that were refused because it took too long.
    pub refused: IntCounter,
    /// Sends that wait for that now.
    pub waiting: IntGauge,
    /// How late this node delivers, where it is latest.
    pub late: Gauge,
}

impl Brake {
    pub(super) fn new(r: &Registrar) -> Self {
        r.group("Overload");
        Self {
            held: r.counter(
                "sends_held_total",
                says(
                    "Sends that waited because some node delivers late",
                    "Which node that is says its `parlance_delivery_late_seconds`.",
                ),
            ),
            refused: r.counter(
                "sends_held_refused_total",
                says(
                    "Sends refused because some node delivers late",
                    "Clients send again by themselves. More is sent into a conversation than can be delivered: add nodes.",
                ),
            ),
            waiting: r.gauge(
                "sends_waiting",
                says(
                    "Sends that wait because some node delivers late",
                    "As `parlance_sends_held_total`.",
                ),
            ),
            late: r.duration(
                "delivery_late_seconds",
                says(
                    "By how much later than at best this node delivers, in the conversation where it is latest; 0 below 0.3 s",
                    "This node's CPU, or a room with more listeners than it can serve at the rate that is sent.",
                ),
            ),
        }
    }
}
