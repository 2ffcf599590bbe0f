//! The sechat dialect.

use parlance_model::{Answer, Event, Reject};

use crate::{
    Accent, Encoded, Tag,
    codec::{Codec, Context, Decoded},
};

/// The sechat codec.
pub(crate) struct Sechat;

impl Codec for Sechat {
    fn decode(_text: &str, _cx: &mut Context) -> Decoded {
        Decoded::Nothing
    }

    fn answer(_tag: &Tag, _result: &Result<Answer, Reject>, _cx: &mut Context) -> Vec<String> {
        Vec::new()
    }

    fn encode(_accent: Accent, _event: &Event) -> Option<Encoded> {
        None
    }
}
