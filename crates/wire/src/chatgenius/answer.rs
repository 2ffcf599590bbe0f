//! Positive answers in chatgenius' words.

use std::borrow::Cow;
use std::collections::BTreeMap;

use parlance_model::{Accepted, Answer, ConversationId, Event, UserId};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{ack, emit, encode::Reaction, message_id};
use crate::{
    Tag,
    codec::{Context, Say},
    json::Object,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Delivered<'a> {
    message_id: &'a str,
    temp_id: Option<&'a str>,
    status: &'static str,
    processed: bool,
    timestamp: &'a str,
}

#[derive(Serialize)]
struct Done<T> {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processed: Option<bool>,
}

/// The message of `message:created` as far as its sender's connection knows it, and what else
/// `message:delivered` holds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent<'a> {
    id: &'a str,
    message_id: &'a str,
    temp_id: Option<&'a str>,
    status: &'static str,
    delivery_status: &'static str,
    user_id: Option<&'a str>,
    created_at: &'a str,
    updated_at: &'a str,
    #[serde(flatten)]
    repeated: BTreeMap<Cow<'a, str>, &'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Connected<'a> {
    user_id: &'a str,
    channels: Vec<&'a str>,
}

pub(super) fn answer(tag: &Tag, answer: &Answer, cx: &Context) -> Vec<Say> {
    match answer {
        Answer::Accepted(accepted) => self::accepted(tag, accepted, cx),
        Answer::Welcome { user, conversations } => welcome(user, conversations),
        Answer::Reacted(Some(event)) => match &**event {
            Event::Reaction(reaction) if reaction.added => done(Some(Reaction::of(reaction))),
            _ => done::<()>(None),
        },
        Answer::Done
        | Answer::Registered { .. }
        | Answer::Channel(_)
        | Answer::Queued(_)
        | Answer::Receipted { .. }
        | Answer::Reacted(None)
        | Answer::History(_)
        | Answer::Pong { .. } => done::<()>(None),
    }
}

/// The event comes first: a client's handler for it finds the message it still waits for.
fn accepted(tag: &Tag, accepted: &Accepted, cx: &Context) -> Vec<Say> {
    let (id, at) = (message_id(accepted.id, accepted.at), accepted.at.to_iso());
    let temp_id = accepted.client_id.as_deref().or(tag.reference.as_deref());
    let status = "DELIVERED";
    let delivered = Delivered { message_id: &id, temp_id, status, processed: true, timestamp: &at };
    let told = emit("message:delivered", &delivered).map(Say::Emit);
    let sent = tag.packet.and_then(|_| {
        let repeated = tag.subject.as_deref().and_then(|text| serde_json::from_str::<Object<'_>>(text).ok());
        let sent = Sent {
            id: &id,
            message_id: &id,
            temp_id,
            status,
            delivery_status: status,
            user_id: cx.user.as_ref().map(UserId::as_str),
            created_at: &at,
            updated_at: &at,
            repeated: repeated.unwrap_or_default(),
        };
        ack(&Done { success: true, data: Some(sent), processed: Some(true) })
    });
    told.into_iter().chain(sent).collect()
}

fn welcome(user: &UserId, conversations: &[ConversationId]) -> Vec<Say> {
    let channels = conversations.iter().map(ConversationId::as_str).collect();
    let connected = Connected { user_id: user.as_str(), channels };
    emit("connection:success", &connected).map(Say::Emit).into_iter().collect()
}

fn done<T: Serialize>(data: Option<T>) -> Vec<Say> {
    ack(&Done { success: true, data, processed: None }).into_iter().collect()
}
