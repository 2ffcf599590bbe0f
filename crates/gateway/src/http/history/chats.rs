//! A user's conversations: what is unread in them and what was said last, and telling how far one has read.
//!
//! Owns: paging over them, what a body that moves a cursor looks like. Must not know: how unread is counted (the
//! backplane), how an answer is spelt.

use std::time::Duration;

use axum::body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use parlance_backplane::{Belonging, Fault, Overview};
use parlance_model::{ConversationId, Event, LogKey, MessageId, Reject, RejectCode, UserId};
use parlance_wire::history::{Chats, LastRead, Listed};
use serde::Deserialize;
use serde_json::Value;

use super::call::{Call, Policy, invalid, likely};
use super::page::{DEFAULT_LIMIT, LIMITS, MOST};
use crate::commands::UpTo;
use crate::events;
use crate::node::Node;

/// A body that names one message is not longer.
const BODY: usize = 4096;

/// A page of the user's conversations.
pub async fn page(call: &mut Call<'_>) -> Result<Chats, Reject> {
    let user = call.identity().await?.user.clone();
    let limit = call.asked.part.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MOST).contains(&limit) {
        return Err(invalid(LIMITS));
    }
    let after = call.asked.part.after.as_deref().map(ConversationId::parse).transpose();
    let after = after.map_err(|_| invalid("after is the id of a conversation"))?;
    let overviews = &call.node.backplane.overviews;
    let faulty = |fault: Fault| call.node.unavailable(&fault);
    let Belonging { ids, more } = overviews.belonging(&user, after.as_ref(), limit).await.map_err(faulty)?;
    let told = overviews.overviews(&user, &ids).await;
    let mut page = Chats { next: ids.last().filter(|_| more).cloned(), ..Chats::default() };
    let mut why = None;
    for (id, overview) in ids.into_iter().zip(told) {
        match overview {
            Ok(Some(overview)) => page.listed.push(shown(call, overview)),
            Ok(None) => {}
            Err(fault) => {
                page.away.push(id);
                why = Some(fault);
            }
        }
    }
    match why {
        // What is there is worth telling; nothing at all is a failure.
        Some(fault) if page.listed.is_empty() => Err(faulty(fault)),
        _ => Ok(page),
    }
}

/// One of them.
pub async fn one(call: &Call<'_>, user: &UserId, id: ConversationId) -> Result<Listed, Reject> {
    let mut told = call.node.backplane.overviews.overviews(user, &[id]).await;
    let overview = told.pop().unwrap_or(Ok(None)).map_err(|fault| call.node.unavailable(&fault))?;
    let stranger = || Reject::new(RejectCode::Forbidden, "you are not a member of this conversation");
    overview.map(|overview| shown(call, overview)).ok_or_else(stranger)
}

fn shown(call: &Call<'_>, overview: Overview) -> Listed {
    let Overview { conversation, kind, title, numbers, head, members, read, unread, more_unread, last } =
        overview;
    let number = numbers.first().copied().unwrap_or(0);
    let key = LogKey::Conversation(conversation.clone());
    let last = last.as_ref().and_then(|entry| match events::of_entry(&key, number, entry, false)? {
        Event::Message(event) => Some(event),
        _ => None,
    });
    let message = read.message.and_then(|(seq, at)| Some((MessageId::of_sequence(&numbers, seq)?, at)));
    let read = (read.at.millis() > 0).then_some(LastRead { seq: read.seq, message, at: read.at });
    let mut listed = Listed {
        conversation,
        number,
        kind,
        title,
        members,
        unread,
        more_unread,
        read,
        last,
        last_sequence: head.seq,
    };
    if strips(call, &listed) {
        listed.strip();
    }
    listed
}

/// Whether markup is removed: as from the conversation's history.
fn strips(call: &Call<'_>, listed: &Listed) -> bool {
    match call.asked.dialect {
        Some(_) => call.policy.strip,
        None => Policy::of(call.node, &likely(listed.conversation.as_str())).strip,
    }
}

/// How far somebody has read, as they say it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Mark {
    message_id: Option<Value>,
    sequence: Option<u64>,
}

/// Why a body is not taken.
pub enum Unread {
    /// It took too long.
    Slow,
    /// It is longer than this.
    Long(usize),
    /// It says nothing that is understood.
    Wrong(Reject),
}

/// Reads how far somebody has read.
pub async fn mark(node: &Node, body: Body) -> Result<UpTo, Unread> {
    let patience = Duration::from_millis(node.config.load().limits.message_ms);
    let read = tokio::time::timeout(patience, Limited::new(body, BODY).collect());
    let bytes = match read.await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Unread::Long(BODY)),
        Ok(Err(_)) => return Err(Unread::Wrong(invalid("the body broke off"))),
        Err(_) => return Err(Unread::Slow),
    };
    let wrong = || Unread::Wrong(invalid("the body is {\"messageId\": …} or {\"sequence\": …}"));
    let mark: Mark = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
    match (mark.message_id, mark.sequence) {
        (None, Some(sequence)) => Ok(UpTo::Sequence(sequence)),
        (Some(id), None) => {
            message(&id).map(UpTo::Message).ok_or_else(|| Unread::Wrong(invalid("not a message id")))
        }
        _ => Err(wrong()),
    }
}

/// In any dialect's rendering.
fn message(id: &Value) -> Option<MessageId> {
    match id {
        Value::String(text) => MessageId::from_any(text),
        Value::Number(number) => MessageId::from_integer(number.as_u64()?),
        _ => None,
    }
}
