//! The sechat dialect: SeChat Realtime Protocol v2.0 and its legacy v1, over raw JSON frames whose `type`
//! names the event, and over Socket.IO, where the event's name does.
//!
//! Owns: sechat's field names, its error codes and the choice of edition. Must not know: who is allowed
//! what, nor anything of other dialects.

mod answer;
mod decode;
mod encode;
mod errors;
mod io;

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
        answered(tag, result, cx).map(|(_, text)| text).into_iter().collect()
    }

    fn encode(accent: Accent, event: &Event) -> Option<Encoded> {
        encode::encode(accent, event)
    }
}

/// An event type and the text of its frame.
type Frame = (&'static str, String);

/// The frame that answers a request; most are answered with silence.
fn answered(tag: &Tag, result: &Result<Answer, Reject>, cx: &Context) -> Option<Frame> {
    match result {
        Ok(answer) => answer::answer(tag, answer, cx),
        Err(reject) => errors::error(tag, reject, cx.now),
    }
}

/// Whether the edition is v1.
const fn is_legacy(accent: Accent) -> bool {
    matches!(accent, Accent::SechatV1 | Accent::SechatIoV1)
}

/// What a client knows a message by: its author's own id, else the server's.
fn message_id(client_id: Option<&str>, id: MessageId, at: Time) -> String {
    client_id.map_or_else(|| id.to_opaque(at.seconds32()), str::to_owned)
}

/// One frame.
fn frame<T: Serialize>(r#type: &'static str, frame: &T) -> Option<Frame> {
    Some((r#type, serde_json::to_string(frame).ok()?))
}
