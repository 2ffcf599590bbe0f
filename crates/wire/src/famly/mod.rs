//! The famly dialect: Famly's Socket.IO realtime messaging.
//!
//! Owns: its event and field names, its errors. Must not know: who is allowed what, nor other dialects.

mod answer;
mod decode;
mod encode;
pub(crate) mod errors;
pub(crate) mod message;

use parlance_model::{Answer, Event, Reject};
use serde::Serialize;

use crate::{
    Accent, Tag,
    codec::{Call, Context, Decoded, Emit, EventCodec, Refusal, Say},
};

/// The famly codec.
pub(crate) struct Famly;

impl EventCodec for Famly {
    fn decode(call: &Call<'_>, cx: &mut Context) -> Decoded {
        decode::decode(call, cx)
    }

    fn answer(tag: &Tag, result: &Result<Answer, Reject>, cx: &mut Context) -> Vec<Say> {
        answer::answer(tag, result, cx)
    }

    fn encode(accent: Accent, event: &Event) -> Vec<Emit> {
        encode::encode(accent, event)
    }

    fn refuse(reject: &Reject) -> Refusal {
        errors::refusal(reject)
    }
}

/// One argument's text. Nothing here can fail to serialize: strings, numbers and booleans.
fn text<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
