//! Removing markup from message texts: what is left is copied byte for byte.

use std::borrow::Cow;

use parlance_model::{Event, RawJson};

/// The text without tags, comments, and the content of scripts and styles.
pub fn strip(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text)
}

/// The event with its message's text stripped, unless the message is marked as encrypted.
pub fn event(event: &Event) -> Cow<'_, Event> {
    Cow::Borrowed(event)
}

/// Whether a message's metadata marks its text as encrypted.
pub fn is_encrypted(metadata: Option<&RawJson>) -> bool {
    #[derive(serde::Deserialize)]
    struct Mark {
        #[serde(default)]
        encrypted: bool,
    }
    metadata.is_some_and(|m| serde_json::from_str::<Mark>(m.as_str()).is_ok_and(|mark| mark.encrypted))
}
