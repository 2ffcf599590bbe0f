//! Metrics of the listeners, the handshakes and the polls.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::registrar::{Registrar, says};

/// Metrics of the listeners, the handshakes and the polls.
pub struct Door {
    /// Open TCP connections by listener.
    pub sockets: IntGaugeVec,
    /// TCP connections accepted by listener.
    pub sockets_accepted: IntCounterVec,
    /// Failures to accept a TCP connection.
    pub accept_errors: IntCounter,
    /// Sessions by mount and dialect.
    pub connections: IntGaugeVec,
    /// Sessions begun by mount and dialect.
    pub accepts: IntCounterVec,
    /// Connections and handshakes refused by mount, dialect and reason.
    pub refusals: IntCounterVec,
    /// Tokens refused by reason.
    pub token_failures: IntCounterVec,
    /// SocialHub's long polls that wait.
    pub polls_waiting: IntGauge,
    /// Engine.IO's polls that wait.
    pub engine_polls_waiting: IntGauge,
}

impl Door {
    pub(super) fn new(r: &Registrar) -> Self {
        r.group("Connections");
        let (sockets, sockets_accepted, accept_errors) = sockets(r);
        let (connections, accepts) = sessions(r);
        let (refusals, token_failures) = refusals(r);
        let waiting = r.gauges(
            "polls_waiting",
            &["protocol"],
            says(
                "Long polls that wait for something to tell",
                "Each holds a TCP connection and a task. It falls to nothing while a node stops: waiting polls are answered at once.",
            ),
        );
        Self {
            sockets,
            sockets_accepted,
            accept_errors,
            connections,
            accepts,
            refusals,
            token_failures,
            polls_waiting: waiting.with_label_values(&["socialhub"]),
            engine_polls_waiting: waiting.with_label_values(&["engineio"]),
        }
    }
}

fn sockets(r: &Registrar) -> (IntGaugeVec, IntCounterVec, IntCounter) {
    let open = r.gauges(
        "sockets",
        &["listener"],
        says(
            "Open TCP connections",
            "Near `limits.connections` or the limit of open files: add nodes. The autoscaler can follow it.",
        ),
    );
    let accepted = r.counters(
        "sockets_accepted_total",
        &["listener"],
        says(
            "TCP connections accepted, also those refused right after",
            "Much faster than `parlance_accepts_total`: clients that poll without keep-alive, probes of a balancer, or a flood.",
        ),
    );
    let errors = r.counter(
        "accept_errors_total",
        says(
            "Failures to accept a TCP connection",
            "Descriptors or memory are exhausted: compare `process_open_fds` with `process_max_fds`.",
        ),
    );
    (open, accepted, errors)
}

fn sessions(r: &Registrar) -> (IntGaugeVec, IntCounterVec) {
    let open = r.gauges(
        "connections",
        &["mount", "dialect"],
        says(
            "Established client sessions: raw WebSockets, and Engine.IO sessions over whatever transport (under the first mount of their path)",
            "A steep fall is a network or balancer failure, or a node that stops; uneven nodes even out when clients come back.",
        ),
    );
    let begun = r.counters(
        "accepts_total",
        &["mount", "dialect"],
        says(
            "Client sessions established",
            "A wave after a fall of `parlance_connections` is clients coming back. Without one: clients in a loop; see refusals.",
        ),
    );
    (open, begun)
}

fn refusals(r: &Registrar) -> (IntCounterVec, IntCounterVec) {
    let refusals = r.counters(
        "refusals_total",
        &["mount", "dialect", "reason"],
        says(
            "Connections and handshakes refused; where no mount is concerned mount and dialect are `-`",
            "The reason says which: limits (`node_full`, `address_full`), tokens, what a request's head may be, `unavailable` while the engine is away.",
        ),
    );
    let tokens = r.counters(
        "token_failures_total",
        &["reason"],
        says(
            "Tokens refused",
            "`unavailable`: the key set or the introspection endpoint does not answer. `signature` or `no_key` all at once: keys were rotated.",
        ),
    );
    (refusals, tokens)
}

/// A poll that waits, counted while it does.
pub struct Waiting(IntGauge);

impl Waiting {
    /// It begins to wait.
    pub fn begin(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}
