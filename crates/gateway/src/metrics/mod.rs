//! Every metric the node has, as a field: the only place that registers any.
//!
//! Owns: names, help texts, labels and buckets, one file per group, and the reference page that is made of them. Must not
//! know: where things are counted. Labels have few values: mounts, dialects, shards and words, never users, addresses of
//! clients or conversations.

mod archive;
mod authoriser;
mod brake;
mod delivery;
mod door;
mod engine;
mod feed;
mod outbox;
mod page;
mod presence;
mod process;
mod registrar;
mod traffic;
mod webhooks;
mod zeros;

use std::sync::Arc;
use std::time::Duration;

use parlance_backplane::{Stats, Swept};
use parlance_hub::Fanout;
use parlance_model::RejectCode;
use parlance_wire::Dialect;
use prometheus::{Registry, TextEncoder};

use crate::auth::AuthError;
use crate::config::Mount;

pub use archive::Archive;
pub use authoriser::Authoriser;
pub use brake::Brake;
pub use delivery::Delivery;
pub(crate) use delivery::Told;
pub use door::{Door, Waiting};
pub use engine::Engine;
pub use feed::Feed;
pub use outbox::Outbox;
pub use page::markdown;
pub use presence::{Presence, Sessions};
pub use process::{Process, scrape};
pub use registrar::PerDialect;
use registrar::{About, Registrar};
pub use traffic::Traffic;
pub use webhooks::Webhooks;

/// Every metric of one node.
pub struct Metrics {
    registry: Registry,
    abouts: Vec<About>,
    /// Listeners, handshakes, polls.
    pub door: Door,
    /// The authoriser.
    pub authoriser: Authoriser,
    /// Webhooks.
    pub webhooks: Webhooks,
    /// The archive.
    pub archive: Archive,
    /// What the application writes down to be published.
    pub outbox: Outbox,
    /// What clients ask and are answered.
    pub traffic: Traffic,
    /// Delivering.
    pub delivery: Delivery,
    /// Overload.
    pub brake: Brake,
    /// The feed.
    pub feed: Feed,
    /// The engine.
    pub engine: Engine,
    /// Presence and sweeping.
    pub presence: Presence,
    /// Sessions that come back, here or elsewhere.
    pub sessions: Sessions,
    process: Process,
}

impl Metrics {
    /// All metrics at zero, in a registry of their own: several nodes fit into one process. `stats`: what the engine counts.
    pub fn new(stats: Arc<Stats>) -> Self {
        let r = Registrar::new();
        let (door, authoriser, webhooks) = (Door::new(&r), Authoriser::new(&r), Webhooks::new(&r));
        let (archive, outbox) = (Archive::new(&r), Outbox::new(&r));
        let (traffic, delivery) = (Traffic::new(&r), Delivery::new(&r));
        let (brake, feed, engine) = (Brake::new(&r), Feed::new(&r), Engine::new(&r, stats));
        let (presence, sessions, process) = (Presence::new(&r), Sessions::new(&r), Process::new(&r));
        let (registry, abouts) = r.finish();
        let metrics = Self {
            registry,
            abouts,
            door,
            authoriser,
            webhooks,
            archive,
            outbox,
            traffic,
            delivery,
            brake,
            feed,
            engine,
            presence,
            sessions,
            process,
        };
        zeros::put(&metrics);
        metrics
    }

    /// Has the series of these mounts begin at zero.
    #[must_use]
    pub fn of(self, mounts: &[Mount]) -> Self {
        zeros::put_mounts(&self, mounts);
        self
    }

