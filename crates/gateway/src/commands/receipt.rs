//! Receipts: only a recipient says that a message was delivered or read; cursors only move forward.

use std::sync::Arc;

use parlance_backplane::{Fault, Find, Range};
use parlance_model::{
    Answer, ConversationId, LogKey, MessageId, Receipt, ReceiptKind, ReceiptTarget, Record, Reject,
    RejectCode, UserId,
};

use super::conversations;
use crate::node::Node;
use crate::session::{Link, Own};

/// Cursors one receipt can move, each of which is told by itself: what was read was delivered.
const CURSORS: usize = 2;

/// A message in a conversation's log.
type Place = (ConversationId, u64);

pub(super) async fn run(node: &Arc<Node>, link: &Arc<Link>, receipt: Receipt) -> Result<Answer, Reject> {
    let user = &link.listener.user;
    let (conversation, seq) = match &receipt.target {
        ReceiptTarget::ClientId { author, id } => by_client_id(node, user, author, id).await?,
        ReceiptTarget::Ids { conversation, ids } => by_ids(node, user, conversation.as_ref(), ids).await?,
        ReceiptTarget::UpTo { conversation, id } => up_to(node, user, conversation, *id).await?,
    };
    let own = Own::Cursor(conversation.clone(), seq);
    if link.listener.accent().hears_own_cursor() {
        // First: the feed may come round before the answer.
        (0..CURSORS).for_each(|_| link.will(own.clone()));
    }
    let advanced = node.backplane.cursors.advance(&conversation, user, receipt.kind, seq).await;
    let moved = advanced.as_ref().ok().and_then(|change| Some(change.as_ref()?.moved)).unwrap_or_default();
    let coming = usize::from(moved.delivered.is_some()) + usize::from(moved.read.is_some());
    for _ in coming..CURSORS {
        // Nothing comes round of a cursor that did not move.
        link.takes(&own);
    }
    match advanced.map_err(|f| node.unavailable(&f))? {
        Some(change) => Ok(Answer::Receipted { at: change.at }),
        // The same answer as for a message that does not exist.
        None => Err(not_found()),
    }
}

/// How far a user has read who says so without a connection.
#[derive(Debug, Clone, Copy)]
pub enum UpTo {
    /// To this message, which may be the reader's own.
    Message(MessageId),
    /// To this sequence; one beyond the newest is the newest.
    Sequence(u64),
}

/// Moves a user's read cursor forward; others hear of it as of any receipt. One that is further already stays.
pub async fn read_up_to(
    node: &Node,
    user: &UserId,
    conversation: &ConversationId,
    to: UpTo,
) -> Result<(), Reject> {
    if !node.health.keeps() {
        return Err(node.away());
    }
    let seq = match to {
        UpTo::Message(id) => up_to(node, user, conversation, id).await?.1,
        UpTo::Sequence(seq) => seq,
    };
    let moved = node.backplane.cursors.advance(conversation, user, ReceiptKind::Read, seq).await;
    moved.map_err(|fault| node.unavailable(&fault))?.map(drop).ok_or_else(stranger)
}

async fn by_client_id(node: &Node, user: &UserId, author: &UserId, id: &Arc<str>) -> Result<Place, Reject> {
    if author == user {
        return Err(own());
    }
    let found = find_client_id(node, user, author, id).await.map_err(|f| node.unavailable(&f))?;
    found.ok_or_else(not_found)
}

/// The message an author gave an id. An author may have used it in several conversations: the newest use
/// counts, of those in conversations the reader is in.
async fn find_client_id(
    node: &Node,
    user: &UserId,
    author: &UserId,
    id: &Arc<str>,
) -> Result<Option<Place>, Fault> {
    let find = |conversation| Find::ClientId { author: author.clone(), id: id.clone(), conversation };
    if let Some(place) = place(node.backplane.log.find(find(None)).await?) {
        if is_member(node, user, &place.0).await? {
            return Ok(Some(place));
        }
        for membership in node.backplane.conversations.of_user(user).await? {
            let here = find(Some(membership.conversation));
            if let Some(place) = place_of(node, here).await? {
                return Ok(Some(place));
            }
        }
    }
    // An author whose dialect gives no ids of its own: the message was told by its server id.
    let Some(id) = MessageId::from_opaque(id) else { return Ok(None) };
    let Some(place) = place_of(node, Find::Id(id)).await? else { return Ok(None) };
    let written = author_of(node, &place).await?;
    Ok((written.as_ref() == Some(author)).then_some(place))
}

/// In the documented order: membership, the message exists, it is of this conversation.
async fn up_to(
    node: &Node,
    user: &UserId,
    conversation: &ConversationId,
    id: MessageId,
) -> Result<Place, Reject> {
    let faulty = |f: Fault| node.unavailable(&f);
    if !is_member(node, user, conversation).await.map_err(faulty)? {
        return Err(stranger());
    }
    let found = place_of(node, Find::Id(id)).await.map_err(faulty)?.ok_or_else(not_found)?;
    if found.0 != *conversation {
        let message = "the message is not of this conversation";
        return Err(Reject::new(RejectCode::InvalidField, message).field("messageId"));
    }
    Ok(found)
}

async fn by_ids(
    node: &Node,
    user: &UserId,
    conversation: Option<&ConversationId>,
    ids: &[MessageId],
) -> Result<Place, Reject> {
    let mut newest: Option<Place> = None;
    for id in ids {
        let faulty = |f: Fault| node.unavailable(&f);
        let found = place_of(node, Find::Id(*id)).await.map_err(faulty)?.ok_or_else(not_found)?;
        // Whether a message exists is nobody's business but its members'.
        if !is_member(node, user, &found.0).await.map_err(faulty)? {
            return Err(not_found());
        }
        let elsewhere = conversation.is_some_and(|c| *c != found.0)
            || newest.as_ref().is_some_and(|(c, _)| *c != found.0);
        if elsewhere {
            let message = "a message is not of this conversation";
            return Err(Reject::new(RejectCode::InvalidField, message).field("message_ids"));
        }
        let is_own = author_of(node, &found).await.map_err(faulty)?.as_ref() == Some(user);
        if !is_own && newest.as_ref().is_none_or(|(_, seq)| *seq < found.1) {
            newest = Some(found);
        }
    }
    newest.ok_or_else(own)
}

async fn place_of(node: &Node, what: Find) -> Result<Option<Place>, Fault> {
    Ok(place(node.backplane.log.find(what).await?))
}

fn place(found: Option<(LogKey, u64)>) -> Option<Place> {
    match found? {
        (LogKey::Conversation(conversation), seq) => Some((conversation, seq)),
        _ => None,
    }
}

async fn is_member(node: &Node, user: &UserId, id: &ConversationId) -> Result<bool, Fault> {
    Ok(conversations::joined(node, id, user).await?.is_some())
}

async fn author_of(node: &Node, place: &Place) -> Result<Option<UserId>, Fault> {
    let key = LogKey::Conversation(place.0.clone());
    let range = Range::After { seq: place.1.saturating_sub(1), limit: 1 };
    let page = node.backplane.log.range(&key, range).await?;
    let entry = page.entries.into_iter().next().filter(|e| e.seq == place.1);
    Ok(entry.and_then(|e| match e.record {
        Record::Message(message) => Some(message.author.id),
        _ => None,
    }))
}

fn stranger() -> Reject {
    Reject::new(RejectCode::Forbidden, "not a member of this conversation")
}

fn own() -> Reject {
    Reject::new(RejectCode::Forbidden, "only a recipient sends receipts")
}

fn not_found() -> Reject {
    Reject::new(RejectCode::NotFound, "no such message")
}
