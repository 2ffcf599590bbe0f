//! Refusals in chatgenius' words.
//!
//! Owns: which event and which text tell a refusal. A channel or message of others and one that does not
//! exist are told alike.

use std::borrow::Cow;

use parlance_model::{Reject, RejectCode, Time};
use serde::Serialize;

use super::{About, about, ack, emit};
use crate::{
    Tag,
    codec::{Emit, Say},
};

/// What a client is told while nothing can be sent, whatever the cause: what operators write is for people.
const UNAVAILABLE: &str = "Service temporarily unavailable";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refused<'a> {
    success: bool,
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    processed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failed<'a> {
    error: &'a str,
    temp_id: Option<&'a str>,
    status: &'static str,
    processed: bool,
    timestamp: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConnectionError<'a> {
    error: &'a str,
    reason: &'static str,
    reconnect_attempt: u32,
}

/// A refused send is told by an event as well; of others only who asked for an acknowledgement hears.
pub(super) fn answer(tag: &Tag, reject: &Reject, now: Time) -> Vec<Say> {
    // An event whose name is empty has the tag of a word about the connection, too.
    let of_event = matches!(reject.code, RejectCode::Malformed | RejectCode::UnknownEvent);
    if *tag == Tag::default() && !of_event {
        return connection(reject).map(Say::Emit).into_iter().collect();
    }
    let about = about(&tag.event);
    let error = text(about, reject);
    let failed = Failed {
        error: &error,
        temp_id: tag.reference.as_deref(),
        status: "FAILED",
        processed: true,
        timestamp: now.to_iso(),
    };
    let sent = about == About::Send;
    let told = if sent { emit("message:failed", &failed) } else { None };
    let processed = sent.then_some(true);
    let refused = Refused { success: false, error: &error, processed, retry_after_ms: reject.retry_after_ms };
    told.map(Say::Emit).into_iter().chain(ack(&refused)).collect()
}

/// What ends a connection, or keeps it from beginning.
pub(super) fn connection(reject: &Reject) -> Option<Emit> {
    let reason = match reject.code {
        RejectCode::Unauthenticated
        | RejectCode::InvalidToken
        | RejectCode::TokenExpired
        | RejectCode::TokenExpiring
        | RejectCode::Forbidden
        | RejectCode::Denied => "auth_error",
        _ => "server_error",
    };
    let error = text(About::Unknown, reject);
    emit("connection:error", &ConnectionError { error: &error, reason, reconnect_attempt: 1 })
}

fn text(about: About, reject: &Reject) -> Cow<'_, str> {
    let told = match (reject.code, about) {
        (RejectCode::Unauthenticated, _) => "User not authenticated",
        (RejectCode::InvalidToken, _) => "Invalid token",
        (RejectCode::TokenExpired, _) => "Token expired",
        (RejectCode::Unavailable | RejectCode::Maintenance, _) => UNAVAILABLE,
        (RejectCode::InProgress, _) => "Message already being processed",
        (RejectCode::Forbidden | RejectCode::Denied | RejectCode::NotFound, About::Send | About::Channel) => {
            "Access denied to channel"
        }
        (RejectCode::Forbidden | RejectCode::NotFound, About::Message) => "Message not found",
        _ => return Cow::Borrowed(&reject.message),
    };
    Cow::Borrowed(told)
}
