//! Receipts: only a recipient says that a message was delivered or read; cursors only move forward.

use std::sync::Arc;

use parlance_backplane::Find;
use parlance_model::{
    Answer, ConversationId, LogKey, MessageId, Receipt, ReceiptTarget, Reject, RejectCode, UserId,
};

use crate::node::Node;
use crate::session::Link;

pub(super) async fn run(node: &Arc<Node>, link: &Arc<Link>, receipt: Receipt) -> Result<Answer, Reject> {
    let user = &link.listener.user;
    let (conversation, seq) = match &receipt.target {
        ReceiptTarget::ClientId { author, id } => by_client_id(node, user, author, id).await?,
        ReceiptTarget::Ids { conversation, ids } => by_ids(node, conversation.as_ref(), ids).await?,
    };
    let advanced = node.backplane.cursors.advance(&conversation, user, receipt.kind, seq).await;
    match advanced.map_err(|f| node.unavailable(&f))? {
        Some(change) => Ok(Answer::Receipted { at: change.at }),
        // The same answer as for a message that does not exist.
        None => Err(not_found()),
    }
}

async fn by_client_id(
    node: &Node,
    user: &UserId,
    author: &UserId,
    id: &Arc<str>,
) -> Result<(ConversationId, u64), Reject> {
    if author == user {
        return Err(Reject::new(RejectCode::Forbidden, "only a recipient sends receipts"));
    }
    let what = Find::ClientId { author: author.clone(), id: id.clone(), conversation: None };
    let mut found = node.backplane.log.find(what).await.map_err(|f| node.unavailable(&f))?;
    if found.is_none()
        && let Some(id) = MessageId::from_opaque(id)
    {
        found = node.backplane.log.find(Find::Id(id)).await.map_err(|f| node.unavailable(&f))?;
    }
    match found {
        Some((LogKey::Conversation(conversation), seq)) => Ok((conversation, seq)),
        _ => Err(not_found()),
    }
}

async fn by_ids(
    node: &Node,
    conversation: Option<&ConversationId>,
    ids: &[MessageId],
) -> Result<(ConversationId, u64), Reject> {
    let mut place: Option<(ConversationId, u64)> = None;
    for id in ids {
        let found = node.backplane.log.find(Find::Id(*id)).await.map_err(|f| node.unavailable(&f))?;
        let Some((LogKey::Conversation(found), seq)) = found else { return Err(not_found()) };
        if conversation.is_some_and(|c| *c != found) || place.as_ref().is_some_and(|(c, _)| *c != found) {
            let message = "a message is not of this conversation";
            return Err(Reject::new(RejectCode::InvalidField, message).field("message_ids"));
        }
        let highest = place.map_or(seq, |(_, s)| s.max(seq));
        place = Some((found, highest));
    }
    place.ok_or_else(|| Reject::new(RejectCode::MissingField, "no message is named").field("message_ids"))
}

fn not_found() -> Reject {
    Reject::new(RejectCode::NotFound, "no such message")
}
