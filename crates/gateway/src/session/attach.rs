//! What a connection joins by itself once it is authenticated.

use std::sync::Arc;

use parlance_backplane::{Fault, Membership};
use parlance_model::{Channel, ConversationId, Event, Topic, UserId};
use parlance_wire::Dialect;
use rustc_hash::FxHashSet;

use super::link::Link;
use super::replay::{Start, join, leave};
use super::{restore, told};
use crate::config::PresenceScope;
use crate::node::Node;

/// Joins the user's own feed, and what the dialect implies: for sechat every conversation of the user from
/// the delivered cursor on (backlog before live) and presence by the mount's scope; for socialhub what the
/// client had subscribed before.
pub(super) async fn attach(node: &Arc<Node>, link: &Arc<Link>) -> Result<(), Fault> {
    match link.dialect {
        Dialect::Sechat => attach_sechat(node, link).await,
        Dialect::Socialhub => {
            if !restore::restore(node, link).await? {
                restore::fresh(node, link).await?;
            }
            // A kept entry without the user's own feed still gets it.
            let start = Start::After { seq: link.feed_start(), queued: false };
            join(node, link, vec![(Topic::User(link.listener.user.clone()), start)]).await?;
            leave_lost(node, link).await?;
            restore::save(node, link).await
        }
    }
}

/// Joins what a connection hears from now on, without reading: a sechat connection's user feed, and presence
/// where everybody hears everybody's.
pub(super) async fn greet(node: &Arc<Node>, link: &Arc<Link>) -> Result<(), Fault> {
    if link.dialect != Dialect::Sechat {
        return Ok(());
    }
    let mut topics = vec![(Topic::User(link.listener.user.clone()), Start::Now)];
    if link.mount.presence_scope == PresenceScope::Everyone {
        topics.push((Topic::PresenceAll, Start::Now));
    }
    join(node, link, topics).await?;
    // Whoever comes during maintenance is told as those were who were there when it began.
    if let Some(notice) = node.maintenance.load_full()
        && let Some(piece) =
            parlance_wire::encode(link.listener.accent(), &Event::Maintenance((*notice).clone()))
    {
        link.listener.push(&piece);
    }
    Ok(())
}

async fn attach_sechat(node: &Arc<Node>, link: &Arc<Link>) -> Result<(), Fault> {
    // The user's feed is listened to since the admission: an invitation that comes from here on is heard.
    let memberships = node.backplane.conversations.of_user(&link.listener.user).await?;
    if link.mount.presence_scope == PresenceScope::Contacts {
        for membership in &memberships {
            join_contacts(node, link, &membership.conversation).await?;
        }
    }
    join(node, link, memberships.iter().map(backlog).collect()).await?;
    leave_lost(node, link).await?;
    told::catch_up(node, link).await
}

fn backlog(membership: &Membership) -> (Topic, Start) {
    let seq = membership.marks.delivered.max(membership.joined_seq);
    (Topic::Conversation(membership.conversation.clone()), Start::After { seq, queued: true })
}

/// The user became a member of a conversation while connected.
///
/// A recipient may be faster than this: receipts of the user's own messages that came before the join are
/// told after it.
pub(crate) async fn invited(
    node: &Arc<Node>,
    link: &Arc<Link>,
    conversation: ConversationId,
    since: u64,
) -> Result<(), Fault> {
    let topic = Topic::Conversation(conversation.clone());
    let contacts = link.mount.presence_scope == PresenceScope::Contacts;
    let is_in = node.hub.is_in(&topic, link.listener.number);
    if link.dialect != Dialect::Sechat || (is_in && !contacts) {
        return Ok(());
    }
    let still = node.backplane.conversations.get(&conversation).await?;
    if still.is_none_or(|c| c.member(&link.listener.user).is_none()) {
        return Ok(());
    }
    if contacts {
        join_contacts(node, link, &conversation).await?;
    }
    if is_in {
        return Ok(());
    }
    let start = Start::After { seq: since, queued: false };
    join(node, link, vec![(topic, start)]).await?;
    told::since(node, link, &conversation, since).await?;
    leave_lost(node, link).await
}

/// Leaves conversations the user was removed from between the look at the members and the subscription: the
/// removal was published before this connection was in the room.
async fn leave_lost(node: &Node, link: &Link) -> Result<(), Fault> {
    let in_rooms = |t: &Topic| matches!(t, Topic::Conversation(_));
    if !link.topics().iter().any(in_rooms) {
        return Ok(());
    }
    let now = node.backplane.conversations.of_user(&link.listener.user).await?;
    let mine: FxHashSet<&ConversationId> = now.iter().map(|m| &m.conversation).collect();
    for topic in link.topics() {
        if let Topic::Conversation(id) = &topic
            && !mine.contains(id)
        {
            leave(node, link, &topic);
            link.remove_channel(&Channel::Conversation(id.clone()));
        }
    }
    Ok(())
}

async fn join_contacts(node: &Arc<Node>, link: &Arc<Link>, id: &ConversationId) -> Result<(), Fault> {
    let Some(conversation) = node.backplane.conversations.get(id).await? else { return Ok(()) };
    let others =
        conversation.members.into_iter().map(|m| m.user).filter(|u: &UserId| *u != link.listener.user);
    let topics = others.map(|user| (Topic::Presence(user), Start::Now)).collect();
    join(node, link, topics).await
}
