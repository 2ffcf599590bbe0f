//! Subscriptions kept for a client that comes back (socialhub): per user and token, with the positions that
//! surely reached it.

use std::sync::Arc;

use parlance_backplane::Fault;
use parlance_model::{Channel, Identity, LogKey, Role, Topic};
use serde::{Deserialize, Serialize};

use super::attach::is_there;
use super::link::Link;
use super::replay::{Start, join};
use crate::commands;
use crate::node::Node;

/// What is kept.
#[derive(Serialize, Deserialize, Default)]
struct Kept {
    /// When the connection that kept it was let in: of two with one token, the later one's word counts.
    opened_ms: u64,
    /// Channels by name, with the position that surely reached the client; `None` = from now on.
    channels: Vec<(String, Option<u64>)>,
}

fn key(link: &Link) -> String {
    key_of(&link.mount.name, &link.identity())
}

fn key_of(mount: &str, identity: &Identity) -> String {
    format!("restore:{mount}:{}:{:016x}", identity.user, identity.token_hash)
}

/// What a client with this token has subscribed, here or at another node, or had until a moment ago.
pub(crate) async fn subscribed(
    node: &Node,
    mount: &str,
    identity: &Identity,
) -> Result<Option<Vec<Channel>>, Fault> {
    let kept = load(node, &key_of(mount, identity)).await?;
    Ok(kept.map(|kept| kept.channels.iter().filter_map(|(name, _)| Channel::parse(name)).collect()))
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
    let window = node.config.load().timings.restore();
    node.backplane.shared.save(&key(link), standing(link)?, Some(window)).await
}

/// What was kept for a client with this token; if nothing was, the user's own feed is from now on, in the same step.
async fn load_or_begin(node: &Node, link: &Link) -> Result<Option<Kept>, Fault> {
    let begun = Kept {
        opened_ms: link.opened_at.millis(),
        channels: vec![(Channel::Notifications.name(), Some(link.feed_start()))],
    };
    let begun = bytes(&begun)?;
    let (key, window) = (key(link), node.config.load().timings.restore());
    let shared = &node.backplane.shared;
    let Some(found) = shared.load_or_save(&key, begun.clone(), Some(window)).await? else {
        return Ok(None);
    };
    let kept = read(&found);
    if kept.is_some() {
        node.metrics.recovery(link.dialect, "recovered");
    } else {
        shared.save(&key, begun, Some(window)).await?;
    }
    Ok(kept)
}

fn bytes(kept: &Kept) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec(kept).map_err(|e| Fault::Corrupt(e.to_string()))
}

/// What is kept of a connection as it stands.
fn standing(link: &Link) -> Result<Vec<u8>, Fault> {
    let confirmed = link.confirmed();
    let position = |channel: &Channel| confirmed.iter().find(|(c, _)| c == channel).map(|(_, seq)| *seq);
    let mut channels = link.channels();
    channels.push(Channel::Notifications);
    let kept = Kept {
        opened_ms: link.opened_at.millis(),
        channels: channels.iter().map(|c| (c.name(), position(c))).collect(),
    };
    bytes(&kept)
}

/// The last save of a connection that ends. One whose successor has kept something already says nothing.
pub(super) async fn save_last(node: &Node, link: &Link) -> Result<(), Fault> {
    match load(node, &key(link)).await? {
        Some(kept) if kept.opened_ms > link.opened_at.millis() => Ok(()),
        _ => save(node, link).await,
    }
}

/// A subscription came or went. Of a new one, what is handed over so far counts as known to the client: it
/// asked just now. One it had already keeps its position: what it missed may still be on its way.
pub(crate) async fn changed(node: &Node, link: &Link, channel: &Channel) -> Result<(), Fault> {
    if !link.confirmed().iter().any(|(c, _)| c == channel) {
        let here = positions(node, link).into_iter().filter(|(c, _)| c == channel).collect();
        link.confirm(here);
    }
    save(node, link).await
}

async fn load(node: &Node, key: &str) -> Result<Option<Kept>, Fault> {
    Ok(node.backplane.shared.load(key).await?.and_then(|bytes| read(&bytes)))
}

fn read(bytes: &[u8]) -> Option<Kept> {
    // Unreadable is as good as absent.
    let read = serde_json::from_slice(bytes);
    read.inspect_err(|error| tracing::warn!(%error, "kept subscriptions are unreadable")).ok()
}

/// Takes up what a client with the same token had subscribed, from where it was; a conversation the user is
/// no longer in is left out, and of one the user came back to nothing from the time in between is told. Whether all of
/// it could be: what is away stays among the channels; `None` when nothing was kept, and that it begins now is.
pub(super) async fn restore(node: &Arc<Node>, link: &Arc<Link>) -> Result<Option<bool>, Fault> {
    let Some(kept) = load_or_begin(node, link).await? else { return Ok(None) };
    let mut whole = true;
    let max = node.config.load().limits.subscriptions;
    let mut topics = Vec::new();
    for (name, seq) in kept.channels {
        let Some(channel) = Channel::parse(&name) else { continue };
        if node.hub.is_in(&channel.topic(&link.listener.user), link.listener.number)
            && channel != Channel::Notifications
        {
            continue;
        }
        let joined = match may(node, link, &channel).await {
            Ok(joined) => joined,
            Err(Fault::Unavailable(_)) => {
                whole = false;
                link.add_channel(&channel, max);
                link.confirm(seq.map(|seq| (channel, seq)).into_iter().collect());
                continue;
            }
            Err(fault) => return Err(fault),
        };
        let Some(joined) = joined else {
            // Known only now, when it was away before.
            link.remove_channel(&channel);
            continue;
        };
        if channel != Channel::Notifications && !link.add_channel(&channel, max) {
            continue;
        }
        let topic = channel.topic(&link.listener.user);
        let start = match seq.filter(|_| LogKey::of_topic(&topic).is_some()) {
            Some(seq) => Start::After { seq: seq.max(joined), queued: false },
            None => Start::Now,
        };
        if let Start::After { seq, .. } = start {
            link.confirm(vec![(channel.clone(), seq)]);
        }
        topics.push((topic, start, Role::Joined));
    }
    whole &= is_there(join(node, link, topics).await)?;
    for channel in link.channels() {
        if let Channel::Presence(user) = channel {
            whole &= is_there(commands::tell_presence(node, link, &user).await)?;
        }
    }
    Ok(Some(whole))
}

/// Whether the user may hear a channel, and from which sequence on at the earliest.
async fn may(node: &Node, link: &Link, channel: &Channel) -> Result<Option<u64>, Fault> {
    let Channel::Conversation(id) = channel else { return Ok(Some(0)) };
    commands::conversations::joined(node, id, &link.listener.user).await
}

/// The user's own feed, from when the connection was let in.
pub(super) async fn fresh(node: &Arc<Node>, link: &Arc<Link>) -> Result<(), Fault> {
    let seq = link.feed_start();
    link.confirm(vec![(Channel::Notifications, seq)]);
    join(
        node,
        link,
        vec![(Topic::User(link.listener.user.clone()), Start::After { seq, queued: false }, Role::Joined)],
    )
    .await
}
