//! Subscriptions kept for a client that comes back (socialhub): per user and token, with the positions that
//! surely reached it.

use std::sync::Arc;

use parlance_backplane::Fault;
use parlance_model::{Channel, LogKey, Topic};
use serde::{Deserialize, Serialize};

use super::link::Link;
use super::replay::{Start, join};
use crate::node::Node;

/// What is kept, by channel name.
#[derive(Serialize, Deserialize, Default)]
struct Kept {
    channels: Vec<(String, u64)>,
}

fn key(link: &Link) -> String {
    let identity = link.identity();
    format!("restore:{}:{}:{:016x}", link.mount.name, identity.user, identity.token_hash)
}

/// Where each restorable channel stands now: what was handed to the connection so far.
pub(super) fn positions(node: &Node, link: &Link) -> Vec<(Channel, u64)> {
    let mut channels = link.channels();
    channels.push(Channel::Notifications);
    let position = |c: &Channel| {
        let topic = c.topic(&link.listener.user);
        let seq = node.hub.position(&topic, link.listener.number)?;
        Some((c.clone(), seq))
    };
    channels.iter().filter_map(position).collect()
}

/// Keeps what is confirmed, for as long as configured.
pub(super) async fn save(node: &Node, link: &Link) -> Result<(), Fault> {
    let confirmed = link.confirmed();
    let position =
        |channel: &Channel| confirmed.iter().find(|(c, _)| c == channel).map_or(0, |(_, seq)| *seq);
    let mut channels = link.channels();
    channels.push(Channel::Notifications);
    let kept = Kept { channels: channels.iter().map(|c| (c.name(), position(c))).collect() };
    let bytes = serde_json::to_vec(&kept).map_err(|e| Fault::Corrupt(e.to_string()))?;
    let ttl = node.config.load().timings.restore();
    node.backplane.shared.save(&key(link), bytes, Some(ttl)).await
}

/// A subscription came or went: a new one begins here, and the change is kept. One that is only repeated
/// proves nothing: what was handed over for it may still be on its way.
pub(crate) async fn changed(node: &Node, link: &Link, channel: &Channel) -> Result<(), Fault> {
    if link.confirmed().iter().all(|(known, _)| known != channel) {
        link.confirm(positions(node, link).into_iter().filter(|(c, _)| c == channel).collect());
    }
    save(node, link).await
}

/// Takes up what a client with the same token had subscribed, from where it was; a conversation the user is
/// no longer in is left out.
pub(super) async fn restore(node: &Arc<Node>, link: &Arc<Link>) -> Result<bool, Fault> {
    let Some(bytes) = node.backplane.shared.load(&key(link)).await? else { return Ok(false) };
    let Ok(kept) = serde_json::from_slice::<Kept>(&bytes) else {
        return Err(Fault::Corrupt("kept subscriptions".to_owned()));
    };
    let max = node.config.load().limits.subscriptions;
    let mut topics = Vec::new();
    for (name, seq) in kept.channels {
        let Some(channel) = Channel::parse(&name) else { continue };
        if !may(node, link, &channel).await? {
            continue;
        }
        let topic = channel.topic(&link.listener.user);
        let start =
            if LogKey::of_topic(&topic).is_some() { Start::After { seq, queued: false } } else { Start::Now };
        if channel != Channel::Notifications && !link.add_channel(&channel, max) {
            continue;
        }
        link.confirm(vec![(channel, seq)]);
        topics.push((topic, start));
    }
    join(node, link, topics).await?;
    Ok(true)
}

async fn may(node: &Node, link: &Link, channel: &Channel) -> Result<bool, Fault> {
    let Channel::Conversation(id) = channel else { return Ok(true) };
    let conversation = node.backplane.conversations.get(id).await?;
    Ok(conversation.is_some_and(|c| c.member(&link.listener.user).is_some()))
}

/// The user's own feed, from when the connection was let in.
pub(super) async fn fresh(node: &Arc<Node>, link: &Arc<Link>) -> Result<(), Fault> {
    let seq = link.feed_start();
    link.confirm(vec![(Channel::Notifications, seq)]);
    join(node, link, vec![(Topic::User(link.listener.user.clone()), Start::After { seq, queued: false })]).await
}
