//! Entering and leaving the rooms of conversations: membership decides who may, and stays as it is.

use std::sync::Arc;

use parlance_backplane::{Entering, Fault, Leaving};
use parlance_model::{
    Answer, Author, Channel, ConversationId, Event, Reject, RejectCode, Role, RoomEvent, Topic,
};

use super::{conversations, permission};
use crate::node::Node;
use crate::session::{self, Link, Start};

/// Enters a room: from here on the connection hears it from inside. Rooms a client enters itself count as its
/// subscriptions.
pub(super) async fn join(
    node: &Arc<Node>,
    link: &Arc<Link>,
    id: ConversationId,
    role: Role,
) -> Result<Answer, Reject> {
    permission::to_join(node, link, &id, stranger).await?;
    let channel = Channel::Conversation(id.clone());
    let again = link.channels().contains(&channel);
    let max = node.config.load().limits.subscriptions;
    if !link.add_channel(&channel, max) {
        return Err(Reject::new(RejectCode::LimitReached, format!("at most {max} rooms per connection")));
    }
    let joined = go_in(node, link, id, role).await;
    if joined.is_err() && !again {
        link.remove_channel(&channel);
    }
    joined
}

async fn go_in(node: &Arc<Node>, link: &Arc<Link>, id: ConversationId, role: Role) -> Result<Answer, Reject> {
    let faulty = |fault: Fault| node.unavailable(&fault);
    if !session::change_role(node, link, &id, role) {
        let topic = Topic::Conversation(id.clone());
        session::join(node, link, vec![(topic.clone(), Start::Now, role)]).await.map_err(faulty)?;
        // A removal between the check and the subscription was published before this node listened.
        if let Err(refused) = member_of(node, link, &id).await {
            session::leave(node, link, &topic);
            return Err(refused);
        }
        // An invitation may have been faster and taken another role.
        session::change_role(node, link, &id, role);
    }
    enter(node, link, vec![id.clone()], true).await.map_err(faulty)?;
    if gone(node, link, &id).await.map_err(faulty)? {
        return Err(stranger());
    }
    tell_present(node, link, &id).await.map_err(faulty)?;
    Ok(Answer::Channel(id.to_string()))
}

async fn member_of(node: &Node, link: &Link, id: &ConversationId) -> Result<(), Reject> {
    let joined = conversations::joined(node, id, &link.listener.user).await;
    joined.map_err(|f| node.unavailable(&f))?.map(drop).ok_or_else(stranger)
}

/// The refusal of somebody who is no member.
pub(super) fn stranger() -> Reject {
    Reject::new(RejectCode::Forbidden, "not a member of this conversation")
}

/// Whether the connection no longer hears a conversation, because its user is no member any more: an entering
/// that was under way then may have come after the user was taken out of the room, and is undone.
pub(crate) async fn gone(node: &Node, link: &Link, id: &ConversationId) -> Result<bool, Fault> {
    if node.hub.is_in(&Topic::Conversation(id.clone()), link.listener.number) {
        return Ok(false);
    }
    let (author, connection) = (link.author(), link.connection.clone());
    let leaving = Leaving { conversations: vec![id.clone()], author, connection, explicit: false };
    node.backplane.rooms.leave(leaving).await?;
    Ok(true)
}

/// Leaves a room. Leaving twice, or what was never entered, is fine.
pub(super) async fn leave(node: &Arc<Node>, link: &Arc<Link>, id: ConversationId) -> Result<Answer, Reject> {
    session::change_role(node, link, &id, Role::Member);
    link.remove_channel(&Channel::Conversation(id.clone()));
    let leaving = Leaving {
        conversations: vec![id.clone()],
        author: link.author(),
        connection: link.connection.clone(),
        explicit: true,
    };
    node.backplane.rooms.leave(leaving).await.map_err(|f| node.unavailable(&f))?;
    Ok(Answer::Channel(id.to_string()))
}

/// Notes that a connection is present in conversations.
pub(crate) async fn enter(
    node: &Node,
    link: &Link,
    conversations: Vec<ConversationId>,
    explicit: bool,
) -> Result<(), Fault> {
    if conversations.is_empty() {
        return Ok(());
    }
    let (author, connection) = (link.author(), link.connection.clone());
    node.backplane.rooms.enter(Entering { conversations, author, connection, explicit }).await
}

/// The conversations a connection is inside of.
pub(crate) fn inside(node: &Node, link: &Link) -> Vec<ConversationId> {
    let inside = |topic: &Topic| {
        let role = node.hub.role(topic, link.listener.number);
        role.is_some_and(|role| role != Role::Member)
    };
    let topics = link.topics().into_iter().filter(inside);
    topics.filter_map(|t| if let Topic::Conversation(id) = t { Some(id) } else { None }).collect()
}

/// Whoever enters hears who is there.
async fn tell_present(node: &Node, link: &Link, id: &ConversationId) -> Result<(), Fault> {
    let topic = Topic::Conversation(id.clone());
    let (number, now) = (node.hub.number(&topic), node.clock.now());
    let role = node.hub.role(&topic, link.listener.number).unwrap_or_default();
    for user in node.backplane.rooms.present(id).await? {
        let own = user == link.listener.user;
        let event = Event::Room(RoomEvent {
            conversation: id.clone(),
            number,
            author: Author::bare(user),
            present: true,
            flipped: true,
            explicit: false,
            at: now,
        });
        if let Some(accent) = link.listener.accent().placed(role, own, &event)
            && let Some(piece) = parlance_wire::encode(accent, &link.listener.style, &event)
        {
            node.metrics.frames_out(link.dialect, 1);
            link.listener.push(&piece);
        }
    }
    Ok(())
}

/// A channel came or went by subscription: presence in its room follows.
pub(super) async fn subscribed(node: &Node, link: &Link, channel: &Channel, on: bool) -> Result<(), Fault> {
    let Channel::Conversation(id) = channel else { return Ok(()) };
    if on {
        return enter(node, link, vec![id.clone()], false).await;
    }
    let (author, connection) = (link.author(), link.connection.clone());
    let leaving = Leaving { conversations: vec![id.clone()], author, connection, explicit: false };
    node.backplane.rooms.leave(leaving).await
}
