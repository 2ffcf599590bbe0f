//! sechat over Socket.IO: the event's name is the frame's `type`, its one argument the frame.
//!
//! Owns: how frames become events and acknowledgements. Must not know: what is in a frame.

use parlance_model::{Answer, Event, Reject, RejectCode};

use super::{Frame, Sechat, answered, decode, encode, errors};
use crate::{
    Accent, Tag,
    codec::{Call, Context, Decoded, Emit, EventCodec, Refusal, Say},
};

/// Acknowledges what the dialect answers with silence.
const DONE: &str = r#"{"status":"success"}"#;

impl EventCodec for Sechat {
    fn decode(call: &Call<'_>, cx: &mut Context) -> Decoded {
        decode::decode_call(call, cx)
    }

    /// A client that asked for an acknowledgement gets the frame there too: it may wait for either.
    fn answer(tag: &Tag, result: &Result<Answer, Reject>, cx: &mut Context) -> Vec<Say> {
        let Some((name, text)) = answered(tag, result, cx) else {
            return vec![Say::Ack(vec![DONE.to_owned()])];
        };
        let ack = tag.packet.map(|_| Say::Ack(vec![text.clone()]));
        std::iter::once(Say::Emit(Emit::kept(name, vec![text]))).chain(ack).collect()
    }

    fn encode(accent: Accent, event: &Event) -> Vec<Emit> {
        let class = encode::class(event);
        let emit = |(name, text): Frame| Emit { class, ..Emit::kept(name, vec![text]) };
        let mut emits: Vec<Emit> = encode::frames(accent, event).into_iter().map(emit).collect();
        if let Event::Message(message) = event {
            let last = emits.pop().map(|last| last.at(message.number, message.seq));
            emits.extend(last);
        }
        emits
    }

    fn refuse(reject: &Reject) -> Refusal {
        let code = errors::code(reject.code);
        let message = match reject.code {
            RejectCode::Unauthenticated
            | RejectCode::InvalidToken
            | RejectCode::TokenExpired
            | RejectCode::TokenExpiring => {
                format!("Unauthorized: {}", reject.message)
            }
            _ => reject.message.to_string(),
        };
        let retry = reject.retry_after_ms.map(|ms| format!(",\"retryAfterMs\":{ms}")).unwrap_or_default();
        Refusal::Error(message, Some(format!("{{\"code\":\"{code}\"{retry}}}")))
    }
}
