//! Series that are there before anything happened: those that alerts, promises and dashboards rest on.
//!
//! Owns: which label values these are. Must not know: names of metrics. Without them a node that never failed would have no share of
//! failures instead of none, and Prometheus would not see the first failure as an increase.

use parlance_model::{RejectCode, Status};
use parlance_wire::Dialect;

use super::archive::{OUTCOMES as BATCHES, READS};
use super::authoriser::OUTCOMES;
use super::outbox::OUTCOMES as PUBLISHED;
use super::webhooks::OUTCOMES as CALLS;
use super::{Metrics, word};
use crate::config::{Action, Mount, Told};
use crate::http::api::calls;

const REJECTS: [RejectCode; 3] = [RejectCode::Internal, RejectCode::Unavailable, RejectCode::RateLimited];
const SLOW: [&str; 2] = ["overflow", "stalled"];
const RECOVERIES: [&str; 5] = ["recovered", "unknown", "behind", "lost", "away"];
const TOKENS: [&str; 9] = [
    "missing",
    "malformed",
    "expired",
    "revoked",
    "unavailable",
    "signature",
    "no_key",
    "issuer",
    "audience",
];
/// Of a mount.
const TURNED_AWAY: [RejectCode; 5] = [
    RejectCode::Unauthenticated,
    RejectCode::InvalidToken,
    RejectCode::TokenExpired,
    RejectCode::TooManyConnections,
    RejectCode::Unavailable,
];
/// Of the node, before any mount is concerned.
const FULL: [&str; 2] = ["node_full", "address_full"];
const STATUSES: [Status; 4] = [Status::Offline, Status::Away, Status::Online, Status::Busy];

pub(super) fn put_mounts(metrics: &Metrics, mounts: &[Mount]) {
    for mount in mounts {
        let (name, dialect) = (mount.name.as_str(), mount.spoken().as_str());
        metrics.door.connections.with_label_values(&[name, dialect]);
        metrics.door.accepts.with_label_values(&[name, dialect]);
        for code in TURNED_AWAY {
            metrics.door.refusals.with_label_values(&[name, dialect, word(code)]);
        }
    }
}

pub(super) fn put(metrics: &Metrics) {
    for dialect in Dialect::ALL {
        let dialect = dialect.as_str();
        for code in REJECTS {
            metrics.traffic.rejects.with_label_values(&[dialect, word(code)]);
        }
        metrics.traffic.rate_limited.with_label_values(&[dialect, "messages"]);
        for reason in SLOW {
            metrics.delivery.slow_consumers.with_label_values(&[dialect, reason]);
        }
    }
    metrics.traffic.rate_limited.with_label_values(&[Dialect::Socialhub.as_str(), "polls"]);
    for dialect in Dialect::ALL {
        // Of kept subscriptions only this can be told.
        let outcomes = if dialect == Dialect::Socialhub { &RECOVERIES[..1] } else { &RECOVERIES };
        for outcome in outcomes {
            metrics.sessions.recoveries.with_label_values(&[dialect.as_str(), outcome]);
        }
    }
    for outcome in ["answered", "gone"] {
        metrics.sessions.forwarded.with_label_values(&["poll", outcome]);
    }
    for action in Action::ALL {
        for outcome in OUTCOMES {
            metrics.authoriser.questions.with_label_values(&[action.as_str(), outcome]);
        }
    }
    for outcome in BATCHES {
        metrics.archive.batches.with_label_values(&[outcome]);
        metrics.archive.acks.batches.with_label_values(&[outcome]);
    }
    for outcome in READS {
        metrics.archive.reads.outcomes.with_label_values(&[outcome]);
    }
    for source in ["table", "stream"] {
        for call in calls::NAMES {
            for outcome in PUBLISHED {
                metrics.outbox.events.with_label_values(&[source, call, outcome]);
            }
        }
    }
    for outcome in CALLS {
        metrics.webhooks.calls.with_label_values(&[outcome]);
    }
    for event in Told::ALL {
        metrics.webhooks.events.with_label_values(&[event.as_str()]);
    }
    for reason in FULL {
        metrics.door.refusals.with_label_values(&["-", "-", reason]);
    }
    for reason in TOKENS {
        metrics.door.token_failures.with_label_values(&[reason]);
    }
    for kind in ["lease", "typing"] {
        metrics.presence.swept.with_label_values(&[kind]);
    }
    for status in STATUSES {
        metrics.presence.transitions.with_label_values(&[status.as_str()]);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::metrics::Metrics;

    #[test]
    fn a_node_that_never_failed_says_so() {
        let text = Metrics::new(Arc::default()).render();
        for line in [
            "parlance_rejects_total{code=\"unavailable\",dialect=\"famly\"} 0",
            "parlance_recoveries_total{dialect=\"socialhub\",outcome=\"recovered\"} 0",
            "parlance_refusals_total{dialect=\"-\",mount=\"-\",reason=\"node_full\"} 0",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
        assert!(!text.contains("dialect=\"socialhub\",outcome=\"unknown\""), "nobody can count that");
    }
}
