//! The sechat dialect: SeChat Realtime Protocol v2.0 and its legacy v1, over raw JSON frames whose `type`
//! names the event.
//!
//! Owns: sechat's field names, its error codes and the choice of edition. Must not know: who is allowed
//! what, nor anything of other dialects.

mod answer;
mod decode;
mod encode;
mod errors;

use parlance_model::{Answer, Event, MessageId, Reject, Time};
use serde::Serialize;

use crate::{
    Accent, Encoded, Tag,
    codec::{Codec, Context, Decoded},
};

/// The sechat codec.
pub(crate) struct Sechat;

impl Codec for Sechat {
    fn decode(text: &str, cx: &mut Context) -> Decoded {
        decode::decode(text, cx)
    }

    fn answer(tag: &Tag, result: &Result<Answer, Reject>, cx: &mut Context) -> Vec<String> {
        match result {
            Ok(answer) => answer::answer(tag, answer, cx),
            Err(reject) => errors::error(tag, reject, cx.now).into_iter().collect(),
        }
    }

    fn encode(accent: Accent, event: &Event) -> Option<Encoded> {
        encode::encode(accent, event)
    }
}

/// What a client knows a message by: its author's own id, else the server's.
fn message_id(client_id: Option<&str>, id: MessageId, at: Time) -> String {
    client_id.map_or_else(|| id.to_opaque(at.seconds32()), str::to_owned)
}

/// One frame's text.
fn text<T: Serialize>(frame: &T) -> Option<String> {
    serde_json::to_string(frame).ok()
}
