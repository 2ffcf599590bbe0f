//! Sending clients elsewhere: of a node that stops, that cannot deliver, or that has many more than the others.
//!
//! Owns: who goes when. Must not know: what each dialect says to it.

mod balance;
mod pace;

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use parlance_backplane::Rule;
use parlance_hub::Notice;
use parlance_model::UserId;
use tokio::time::Instant;

use crate::node::Node;
use crate::session::Link;
use pace::Pace;

pub(crate) use balance::balance;

/// A sliding window that all nodes share has a second.
const WINDOW: Duration = Duration::from_secs(1);
/// Whose the window is. The rule's name is no client's.
const NODES: &str = "nodes";

/// Why clients are sent elsewhere, as the transport says it.
#[derive(Clone, Copy)]
pub(crate) struct Farewell {
    /// Close code.
    pub code: u16,
    /// For people.
    pub reason: &'static str,
}

impl Farewell {
    /// As a connection's session hears it.
    pub(crate) fn notice(self) -> Notice {
        Notice::Close { code: self.code, reason: self.reason.to_owned() }
    }
}

/// The node stops.
pub(crate) const RESTARTING: Farewell =
    Farewell { code: 1012, reason: "this server is restarting; reconnect" };

/// Stops taking part: not ready at once, no new connections after the configured delay, then clients are sent
/// elsewhere, those first who lose nothing by it. Returns whether all were gone in time.
pub(crate) async fn leave(node: &Arc<Node>) -> bool {
    let drain = node.config.load().drain.clone();
    node.leaving.cancel();
    tokio::time::sleep(drain.delay()).await;
    node.shutdown.cancel();
    let gone = async {
        // The rest of the time is for those who are slow to go.
        send_away(node, drain.deadline() / 2, RESTARTING).await;
        while !node.links.is_empty() || node.forward.under_way() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let in_time = tokio::time::timeout(drain.deadline(), gone).await.is_ok();
    if !in_time {
        tracing::warn!(left = node.links.len(), "clients who did not go in time are cut off");
    }
    in_time
}

/// Tells every connection to come back elsewhere: in batches with random pauses, no more of all nodes' together than the
/// installation allows in a second, within `within` at most.
pub(crate) async fn send_away(node: &Node, within: Duration, farewell: Farewell) {
    let mut leaving: Vec<Arc<Link>> = node.links.iter().map(|link| link.value().clone()).collect();
    in_order(&mut leaving);
    send(node, &leaving, within, farewell).await;
}

/// Those first who find again what they had, and of these who said nothing for longest.
fn in_order(leaving: &mut [Arc<Link>]) {
    leaving.sort_by_cached_key(|link| (Reverse(link.is_resumable()), link.is_busy(), link.last_heard()));
}

async fn send(node: &Node, leaving: &[Arc<Link>], within: Duration, farewell: Farewell) {
    let limit = node.config.load().drain.clients_per_second;
    let (mut pace, until) = (Pace::new(limit, leaving.len(), within), Instant::now() + within);
    let mut left = leaving;
    while !left.is_empty() {
        // Whoever has not been told when the time is over is told at once: better than to be cut off.
        if let Some(pause) = pace.pause(until.saturating_duration_since(Instant::now())) {
            tokio::time::sleep(pause).await;
            allowed(node, &pace, until).await;
        }
        let (batch, rest) = left.split_at(pace.batch().min(left.len()));
        for link in batch {
            link.send_away();
            link.listener.notify(farewell.notice());
        }
        node.metrics.sessions.sent_away.inc_by(batch.len() as u64);
        left = rest;
    }
}

/// Until the installation allows another batch, or the time is over. With the engine away nobody is waited for.
async fn allowed(node: &Node, pace: &Pace, until: Instant) {
    let (Some(per_window), Ok(nodes)) = (pace.batches_in(WINDOW), UserId::parse(NODES)) else { return };
    let rule = Rule { name: "nodes:leaving".into(), limit: per_window, window: WINDOW };
    while Instant::now() < until {
        match node.backplane.limits.take(&nodes, &rule).await {
            Ok(verdict) if !verdict.allowed => {
                let wait = verdict.reset.since(node.clock.now()).clamp(Duration::from_millis(5), WINDOW);
                tokio::time::sleep_until(until.min(Instant::now() + wait)).await;
            }
            Ok(_) => return,
            Err(fault) => {
                tracing::debug!(%fault, "how many clients may leave in a second");
                return;
            }
        }
    }
}
