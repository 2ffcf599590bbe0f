//! Answers: the `ack` a client asked for, the `error` it did not, and the `heartbeat` echo.
//!
//! Must not know: how an answer came about.

use parlance_model::{Accepted, Answer, Reject, Time};
use serde::Serialize;

use super::{errors::Refusal, frame::Frame};
use crate::{Tag, codec::Context, json};

/// The payload of an `ack`.
#[derive(Serialize)]
struct Ack<'a> {
    ack_id: &'a str,
    status: &'static str,
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Refusal<'a>>,
}

/// What an `ack` says beyond success.
#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Nothing {},
    User {
        user_id: &'a str,
    },
    Message {
        message_id: String,
        id: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        conversation_id: Option<&'a str>,
        created_at: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        client_id: Option<&'a str>,
        duplicate: bool,
    },
    Channel {
        channel: &'a str,
    },
    Read {
        read_at: String,
    },
    Pong {
        timestamp: String,
    },
}

/// The texts that answer the frame behind `tag`.
pub(super) fn answer(tag: &Tag, result: &Result<Answer, Reject>, cx: &mut Context) -> Vec<String> {
    match result {
        Ok(answer) => {
            let echo = match answer {
                Answer::Pong { at } => heartbeat(*at, cx),
                _ => None,
            };
            let ack = tag.ack.as_deref().and_then(|ack_id| {
                let data = Some(data(tag, answer));
                acknowledge(Ack { ack_id, status: "success", success: true, data, error: None }, cx)
            });
            echo.into_iter().chain(ack).collect()
        }
        Err(reject) => {
            let refusal = Refusal::new(tag, reject);
            match tag.ack.as_deref() {
                Some(ack_id) => {
                    let error = Some(refusal);
                    acknowledge(Ack { ack_id, status: "error", success: false, data: None, error }, cx)
                }
                None => Frame::new(json::answer_uuid(cx), "error", refusal, cx.now).text(),
            }
            .into_iter()
            .collect()
        }
    }
}

fn acknowledge(ack: Ack<'_>, cx: &mut Context) -> Option<String> {
    let ack_id = Some(ack.ack_id);
    Frame { ack_id, ..Frame::new(json::answer_uuid(cx), "ack", ack, cx.now) }.text()
}

fn heartbeat(at: Time, cx: &mut Context) -> Option<String> {
    #[derive(Serialize)]
    struct Beat {
        timestamp: String,
    }
    Frame::new(json::answer_uuid(cx), "heartbeat", Beat { timestamp: at.to_iso() }, cx.now).text()
}

fn data<'a>(tag: &'a Tag, answer: &'a Answer) -> Data<'a> {
    match answer {
        // Nothing in this vocabulary asks for queued events; they come by themselves or by polling.
        Answer::Done
        | Answer::Queued(_)
        | Answer::Welcome { .. }
        | Answer::Reacted(_)
        | Answer::History(_) => Data::Nothing {},
        Answer::Registered { user } => Data::User { user_id: user.as_str() },
        Answer::Accepted(accepted) => message(tag, accepted),
        Answer::Channel(channel) => Data::Channel { channel },
        Answer::Receipted { at } => Data::Read { read_at: at.to_iso() },
        Answer::Pong { at } => Data::Pong { timestamp: at.to_iso() },
    }
}

fn message<'a>(tag: &'a Tag, accepted: &'a Accepted) -> Data<'a> {
    let id = accepted.id.to_uuid(accepted.at.seconds32());
    Data::Message {
        message_id: id.clone(),
        id,
        conversation_id: tag.subject.as_deref(),
        created_at: accepted.at.to_iso(),
        client_id: accepted.client_id.as_deref(),
        duplicate: !accepted.fresh,
    }
}
