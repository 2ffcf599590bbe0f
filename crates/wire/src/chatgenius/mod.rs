//! The chatgenius dialect: ChatGenius' Socket.IO events, each with one object.
//!
//! Owns: its event and field names, its errors. Must not know: who is allowed what, nor other dialects.

mod answer;
mod decode;
mod encode;
mod errors;

use parlance_model::{Answer, Event, MessageId, Reject, Time};
use serde::Serialize;

use crate::{
    Accent, Tag,
    codec::{Call, Context, Decoded, Emit, EventCodec, Refusal, Say},
};

/// The chatgenius codec.
pub(crate) struct Chatgenius;

impl EventCodec for Chatgenius {
    fn decode(call: &Call<'_>, cx: &mut Context) -> Decoded {
        decode::decode(call, cx)
    }

    fn answer(tag: &Tag, result: &Result<Answer, Reject>, cx: &mut Context) -> Vec<Say> {
        match result {
            Ok(answer) => answer::answer(tag, answer, cx),
            Err(reject) => errors::answer(tag, reject, cx.now),
        }
    }

    fn encode(_accent: Accent, event: &Event) -> Vec<Emit> {
        encode::encode(event)
    }

    fn refuse(reject: &Reject) -> Refusal {
        Refusal::Told(errors::connection(reject).into_iter().collect())
    }
}

/// What a command is about, as far as its answer depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    /// A message to be sent.
    Send,
    /// A channel: entering, leaving, typing.
    Channel,
    /// A message that is there: reactions and receipts.
    Message,
    /// No event of the dialect.
    Unknown,
}

/// Aliases included.
fn about(event: &str) -> About {
    match event {
        "message:send" | "send_message" => About::Send,
        "channel:join" | "join_channel" | "channel:leave" | "leave_channel" | "typing:start"
        | "typing:stop" => About::Channel,
        "reaction:add" | "reaction:remove" | "message:read" | "message:received" | "message:confirm" => {
            About::Message
        }
        _ => About::Unknown,
    }
}

/// A message's id as clients know it; `at` is when it was appended.
fn message_id(id: MessageId, at: Time) -> String {
    id.to_opaque(at.seconds32())
}

/// An event with one object; none for what cannot be written, which nothing here is.
fn emit<T: Serialize>(name: &'static str, payload: &T) -> Option<Emit> {
    Some(Emit::kept(name, vec![serde_json::to_string(payload).ok()?]))
}

/// An acknowledgement with one object.
fn ack<T: Serialize>(payload: &T) -> Option<Say> {
    Some(Say::Ack(vec![serde_json::to_string(payload).ok()?]))
}
