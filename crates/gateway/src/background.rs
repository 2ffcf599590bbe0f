//! What a node does beside its sessions: refreshing leases and sweeping what ran out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parlance_backplane::{Fault, Touch};
use parlance_hub::Notice;
use parlance_model::{Time, Topic};
use rustc_hash::FxHashSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::commands::rooms;
use crate::node::Node;
use crate::session::Link;

/// Leases refreshed together.
const BATCH: usize = 10_000;
/// How often connections are looked at whose lease is to be extended by much.
const LOOK: Duration = Duration::from_secs(3);
/// How often leases are refreshed that have not moved, to find out that they are there.
const SURE: Duration = Duration::from_secs(60);
/// Leases taken again at once.
const AT_ONCE: usize = 64;

/// Ends expired leases and silent typists until the node halts. Any node may; popping is atomic.
pub async fn sweep(node: Arc<Node>) {
    let mut every = ticker(node.config.load().timings.sweep());
    loop {
        tokio::select! {
            biased;
            () = node.halt.cancelled() => return,
            _ = every.tick() => {}
        }
        match node.backplane.presence.sweep().await {
            Ok(swept) => node.metrics.swept(&swept),
            Err(fault) => {
                node.metrics.presence.sweep_errors.inc();
                tracing::warn!(%fault, "sweep");
            }
        }
    }
}

/// Carries the connections' last signs of life to the backplane until the node halts, and at once after an outage.
///
/// A client that only answers pings is heard of every 25 s: carried up to 12 s later, its next sign of life would come
/// after the lease of 35 s had ended. So what extends a lease by much is carried at the next look, many together. One that has not
/// moved is as it was carried: what loses leases is noticed (an outage), or found out by a slower round.
pub async fn refresh(node: Arc<Node>) {
    let every = node.config.load().timings.presence_refresh();
    let mut looks = ticker(every.min(LOOK));
    let (mut whole, mut sure) = (node.clock.now(), node.clock.now());
    let mut passed_by = VecDeque::new();
    loop {
        let outage = tokio::select! {
            biased;
            () = node.halt.cancelled() => return,
            _ = looks.tick() => false,
            () = node.leases.notified() => true,
        };
        let now = node.clock.now();
        let moved = now.since(whole) >= every;
        if moved {
            whole = now;
        }
        let all = outage || now.since(sure) >= SURE.max(every);
        if all {
            sure = now;
        }
        let ttl = node.config.load().timings.presence_ttl();
        let due = |link: &Link| {
            let by = link.last_heard().since(link.carried());
            all || by >= every || (moved && !by.is_zero())
        };
        let links: Vec<Arc<Link>> = node.links.iter().filter(|l| due(l)).map(|l| l.value().clone()).collect();
        for batch in links.chunks(BATCH) {
            let taken = refresh_batch(&node, batch, ttl).await;
            let known: FxHashSet<u64> = passed_by.iter().map(number).collect();
            passed_by.extend(taken.into_iter().filter(|link| !known.contains(&number(link))));
        }
        // After the leases, which are urgent.
        hear_of_imports(&node, &mut passed_by).await;
    }
}

fn number(link: &Arc<Link>) -> u64 {
    link.connection.number
}

/// Returns the connections whose leases had ended and are taken again.
async fn refresh_batch(node: &Arc<Node>, links: &[Arc<Link>], ttl: Duration) -> Vec<Arc<Link>> {
    let leases: Vec<_> = links
        .iter()
        // The status said last may be on its way: a refresh leaves it as it is.
        .map(|l| Touch { status: None, ..l.lease(ttl) })
        .collect();
    let refreshed = match node.backplane.presence.refresh(&leases).await {
        Ok(refreshed) => refreshed,
        Err(fault) => {
            tracing::warn!(%fault, "refreshing leases");
            return Vec::new();
        }
    };
    let away: FxHashSet<usize> = refreshed.away.into_iter().collect();
    for (index, (link, lease)) in links.iter().zip(&leases).enumerate() {
        // What could not be carried is due again at the next look.
        if !away.contains(&index) {
            link.carry(lease.deadline - ttl);
        }
    }
    let missing: Vec<Arc<Link>> = refreshed.ended.into_iter().filter_map(|i| links.get(i)).cloned().collect();
    for some in missing.chunks(AT_ONCE) {
        let taken = join_all(some.iter().map(|link| take_again(node, link, ttl))).await;
        for (link, taken) in some.iter().zip(taken) {
            if let Err(fault) = taken {
                tracing::warn!(%fault, "taking a lease again");
                // At the next look.
                link.carry(Time::default());
            }
        }
    }
    missing
}

/// A lease that had ended although its connection lives.
async fn take_again(node: &Arc<Node>, link: &Arc<Link>, ttl: Duration) -> Result<(), Fault> {
    if link.last_heard() + ttl <= node.clock.now() {
        // It ended for its silence: the next byte takes it again.
        return Ok(());
    }
    // It was let in before: the limit is not asked again.
    node.backplane.presence.touch(Touch { max: 0, ..link.lease(ttl) }).await?;
    if !node.links.contains_key(&link.connection.number) {
        // A connection that closed meanwhile must not come back to life.
        return node.backplane.presence.close(&link.listener.user, &link.connection).await;
    }
    // What it was inside of ended with the lease.
    rooms::enter(node, link, rooms::inside(node, link), false).await
}

/// Whoever has no lease is not told that an import made it a member: it would find out when it connects. What is not
/// done in a while, or cannot be, waits for the next look.
async fn hear_of_imports(node: &Node, passed_by: &mut VecDeque<Arc<Link>>) {
    let until = Instant::now() + LOOK / 2;
    passed_by.retain(|link| node.links.contains_key(&number(link)));
    let mut again = Vec::new();
    while !passed_by.is_empty() && Instant::now() < until {
        let some: Vec<Arc<Link>> = passed_by.drain(..passed_by.len().min(AT_ONCE)).collect();
        let heard = join_all(some.iter().map(|link| hear_of_import(node, link))).await;
        for (link, heard) in some.into_iter().zip(heard) {
            match heard {
                Ok(true) => {}
                Ok(false) => again.push(link),
                Err(fault) => {
                    tracing::debug!(%fault, "looking for imports is tried again");
                    again.push(link);
                }
            }
        }
    }
    passed_by.extend(again);
}

/// Whether it is known of all of its user's conversations.
async fn hear_of_import(node: &Node, link: &Link) -> Result<bool, Fault> {
    if link.dialect.implied_role().is_none() {
        return Ok(true);
    }
    let found = node.backplane.conversations.found_of_user(&link.listener.user).await?;
    for membership in found.here {
        let topic = Topic::Conversation(membership.conversation.clone());
        // One it knows and is not in was away: it is joined from where it stands, and that is under way.
        if !node.hub.is_in(&topic, link.listener.number) && !link.has_place_in(&membership) {
            let since = membership.joined_seq;
            link.listener.notify(Notice::Invited { conversation: membership.conversation, since });
        }
    }
    Ok(found.away.is_empty())
}

fn ticker(every: Duration) -> tokio::time::Interval {
    let mut ticker = tokio::time::interval(every.max(Duration::from_millis(10)));
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticker
}
