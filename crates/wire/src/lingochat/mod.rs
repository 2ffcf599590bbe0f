//! The lingochat dialect: LingoChat's Socket.IO events, in two editions (positional arguments, one object)
//! and two vocabularies (`conversation:*`, and `room:*` for groups).
//!
//! Owns: its event and field names, its refusals and the choice of edition. Must not know: who is allowed
//! what, nor anything of other dialects.

mod answer;
mod args;
mod decode;
mod encode;
mod errors;

use std::borrow::Cow;

use parlance_model::{Answer, Event, Reject};
use serde::{Deserialize, Serialize};

use crate::{
    Accent, Tag,
    codec::{Call, Context, Decoded, Emit, EventCodec, Refusal, Say},
};

/// The lingochat codec.
pub(crate) struct Lingochat;

impl EventCodec for Lingochat {
    fn decode(call: &Call<'_>, cx: &mut Context) -> Decoded {
        decode::decode(call, cx)
    }

    fn answer(tag: &Tag, result: &Result<Answer, Reject>, cx: &mut Context) -> Vec<Say> {
        match result {
            Ok(answer) => answer::answer(tag, answer, cx),
            Err(reject) => errors::refused(reject),
        }
    }

    fn encode(accent: Accent, event: &Event) -> Vec<Emit> {
        encode::encode(accent, event)
    }

    fn refuse(reject: &Reject) -> Refusal {
        errors::connect(reject)
    }
}

/// What a message carries beside its text, as it is kept with the message. A language is kept as the author
/// names it.
#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Extra<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    sender_language: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    recipient_language: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    translated_text: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    language: Option<Cow<'a, str>>,
}

/// One argument's JSON text.
fn arg<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}
