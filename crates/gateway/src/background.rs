//! What a node does beside its sessions: refreshing leases and sweeping what ran out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parlance_backplane::Touch;
use parlance_model::Time;
use tokio::time::MissedTickBehavior;

use crate::commands::rooms;
use crate::node::Node;
use crate::session::Link;

/// Leases refreshed in one call.
const BATCH: usize = 500;

/// Ends expired leases and silent typists until the node halts. Any node may; popping is atomic.
pub async fn sweep(node: Arc<Node>) {
    let mut every = ticker(node.config.load().timings.sweep());
    loop {
        tokio::select! {
            () = node.halt.cancelled() => return,
            _ = every.tick() => {}
        }
        match node.backplane.presence.sweep().await {
            Ok(swept) => node.metrics.swept(swept.leases, swept.typists),
            Err(fault) => tracing::warn!(%fault, "sweep"),
        }
    }
}

/// Carries the connections' last signs of life to the backplane until the node halts.
pub async fn refresh(node: Arc<Node>) {
    let mut every = ticker(node.config.load().timings.presence_refresh());
    let mut since = Time::default();
    loop {
        tokio::select! {
            () = node.halt.cancelled() => return,
            _ = every.tick() => {}
        }
        let now = node.clock.now();
        let ttl = node.config.load().timings.presence_ttl();
        // Whoever has been silent since the last time has nothing to carry, least of all a last-seen time.
        let links: Vec<Arc<Link>> = node.links.iter().map(|l| l.value().clone()).collect();
        for batch in links.chunks(BATCH) {
            let live: Vec<&Arc<Link>> = batch.iter().filter(|l| l.last_heard() >= since).collect();
            refresh_batch(&node, &live, ttl).await;
        }
        since = now;
    }
}

async fn refresh_batch(node: &Node, links: &[&Arc<Link>], ttl: Duration) {
    let leases: Vec<_> = links
        .iter()
        // The status said last may be on its way: a refresh leaves it as it is.
        .map(|l| Touch { status: None, ..l.lease(ttl) })
        .collect();
    let missing = match node.backplane.presence.refresh(&leases).await {
        Ok(missing) => missing,
        Err(fault) => {
            tracing::warn!(%fault, "refreshing leases");
            return;
        }
    };
    for link in missing.into_iter().filter_map(|i| links.get(i)) {
        // It was let in before: the limit is not asked again.
        let lease = Touch { max: 0, ..link.lease(ttl) };
        let taken = match node.backplane.presence.touch(lease).await {
            // A connection that closed meanwhile must not come back to life.
            Ok(_) if !node.links.contains_key(&link.connection.number) => {
                node.backplane.presence.close(&link.listener.user, &link.connection).await
            }
            // What it was inside of ended with the lease.
            Ok(_) => rooms::enter(node, link, rooms::inside(node, link), false).await,
            Err(fault) => Err(fault),
        };
        if let Err(fault) = taken {
            tracing::warn!(%fault, "taking a lease again");
        }
    }
}

/// How often the engine is asked to keep something; a node that cannot keep messages is not ready.
const PROBE: Duration = Duration::from_secs(2);

/// Writes a small value again and again until the node halts: the engine's health as `/readyz` tells it.
pub async fn probe(node: Arc<Node>) {
    let mut every = ticker(PROBE);
    let key = format!("health:{}", node.id);
    loop {
        tokio::select! {
            () = node.halt.cancelled() => return,
            _ = every.tick() => {}
        }
        let kept = node.backplane.shared.save(&key, Vec::new(), Some(PROBE * 5)).await;
        if let Err(fault) = &kept {
            tracing::error!(%fault, "the engine keeps nothing");
        }
        node.engine_keeps.store(kept.is_ok(), Ordering::Relaxed);
    }
}

fn ticker(every: Duration) -> tokio::time::Interval {
    let mut ticker = tokio::time::interval(every.max(Duration::from_millis(10)));
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}
