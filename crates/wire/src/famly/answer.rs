//! Acks: `{ok:true,data?}` or `{ok:false,error,message,correlationId}`. Who asks for none hears nothing.

use parlance_model::{Accepted, Answer, Reject, RejectCode};
use serde::Serialize;

use super::{errors, message, text};
use crate::{
    Tag,
    codec::{Context, Say},
    json,
};

/// What is said of a chat of others, and of one that does not exist.
const NOT_A_MEMBER: &str = "not a member of this conversation";

#[derive(Serialize)]
struct Done<T> {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<T>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sent<'a> {
    client_id: &'a str,
    server_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReadAt {
    read_at: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServerTime {
    server_time: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Refused<'a> {
    ok: bool,
    error: &'static str,
    message: &'a str,
    correlation_id: &'a str,
}

pub(super) fn answer(tag: &Tag, result: &Result<Answer, Reject>, cx: &mut Context) -> Vec<Say> {
    if tag.packet.is_none() {
        return Vec::new();
    }
    let ack = match result {
        Ok(answer) => accepted(tag, answer),
        Err(reject) if swallowed(tag, reject) => done::<()>(None),
        Err(reject) => refused(tag, reject, cx),
    };
    vec![Say::Ack(vec![ack])]
}

fn accepted(tag: &Tag, answer: &Answer) -> String {
    match answer {
        Answer::Accepted(accepted) => sent(tag, accepted),
        Answer::Receipted { at } => done(Some(ReadAt { read_at: at.to_iso() })),
        Answer::Pong { at } => done(Some(ServerTime { server_time: at.to_iso() })),
        Answer::Done
        | Answer::Registered { .. }
        | Answer::Channel(_)
        | Answer::Queued(_)
        | Answer::Welcome { .. }
        | Answer::Reacted(_)
        | Answer::History(_) => done::<()>(None),
    }
}

fn sent(tag: &Tag, accepted: &Accepted) -> String {
    let client_id = accepted.client_id.as_deref().or(tag.reference.as_deref()).unwrap_or_default();
    done(Some(Sent { client_id, server_id: message::id(accepted.id, accepted.at) }))
}

fn done<T: Serialize>(data: Option<T>) -> String {
    text(&Done { ok: true, data })
}

/// Typing of somebody who is no member is ignored without a word of it.
fn swallowed(tag: &Tag, reject: &Reject) -> bool {
    matches!(tag.event.as_str(), "typing:start" | "typing:stop")
        && matches!(reject.code, RejectCode::Forbidden | RejectCode::NotFound)
}

fn refused(tag: &Tag, reject: &Reject, cx: &mut Context) -> String {
    let made_up;
    let correlation_id = match reject.correlation_id.as_deref() {
        Some(known) => known,
        None => {
            made_up = json::answer_uuid(cx);
            &made_up
        }
    };
    let (error, message) = said(tag, reject);
    text(&Refused { ok: false, error, message, correlation_id })
}

/// Only a message can be "not found": of a chat nobody learns whether it exists.
fn said<'a>(tag: &Tag, reject: &'a Reject) -> (&'static str, &'a str) {
    match reject.code {
        RejectCode::NotFound if tag.event != "receipt:read" => {
            (errors::code(RejectCode::Forbidden), NOT_A_MEMBER)
        }
        other => (errors::code(other), errors::message(reject)),
    }
}
