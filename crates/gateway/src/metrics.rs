//! Every metric the node has, as a field: the only place that registers any.
//!
//! Owns: names, help texts and labels. Must not know: where things are counted. Labels have few values:
//! mounts, dialects and refusal words, never users, addresses or conversations.

use std::time::Duration;

use parlance_model::RejectCode;
use parlance_wire::Dialect;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::auth::AuthError;

/// From 50 µs (memory) over a millisecond (a file's fsync) to what a stalled disk takes.
const APPEND_BUCKETS: [f64; 13] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0];

/// One counter per dialect, looked up once: these are counted per frame.
pub struct PerDialect([IntCounter; Dialect::ALL.len()]);

impl PerDialect {
    fn new(all: &IntCounterVec) -> Self {
        Self(Dialect::ALL.map(|d| all.with_label_values(&[d.as_str()])))
    }

    /// The counter of one dialect.
    pub const fn of(&self, dialect: Dialect) -> &IntCounter {
        let [sechat, lingochat, famly, chatgenius, socialhub] = &self.0;
        match dialect {
            Dialect::Sechat => sechat,
            Dialect::Lingochat => lingochat,
            Dialect::Famly => famly,
            Dialect::Chatgenius => chatgenius,
            Dialect::Socialhub => socialhub,
        }
    }
}

/// Metrics of the listeners and the handshake.
pub struct Door {
    /// Open TCP connections by listener.
    pub sockets: IntGaugeVec,
    /// Failures to accept a TCP connection (descriptors exhausted, mostly).
    pub accept_errors: IntCounter,
    /// Established WebSocket connections by mount.
    pub connections: IntGaugeVec,
    /// WebSocket handshakes completed by mount.
    pub accepts: IntCounterVec,
    /// Connections and handshakes refused by mount and reason.
    pub refusals: IntCounterVec,
    /// Tokens refused by reason.
    pub token_failures: IntCounterVec,
    /// Polls that wait for something to happen.
    pub polls_waiting: IntGauge,
}

/// Every metric of one node.
pub struct Metrics {
    registry: Registry,
    /// Listeners and handshakes.
    pub door: Door,
    /// WebSocket messages received by dialect.
    pub frames_in: PerDialect,
    /// Frames of an edition that is on its way out.
    pub deprecated_frames: IntCounter,
    /// Messages put into the log by dialect of the sender.
    pub messages_accepted: PerDialect,
    /// Resends of messages that were in the log already.
    pub messages_duplicate: IntCounter,
    /// Seconds from a send to its durable place in the log.
    pub append_seconds: Histogram,
    /// Commands refused by dialect and code.
    pub rejects: IntCounterVec,
    /// Events queued to connections.
    pub deliveries: IntCounter,
    /// Connections closed because they took their output too slowly.
    pub slow_consumers: IntCounter,
    /// Typing and presence events dropped at full outboxes.
    pub dropped_passing: IntCounter,
    /// What was heard over the bus.
    pub publications: IntCounter,
    /// Gaps noticed between a publication and the position of its log.
    pub feed_gaps: IntCounter,
    /// Gaps filled from the log.
    pub feed_repairs: IntCounter,
    /// Logs that were found to have lost what was delivered.
    pub feed_losses: IntCounter,
    /// Presence transitions heard.
    pub presence_transitions: IntCounter,
    /// Leases and typists ended by this node's sweep, by kind.
    pub sweep_expired: IntCounterVec,
    /// Socket.IO sessions recovered after a cut.
    pub recovered: IntCounter,
    /// Requests taken to the node that owns their session, by kind and outcome.
    pub forwarded: IntCounterVec,
    /// Sends that waited because some node delivers late.
    pub sends_held: IntCounter,
    /// Those of them that were refused because it took too long.
    pub sends_held_refused: IntCounter,
    /// Sends that wait for that now.
    pub sends_waiting: IntGauge,
    /// By how many milliseconds this node delivers late, where it is latest; 0 where that is nothing to speak of.
    pub delivery_late: IntGauge,
    /// Calls of the backplane that failed.
    pub backplane_errors: IntCounter,
}

struct Registrar(Registry);

