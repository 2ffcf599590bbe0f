//! Chooses the dialect's translation, and the small JSON helpers both share.

use parlance_model::Time;
use parlance_wire::Dialect;
use serde_json::Value;

use crate::update::{Incoming, Outgoing};
use crate::{sechat, socialhub};

/// Who speaks, and when.
pub(crate) struct Speaker<'a> {
    pub(crate) dialect: Dialect,
    pub(crate) user: &'a str,
    pub(crate) now: Time,
}

impl Speaker<'_> {
    /// The frame for what is to be said; `None` when the dialect has no word for it.
    pub(crate) fn encode(&self, outgoing: &Outgoing) -> Option<Value> {
        if let Outgoing::Raw(frame) = outgoing {
            return Some(frame.clone());
        }
        match self.dialect {
            Dialect::Sechat => sechat::encode(self, outgoing),
            Dialect::Socialhub => socialhub::encode(self, outgoing),
            // Not spoken yet: nothing is sent.
            Dialect::Lingochat | Dialect::Famly | Dialect::Chatgenius => None,
        }
    }

    /// What a frame says, oldest first.
    pub(crate) fn decode(&self, frame: &Value) -> Vec<Incoming> {
        match self.dialect {
            Dialect::Sechat => sechat::decode(frame),
            Dialect::Socialhub => vec![socialhub::decode(frame)],
            // Not spoken yet: nothing is understood.
            Dialect::Lingochat | Dialect::Famly | Dialect::Chatgenius => Vec::new(),
        }
    }
}

/// A text field; empty when it is missing or something else.
pub(crate) fn text(object: &Value, name: &str) -> String {
    optional(object, name).unwrap_or_default()
}

/// A text field, if it is there. Numbers are taken as their digits.
pub(crate) fn optional(object: &Value, name: &str) -> Option<String> {
    match object.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A flag; `false` when it is missing.
pub(crate) fn flag(object: &Value, name: &str) -> bool {
    object.get(name).and_then(Value::as_bool).unwrap_or(false)
}

/// A time, if it reads as one.
pub(crate) fn time(object: &Value, name: &str) -> Option<Time> {
    object.get(name).and_then(Value::as_str).and_then(Time::parse_iso)
}
