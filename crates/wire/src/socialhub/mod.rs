//! The socialhub dialect (SocialHub Realtime Service API): one JSON envelope each way over raw WebSocket.
//!
//! Owns: the vocabulary's names and shapes. Must not know: who may do what, or which integer a recipient's
//! event has: log events are left open for that tail.

mod answer;
mod decode;
mod encode;
mod errors;
mod frame;
pub mod poll;

pub use encode::is_numbered;
pub use errors::{code, http_status, refusal_body};

use parlance_model::{Answer, Event, Reject};

use crate::{
    Accent, Encoded, Tag,
    codec::{Codec, Context, Decoded},
};

/// The socialhub codec.
pub(crate) struct Socialhub;

impl Codec for Socialhub {
    fn decode(text: &str, cx: &mut Context) -> Decoded {
        decode::decode(text, cx)
    }

    fn answer(tag: &Tag, result: &Result<Answer, Reject>, cx: &mut Context) -> Vec<String> {
        answer::answer(tag, result, cx)
    }

    fn encode(_accent: Accent, event: &Event) -> Option<Encoded> {
        encode::encode(event)
    }
}