impl Registrar {
    fn put<C: Collector + Clone + 'static>(&self, made: prometheus::Result<C>) -> C {
        let metric = made.expect("metric names and labels are constants of this file");
        self.0.register(Box::new(metric.clone())).expect("metric names are distinct");
        metric
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.put(IntCounter::new(format!("parlance_{name}"), help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.put(IntCounterVec::new(Opts::new(format!("parlance_{name}"), help), labels))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.put(IntGaugeVec::new(Opts::new(format!("parlance_{name}"), help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.put(IntGauge::new(format!("parlance_{name}"), help))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let opts = HistogramOpts::new(format!("parlance_{name}"), help).buckets(buckets.to_vec());
        self.put(Histogram::with_opts(opts))
    }

    fn door(&self) -> Door {
        Door {
            sockets: self.gauges("sockets", "Open TCP connections", &["listener"]),
            accept_errors: self.counter("accept_errors_total", "Failures to accept a TCP connection"),
            connections: self.gauges("connections", "Established WebSocket connections", &["mount"]),
            accepts: self.counters("accepts_total", "WebSocket handshakes completed", &["mount"]),
            refusals: self.counters(
                "refusals_total",
                "Connections and handshakes refused",
                &["mount", "reason"],
            ),
            token_failures: self.counters("token_failures_total", "Tokens refused", &["reason"]),
            polls_waiting: self.gauge("polls_waiting", "SocialHub polls that wait for something to happen"),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics at zero, in a registry of their own: several nodes fit into one process.
    pub fn new() -> Self {
        let r = Registrar(Registry::new());
        let frames_in = r.counters("frames_in_total", "WebSocket messages received", &["dialect"]);
        let accepted = r.counters("messages_accepted_total", "Messages put into the log", &["dialect"]);
        let metrics = Self {
            door: r.door(),
            frames_in: PerDialect::new(&frames_in),
            deprecated_frames: r.counter("deprecated_frames_total", "Frames of an edition on its way out"),
            messages_accepted: PerDialect::new(&accepted),
            messages_duplicate: r
                .counter("messages_duplicate_total", "Resends of messages in the log already"),
            append_seconds: r.histogram(
                "append_seconds",
                "Seconds from a send to its durable place in the log",
                &APPEND_BUCKETS,
            ),
            rejects: r.counters("rejects_total", "Commands refused", &["dialect", "code"]),
            deliveries: r.counter("deliveries_total", "Events queued to connections"),
            slow_consumers: r
                .counter("slow_consumers_total", "Connections closed for taking output too slowly"),
            dropped_passing: r
                .counter("dropped_passing_total", "Typing and presence events dropped at full outboxes"),
            publications: r.counter("publications_total", "Publications heard over the bus"),
            feed_gaps: r.counter("feed_gaps_total", "Gaps noticed between publications and the log"),
            feed_repairs: r.counter("feed_repairs_total", "Gaps filled from the log"),
            feed_losses: r
                .counter("feed_losses_total", "Logs that lost entries which were delivered already"),
            presence_transitions: r.counter("presence_transitions_total", "Presence transitions heard"),
            sweep_expired: r.counters(
                "sweep_expired_total",
                "Leases and typists ended by the sweep",
                &["kind"],
            ),
            recovered: r.counter("sessions_recovered_total", "Socket.IO sessions recovered after a cut"),
            forwarded: r.counters(
                "forwarded_total",
                "Requests taken to the node that owns their session",
                &["kind", "outcome"],
            ),
            sends_held: r.counter("sends_held_total", "Sends that waited because a node delivers late"),
            sends_held_refused: r
                .counter("sends_held_refused_total", "Sends refused because a node delivers late"),
            sends_waiting: r.gauge("sends_waiting", "Sends that wait because a node delivers late"),
            delivery_late: r.gauge("delivery_late_ms", "How late this node delivers, where it is latest"),
            backplane_errors: r.counter("backplane_errors_total", "Calls of the backplane that failed"),
            registry: r.0,
        };
        metrics.describe_process();
        metrics
    }

    fn describe_process(&self) {
        let build: prometheus::Result<IntGauge> = IntGauge::with_opts(
            Opts::new("parlance_build_info", "Always 1; the label names the version")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        );
        let described = build.and_then(|build| {
            build.set(1);
            self.registry.register(Box::new(build))?;
            #[cfg(target_os = "linux")]
            self.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
            Ok(())
        });
        if let Err(error) = described {
            tracing::warn!(%error, "process metrics");
        }
    }

    /// All metrics as Prometheus text.
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "rendering metrics");
            String::new()
        })
    }

    /// A WebSocket connection was established.
    pub fn connection_opened(&self, mount: &str) {
        self.door.accepts.with_label_values(&[mount]).inc();
        self.door.connections.with_label_values(&[mount]).inc();
    }

    /// A WebSocket connection ended.
    pub fn connection_closed(&self, mount: &str) {
        self.door.connections.with_label_values(&[mount]).dec();
    }

    /// A connection or handshake was refused; `-` where no mount is concerned.
    pub fn refused(&self, mount: &str, reason: &str) {
        self.door.refusals.with_label_values(&[mount, reason]).inc();
    }

    /// A token was refused.
    pub fn token_failure(&self, error: &AuthError) {
        self.door.token_failures.with_label_values(&[error.reason()]).inc();
    }

    /// A WebSocket message came in.
    pub fn frame_in(&self, dialect: Dialect) {
        self.frames_in.of(dialect).inc();
    }

    /// A message is in the log (`fresh`) or was there already.
    pub fn accepted(&self, dialect: Dialect, fresh: bool, took: Duration) {
        if fresh {
            self.messages_accepted.of(dialect).inc();
        } else {
            self.messages_duplicate.inc();
        }
        self.append_seconds.observe(took.as_secs_f64());
    }

    /// A command was refused.
    pub fn reject(&self, dialect: Dialect, code: RejectCode) {
        self.rejects.with_label_values(&[dialect.as_str(), word(code)]).inc();
    }

    /// One event was fanned out.
    pub fn count_fanout(&self, delivered: usize, dropped: usize, overflowed: usize) {
        self.deliveries.inc_by(delivered as u64);
        if dropped > 0 {
            self.dropped_passing.inc_by(dropped as u64);
        }
        if overflowed > 0 {
            self.slow_consumers.inc_by(overflowed as u64);
        }
    }

    /// A sweep ended leases and typists.
    pub fn swept(&self, leases: usize, typists: usize) {
        for (kind, count) in [("lease", leases), ("typing", typists)] {
            if count > 0 {
                self.sweep_expired.with_label_values(&[kind]).inc_by(count as u64);
            }
        }
    }
}

/// A refusal code as a label and in logs.
pub const fn word(code: RejectCode) -> &'static str {
    match code {
        RejectCode::Malformed => "malformed",
        RejectCode::UnknownEvent => "unknown_event",
        RejectCode::MissingField => "missing_field",
        RejectCode::InvalidField => "invalid_field",
        RejectCode::UnknownChannel => "unknown_channel",
        RejectCode::Unauthenticated => "unauthenticated",
        RejectCode::InvalidToken => "invalid_token",
        RejectCode::TokenExpired => "token_expired",
        RejectCode::TokenExpiring => "token_expiring",
        RejectCode::Forbidden => "forbidden",
        RejectCode::NotFound => "not_found",
        RejectCode::RateLimited => "rate_limited",
        RejectCode::TooLarge => "too_large",
        RejectCode::TooManyConnections => "too_many_connections",
        RejectCode::LimitReached => "limit_reached",
        RejectCode::InProgress => "in_progress",
        RejectCode::Unavailable => "unavailable",
        RejectCode::Maintenance => "maintenance",
        RejectCode::Internal => "internal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_counted_is_rendered_under_the_project_name() {
        let metrics = Metrics::new();
        metrics.connection_opened("sechat");
        metrics.frame_in(Dialect::Socialhub);
        metrics.reject(Dialect::Sechat, RejectCode::RateLimited);
        metrics.swept(2, 0);
        metrics.accepted(Dialect::Sechat, true, Duration::from_millis(2));
        let text = metrics.render();
        for line in [
            "parlance_connections{mount=\"sechat\"} 1",
            "parlance_frames_in_total{dialect=\"socialhub\"} 1",
            "parlance_frames_in_total{dialect=\"sechat\"} 0",
            "parlance_rejects_total{code=\"rate_limited\",dialect=\"sechat\"} 1",
            "parlance_sweep_expired_total{kind=\"lease\"} 2",
            "parlance_append_seconds_count 1",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(!text.contains("kind=\"typing\""));
    }

    #[test]
    fn two_nodes_in_one_process_count_apart() {
        let (a, b) = (Metrics::new(), Metrics::new());
        a.feed_gaps.inc();
        assert_eq!(b.feed_gaps.get(), 0);
    }
}
