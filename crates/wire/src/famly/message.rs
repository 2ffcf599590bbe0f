//! A message as famly clients know it: the nested object of `message:new`, of notifications and of the HTTP
//! backfill.
//!
//! Owns: its field names and its id. Must not know: where it is shown.

use parlance_model::{MessageEvent, MessageId, Time};
use serde::Serialize;

/// See [`nested`].
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Nested<'a> {
    #[serde(rename = "_id")]
    pub(super) id: String,
    pub(super) chat_id: &'a str,
    pub(super) sender_id: &'a str,
    pub(super) body: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_id: Option<&'a str>,
    pub(super) created_at: String,
    edited_at: Option<&'a str>,
    deleted: bool,
}

/// The message. Messages are immutable here: it is never edited and never deleted.
pub(crate) fn nested(event: &MessageEvent) -> Nested<'_> {
    Nested {
        id: id(event.id, event.at),
        chat_id: event.conversation.as_str(),
        sender_id: event.message.author.id.as_str(),
        body: &event.message.body,
        client_id: event.message.client_id.as_deref(),
        created_at: event.at.to_iso(),
        edited_at: None,
        deleted: false,
    }
}

/// A message id: 24 hex digits that compare in order of age. `at` is the time of the message itself.
pub(crate) fn id(id: MessageId, at: Time) -> String {
    id.to_hex24(at.seconds32())
}
