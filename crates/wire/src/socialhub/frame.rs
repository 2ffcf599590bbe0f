//! The outgoing envelope, shared by events and answers. Must not know: what the payloads say.

use parlance_model::{RawJson, Time};
use serde::Serialize;
use serde_json::value::RawValue;

/// `{id,type,payload,channel?,ack_id?,timestamp}`.
#[derive(Serialize)]
pub(super) struct Frame<'a, P> {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_id: Option<&'a str>,
    pub payload: P,
    pub timestamp: String,
}

impl<'a, P: Serialize> Frame<'a, P> {
    /// An envelope without channel and acknowledgement.
    pub fn new(id: String, kind: &'a str, payload: P, at: Time) -> Self {
        Self { id, kind, channel: None, ack_id: None, payload, timestamp: at.to_iso() }
    }

    /// On a channel.
    pub fn on(mut self, channel: String) -> Self {
        self.channel = Some(channel);
        self
    }

    /// The JSON text. `None` cannot happen with the payloads of this dialect: all keys are strings.
    pub fn text(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }
}

/// A carried value for serialisation; `None` (shown as null) when it is no JSON after all, so that one bad
/// record cannot break the envelope around it.
pub(super) fn raw(value: &RawJson) -> Option<&RawValue> {
    serde_json::from_str(value.as_str()).ok()
}
