//! Explicit subscriptions to channels.

use std::sync::Arc;

use parlance_backplane::Fault;
use parlance_model::{Answer, Channel, Event, PresenceEvent, Reject, RejectCode, Role, UserId};

use super::{conversations, permission, rooms};
use crate::node::Node;
use crate::session::{Link, Start, join, leave, subscriptions_changed};

pub(super) async fn subscribe(
    node: &Arc<Node>,
    link: &Arc<Link>,
    channel: Channel,
) -> Result<Answer, Reject> {
    let name = channel.name();
    if channel == Channel::Notifications {
        return Ok(Answer::Channel(name));
    }
    if let Channel::Conversation(id) = &channel {
        permission::to_join(node, link, id, stranger).await?;
    }
    let max = node.config.load().limits.subscriptions;
    if !link.add_channel(&channel, max) {
        let message = format!("at most {max} subscriptions per connection");
        return Err(Reject::new(RejectCode::LimitReached, message));
    }
    let start = start(node, link, &channel).await.map_err(|f| node.unavailable(&f))?;
    let topic = channel.topic(&link.listener.user);
    if let Err(fault) = join(node, link, vec![(topic, start, Role::Joined)]).await {
        if start == Start::Now {
            link.remove_channel(&channel);
        }
        return Err(node.unavailable(&fault));
    }
    if let Channel::Conversation(id) = &channel {
        still_member(node, link, id).await?;
    }
    subscriptions_changed(node, link, &channel).await.map_err(|f| node.unavailable(&f))?;
    rooms::subscribed(node, link, &channel, true).await.map_err(|f| node.unavailable(&f))?;
    if let Channel::Presence(user) = &channel {
        tell_presence(node, link, user).await.map_err(|f| node.unavailable(&f))?;
    }
    Ok(Answer::Channel(name))
}

/// From where on it is heard: from now, unless the client was in there before, and that could not be taken up yet
/// because the engine was away; then from where the client was.
async fn start(node: &Node, link: &Link, channel: &Channel) -> Result<Start, Fault> {
    let Channel::Conversation(id) = channel else { return Ok(Start::Now) };
    let Some((_, seq)) = link.confirmed().into_iter().find(|(known, _)| known == channel) else {
        return Ok(Start::Now);
    };
    let joined = conversations::joined(node, id, &link.listener.user).await?;
    Ok(Start::After { seq: seq.max(joined.unwrap_or_default()), queued: false })
}

/// A removal between the check and the subscription was published before this node listened.
async fn still_member(
    node: &Arc<Node>,
    link: &Arc<Link>,
    id: &parlance_model::ConversationId,
) -> Result<(), Reject> {
    let joined = conversations::joined(node, id, &link.listener.user).await;
    if joined.map_err(|f| node.unavailable(&f))?.is_some() {
        return Ok(());
    }
    let channel = Channel::Conversation(id.clone());
    link.remove_channel(&channel);
    leave(node, link, &channel.topic(&link.listener.user));
    Err(stranger())
}

fn stranger() -> Reject {
    Reject::new(RejectCode::Forbidden, "no access to this channel")
}

/// Whoever begins to watch a user hears at once how things stand.
pub(crate) async fn tell_presence(node: &Node, link: &Link, user: &UserId) -> Result<(), Fault> {
    let found = node.backplane.presence.status(std::slice::from_ref(user)).await?;
    let now = node.clock.now();
    if let Some(presence) = found.first() {
        let event = Event::Presence(PresenceEvent {
            user: user.clone(),
            status: presence.status,
            last_seen: presence.last_seen.unwrap_or(now),
            at: now,
        });
        link.tell(&event);
    }
    Ok(())
}

pub(super) async fn unsubscribe(
    node: &Arc<Node>,
    link: &Arc<Link>,
    channel: Channel,
) -> Result<Answer, Reject> {
    let name = channel.name();
    if channel != Channel::Notifications {
        link.remove_channel(&channel);
        leave(node, link, &channel.topic(&link.listener.user));
        subscriptions_changed(node, link, &channel).await.map_err(|f| node.unavailable(&f))?;
        rooms::subscribed(node, link, &channel, false).await.map_err(|f| node.unavailable(&f))?;
    }
    Ok(Answer::Channel(name))
}
