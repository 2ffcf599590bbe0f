//! Reactions: kept with the conversation, idempotent.

use std::sync::Arc;

use parlance_backplane::{Find, Range, Reacted, Stored};
use parlance_model::{
    Answer, ConversationId, Event, LogKey, MessageId, React, ReactionEvent, Reject, RejectCode, Time,
};

use crate::brake;
use crate::node::Node;
use crate::session::Link;

/// Longest emoji or reaction word, in bytes.
const LONGEST_KIND: usize = 64;

pub(super) async fn run(node: &Arc<Node>, link: &Arc<Link>, react: React) -> Result<Answer, Reject> {
    if react.kind.is_empty() || react.kind.len() > LONGEST_KIND {
        let message = format!("a reaction is 1 to {LONGEST_KIND} bytes");
        return Err(Reject::new(RejectCode::InvalidField, message).field("type"));
    }
    if let Some(refusal) = node.maintenance_refusal() {
        return Err(refusal);
    }
    let log = &node.backplane.log;
    let found = log.find(Find::Id(react.message)).await.map_err(|f| node.unavailable(&f))?;
    let Some((LogKey::Conversation(conversation), target)) = found else { return Err(not_found()) };
    brake::pass(node, &conversation).await?;
    let reacted = log.react(&conversation, link.author(), target, react.kind.clone(), react.added).await;
    let stored = match reacted.map_err(|f| node.unavailable(&f))? {
        Reacted::New(stored) => Some(stored),
        Reacted::Same(stored) => stored,
        // Whether a message exists is nobody's business but its members'.
        Reacted::NotMember | Reacted::NoMessage => return Err(not_found()),
    };
    let Some(stored) = stored else { return Ok(Answer::Reacted(None)) };
    let message_at = time_of(node, &conversation, target).await?;
    Ok(Answer::Reacted(Some(Arc::new(told(link, &react, &conversation, (stored, message_at))))))
}

async fn time_of(node: &Node, conversation: &ConversationId, seq: u64) -> Result<Option<Time>, Reject> {
    let key = LogKey::Conversation(conversation.clone());
    let range = Range::After { seq: seq.saturating_sub(1), limit: 1 };
    let page = node.backplane.log.range(&key, range).await.map_err(|f| node.unavailable(&f))?;
    Ok(page.entries.first().filter(|e| e.seq == seq).map(|e| e.at))
}

fn told(
    link: &Link,
    react: &React,
    conversation: &ConversationId,
    (stored, message_at): (Stored, Option<Time>),
) -> Event {
    Event::Reaction(ReactionEvent {
        conversation: conversation.clone(),
        number: MessageId::number(stored.id),
        seq: stored.seq,
        author: link.author(),
        message: react.message,
        message_at: message_at.unwrap_or(stored.at),
        kind: react.kind.clone(),
        added: react.added,
        id: stored.id,
        at: stored.at,
    })
}

fn not_found() -> Reject {
    Reject::new(RejectCode::NotFound, "no such message")
}
