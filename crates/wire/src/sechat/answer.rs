//! Positive answers in sechat's words; most commands are answered with silence.

use parlance_model::{Accepted, Answer, Event, MessageEvent, UserId};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Frame, encode, frame, message_id};
use crate::{Tag, codec::Context};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Acked {
    r#type: &'static str,
    message_id: String,
    timestamp: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Registered<'a> {
    r#type: &'static str,
    status: &'static str,
    session_id: &'a str,
    message: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct QueuedEvents<'a> {
    r#type: &'static str,
    session_id: &'a str,
    events: Vec<Queued>,
}

#[derive(Serialize)]
struct Queued {
    r#type: &'static str,
    data: Box<RawValue>,
}

pub(super) fn answer(tag: &Tag, answer: &Answer, cx: &Context) -> Option<Frame> {
    match answer {
        Answer::Accepted(accepted) => acked(tag, accepted),
        Answer::Registered { user } => registered(user),
        Answer::Queued(events) => {
            let session = tag.subject.as_deref().or(cx.user.as_ref().map(UserId::as_str));
            let events = events.iter().flat_map(|event| queued(event, cx)).collect();
            let (r#type, session_id) = ("queued_events", session.unwrap_or_default());
            frame(r#type, &QueuedEvents { r#type, session_id, events })
        }
        Answer::Done
        | Answer::Channel(_)
        | Answer::Receipted { .. }
        | Answer::Pong { .. }
        | Answer::Welcome { .. }
        | Answer::Reacted(_)
        | Answer::History(_) => None,
    }
}

/// The id the client sent is the one it waits for.
fn acked(tag: &Tag, accepted: &Accepted) -> Option<Frame> {
    let known = accepted.client_id.as_deref().or(tag.reference.as_deref());
    let (r#type, message_id) = ("message:acked", message_id(known, accepted.id, accepted.at));
    frame(r#type, &Acked { r#type, message_id, timestamp: accepted.at.to_iso() })
}

fn registered(user: &UserId) -> Option<Frame> {
    let (r#type, session_id) = ("session_registered", user.as_str());
    frame(r#type, &Registered { r#type, status: "success", session_id, message: "Session registered" })
}

/// `data` is the frame the client would have heard live, `type` included, so that it can treat both alike.
fn queued(event: &Event, cx: &Context) -> Vec<Queued> {
    let frames = match event {
        Event::Message(message) => {
            let message = MessageEvent { queued: true, ..message.clone() };
            encode::body(cx.accent, &message).into_iter().collect()
        }
        other => encode::frames(cx.accent, other),
    };
    frames
        .into_iter()
        .filter_map(|(r#type, text)| Some(Queued { r#type, data: RawValue::from_string(text).ok()? }))
        .collect()
}
