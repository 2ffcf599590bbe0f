//! Positive answers in lingochat's words.
//!
//! Owns: what an acknowledgement carries, and that the event precedes it. Must not know: how events are framed.

use parlance_model::{Accepted, Answer, HistoryPage};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{arg, encode};
use crate::{
    Accent, Tag,
    codec::{Context, Emit, Say},
};

/// A sent message is acknowledged under this name where it was sent as [`GROUP_SEND`].
const GROUP_ACK: &str = "room:message_ack";
const GROUP_SEND: &str = "room:message";
const ACK: &str = "message:ack";

#[derive(Serialize)]
struct Success {
    success: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    success: bool,
    message_id: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Acked<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<u64>,
    client_message_id: Option<&'a str>,
    conversation_id: &'a RawValue,
    duplicate: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Synced<'a> {
    success: bool,
    messages: Vec<encode::New<'a>>,
    has_more: bool,
}

pub(super) fn answer(tag: &Tag, answer: &Answer, cx: &Context) -> Vec<Say> {
    match answer {
        Answer::Accepted(accepted) => sent(tag, accepted, cx.accent),
        Answer::History(page) => vec![Say::Ack(vec![arg(&synced(page))])],
        Answer::Done
        | Answer::Registered { .. }
        | Answer::Channel(_)
        | Answer::Queued(_)
        | Answer::Receipted { .. }
        | Answer::Welcome { .. }
        | Answer::Reacted(_)
        | Answer::Pong { .. } => vec![Say::Ack(vec![arg(&Success { success: true })])],
    }
}

/// The event first: the stock client waits for it, and may never have asked for the acknowledgement.
fn sent(tag: &Tag, accepted: &Accepted, accent: Accent) -> Vec<Say> {
    let message_id = accepted.id.to_integer();
    let object = encode::speaks_objects(accent);
    let acked = Acked {
        message_id: object.then_some(message_id),
        client_message_id: accepted.client_id.as_deref().or(tag.reference.as_deref()),
        conversation_id: tag
            .subject
            .as_deref()
            .and_then(|s| serde_json::from_str(s).ok())
            .unwrap_or(RawValue::NULL),
        duplicate: !accepted.fresh,
    };
    let args = if object { vec![arg(&acked)] } else { vec![message_id.to_string(), arg(&acked)] };
    let name = if tag.event == GROUP_SEND { GROUP_ACK } else { ACK };
    vec![Say::Emit(Emit::kept(name, args)), Say::Ack(vec![arg(&Sent { success: true, message_id })])]
}

fn synced(page: &HistoryPage) -> Synced<'_> {
    let messages = page.messages.iter().map(encode::New::of).collect();
    Synced { success: true, messages, has_more: page.more }
}
