//! The chatgenius dialect: ChatGenius' Socket.IO events.
//!
//! Owns: its event and field names, its errors. Must not know: who is allowed what, nor other dialects.

use parlance_model::{Answer, Event, Reject};

use crate::{
    Accent, Tag,
    codec::{Call, Context, Decoded, Emit, EventCodec, Refusal, Say},
};

/// The chatgenius codec.
pub(crate) struct Chatgenius;

impl EventCodec for Chatgenius {
    fn decode(_call: &Call<'_>, _cx: &mut Context) -> Decoded {
        Decoded::Nothing
    }

    fn answer(_tag: &Tag, _result: &Result<Answer, Reject>, _cx: &mut Context) -> Vec<Say> {
        Vec::new()
    }

    fn encode(_accent: Accent, _event: &Event) -> Vec<Emit> {
        Vec::new()
    }

    fn refuse(reject: &Reject) -> Refusal {
        Refusal::Error(reject.message.to_string(), None)
    }
}