    /// All metrics as Prometheus text, as they were measured last.
    fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            tracing::error!(%error, "rendering metrics");
            String::new()
        })
    }

    /// A session was established.
    pub fn connection_opened(&self, mount: &Mount) {
        let labels = [mount.name.as_str(), mount.spoken().as_str()];
        self.door.accepts.with_label_values(&labels).inc();
        self.door.connections.with_label_values(&labels).inc();
    }

    /// A session ended.
    pub fn connection_closed(&self, mount: &Mount) {
        let labels = [mount.name.as_str(), mount.spoken().as_str()];
        self.door.connections.with_label_values(&labels).dec();
    }

    /// A connection or handshake was refused, of a mount where one is concerned.
    pub fn refused(&self, mount: Option<&Mount>, reason: &str) {
        let (name, dialect) =
            mount.map_or(("-", "-"), |mount| (mount.name.as_str(), mount.spoken().as_str()));
        self.door.refusals.with_label_values(&[name, dialect, reason]).inc();
    }

    /// A token was refused.
    pub fn token_failure(&self, error: &AuthError) {
        self.door.token_failures.with_label_values(&[error.reason()]).inc();
    }

    /// An event or a request came in.
    pub fn frame_in(&self, dialect: Dialect) {
        self.traffic.frames_in.of(dialect).inc();
    }

    /// So many events or answers were queued to one client.
    pub fn frames_out(&self, dialect: Dialect, count: usize) {
        if count > 0 {
            self.traffic.frames_out.of(dialect).inc_by(count as u64);
        }
    }

    /// A message is in the log (`fresh`) or was there already.
    pub fn accepted(&self, dialect: Dialect, fresh: bool, took: Duration) {
        let counted = if fresh { &self.traffic.messages_accepted } else { &self.traffic.messages_duplicate };
        counted.of(dialect).inc();
        self.traffic.append_seconds.of(dialect).observe(took.as_secs_f64());
    }

    /// A command was refused.
    pub fn reject(&self, dialect: Dialect, code: RejectCode) {
        self.traffic.rejects.with_label_values(&[dialect.as_str(), word(code)]).inc();
    }

    /// A message or a poll was refused by its rate limit.
    pub fn rate_limited(&self, dialect: Dialect, limit: &str) {
        self.traffic.rate_limited.with_label_values(&[dialect.as_str(), limit]).inc();
    }

    /// One event was fanned out.
    pub fn count_fanout(&self, fanout: &Fanout) {
        for (dialect, heard) in Dialect::ALL.into_iter().zip(&fanout.heard) {
            if heard.delivered > 0 {
                self.delivery.deliveries.of(dialect).inc_by(heard.delivered as u64);
                self.frames_out(dialect, heard.delivered);
            }
            if heard.dropped > 0 {
                self.delivery.dropped_passing.of(dialect).inc_by(heard.dropped as u64);
            }
        }
    }

    /// A connection is closed because it took its output too slowly.
    pub fn slow_consumer(&self, dialect: Dialect, reason: &str) {
        self.delivery.slow_consumers.with_label_values(&[dialect.as_str(), reason]).inc();
    }

    /// What came of a client's wish to go on with its session.
    pub fn recovery(&self, dialect: Dialect, outcome: &str) {
        self.sessions.recoveries.with_label_values(&[dialect.as_str(), outcome]).inc();
    }

    /// A sweep ended leases and typists.
    pub fn swept(&self, swept: &Swept) {
        for (kind, count) in [("lease", swept.leases), ("typing", swept.typists)] {
            if count > 0 {
                self.presence.swept.with_label_values(&[kind]).inc_by(count as u64);
            }
        }
        if swept.leases + swept.typists > 0 {
            self.presence.lag.observe(swept.late.as_secs_f64());
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
        RejectCode::Denied => "denied",
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
    use parlance_model::Time;

    use super::*;

    #[test]
    fn everything_counted_is_rendered_under_the_project_name() {
        let metrics = Metrics::new(Arc::default());
        metrics.frame_in(Dialect::Socialhub);
        metrics.reject(Dialect::Sechat, RejectCode::RateLimited);
        metrics.swept(&Swept { leases: 2, typists: 0, late: Duration::from_millis(300) });
        metrics.swept(&Swept::default());
        metrics.accepted(Dialect::Sechat, true, Duration::from_millis(2));
        metrics.refused(None, "node_full");
        let text = metrics.render();
        for line in [
            "parlance_frames_in_total{dialect=\"socialhub\"} 1",
            "parlance_frames_in_total{dialect=\"sechat\"} 0",
            "parlance_rejects_total{code=\"rate_limited\",dialect=\"sechat\"} 1",
            "parlance_sweep_expired_total{kind=\"lease\"} 2",
            "parlance_sweep_lag_seconds_count 1",
            "parlance_sweep_lag_seconds_sum 0.3",
            "parlance_append_seconds_count{dialect=\"sechat\"} 1",
            "parlance_refusals_total{dialect=\"-\",mount=\"-\",reason=\"node_full\"} 1",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(text.contains("parlance_sweep_expired_total{kind=\"typing\"} 0"));
    }

    #[test]
    fn delivery_is_timed_once_for_each_dialect_that_hears() {
        let (metrics, stats) = (Metrics::new(Arc::default()), Stats::default());
        let mut fanout = Fanout::default();
        metrics.delivery.told(Time::from_millis(1_000), &fanout);
        assert!(metrics.delivery.take_told().is_empty(), "nobody hears it here");
        fanout.heard[Dialect::Famly as usize].delivered = 700;
        metrics.delivery.told(Time::from_millis(1_000), &fanout);
        metrics.count_fanout(&fanout);
        let told = metrics.delivery.take_told();
        metrics.delivery.written(&told, &stats, Time::from_millis(1_040));
        let seconds = metrics.delivery.seconds.of(Dialect::Famly);
        assert_eq!((seconds.get_sample_count(), seconds.get_sample_sum()), (1, 0.04));
        assert_eq!(metrics.delivery.seconds.of(Dialect::Sechat).get_sample_count(), 0);
        assert_eq!(metrics.delivery.deliveries.of(Dialect::Famly).get(), 700);
        assert!(metrics.delivery.take_told().is_empty());
    }

    #[test]
    fn two_nodes_in_one_process_count_apart() {
        let (a, b) = (Metrics::new(Arc::default()), Metrics::new(Arc::default()));
        a.feed.chain_gaps.inc();
        assert_eq!(b.feed.chain_gaps.get(), 0);
    }
}
