//! Chooses the dialect's translation, and the small JSON helpers all share.
//!
//! Owns: what leaves and enters a dialect. Must not know: what carries it, what is done with it.

use parlance_model::Time;
use parlance_wire::{Dialect, Framing};
use serde_json::Value;

use crate::update::{Ask, Incoming, Outgoing};
use crate::{chatgenius, famly, lingochat, sechat, socialhub};

/// Who speaks, and when.
pub(crate) struct Speaker<'a> {
    pub(crate) dialect: Dialect,
    pub(crate) framing: Framing,
    pub(crate) user: &'a str,
    pub(crate) now: Time,
}

/// What is written.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Utterance {
    /// A raw frame.
    Frame(Value),
    /// A Socket.IO event.
    Event(Event),
}

/// See [`Utterance::Event`].
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) args: Vec<Value>,
    /// The acknowledgement that is asked for, if any.
    pub(crate) ask: Option<Ask>,
}

impl Event {
    /// An event nobody answers.
    pub(crate) fn of(name: impl Into<String>, args: Vec<Value>) -> Self {
        Self { name: name.into(), args, ask: None }
    }

    /// With an acknowledgement asked for.
    pub(crate) fn asking(mut self, ask: Ask) -> Self {
        self.ask = Some(ask);
        self
    }
}

impl Speaker<'_> {
    /// The words for what is to be said; `None` when the dialect has none.
    pub(crate) fn encode(&self, outgoing: &Outgoing) -> Option<Utterance> {
        if let Outgoing::Raw(frame) = outgoing {
            return self.unread(frame);
        }
        let event = match self.dialect {
            Dialect::Sechat => return sechat::encode(self, outgoing).map(|frame| self.sechat(frame)),
            Dialect::Socialhub => return socialhub::encode(self, outgoing).map(Utterance::Frame),
            Dialect::Lingochat => lingochat::encode(outgoing),
            Dialect::Famly => famly::encode(outgoing),
            Dialect::Chatgenius => chatgenius::encode(outgoing),
        };
        event.map(Utterance::Event)
    }

    /// What the application says in its own words.
    fn unread(&self, frame: &Value) -> Option<Utterance> {
        if self.framing == Framing::Raw {
            return Some(Utterance::Frame(frame.clone()));
        }
        let (name, args) = frame.as_array()?.split_first()?;
        Some(Utterance::Event(Event::of(name.as_str()?, args.to_vec())))
    }

    fn sechat(&self, frame: Value) -> Utterance {
        match self.framing {
            Framing::Raw => Utterance::Frame(frame),
            Framing::Socketio => Utterance::Event(Event::of(text(&frame, "type"), vec![frame])),
        }
    }

    /// What a raw frame says, oldest first.
    pub(crate) fn frame(&self, frame: &Value) -> Vec<Incoming> {
        match self.dialect {
            Dialect::Sechat => sechat::decode(frame),
            Dialect::Socialhub => vec![socialhub::decode(frame)],
            Dialect::Lingochat | Dialect::Famly | Dialect::Chatgenius => Vec::new(),
        }
    }

    /// What a Socket.IO event says, oldest first.
    pub(crate) fn event(&self, name: &str, args: &[Value]) -> Vec<Incoming> {
        let first = args.first().unwrap_or(&Value::Null);
        let said = match self.dialect {
            Dialect::Sechat => {
                let mut frame = first.clone();
                if let Some(fields) = frame.as_object_mut() {
                    fields.insert("type".to_owned(), name.into());
                }
                return sechat::decode(&frame);
            }
            Dialect::Lingochat => lingochat::decode(name, args),
            Dialect::Famly => famly::decode(name, first),
            Dialect::Chatgenius => chatgenius::decode(name, first),
            Dialect::Socialhub => None,
        };
        vec![said.unwrap_or_else(|| Incoming::App {
            kind: name.to_owned(),
            channel: None,
            payload: first.clone(),
        })]
    }

    /// What an acknowledgement says.
    pub(crate) fn answer(&self, ask: &Ask, args: &[Value]) -> Vec<Incoming> {
        let first = args.first().unwrap_or(&Value::Null);
        match self.dialect {
            Dialect::Lingochat => lingochat::answer(ask, first),
            Dialect::Famly => famly::answer(ask, first),
            Dialect::Chatgenius => chatgenius::answer(ask, first),
            Dialect::Sechat | Dialect::Socialhub => Vec::new(),
        }
    }
}

/// The conversation a channel stands for.
pub(crate) fn conversation(channel: &str) -> Option<&str> {
    channel.strip_prefix("conversation:")
}

/// A text field; empty when it is missing or something else.
pub(crate) fn text(object: &Value, name: &str) -> String {
    optional(object, name).unwrap_or_default()
}

/// A text field, if it is there. Numbers are taken as their digits.
pub(crate) fn optional(object: &Value, name: &str) -> Option<String> {
    word(object.get(name)?)
}

/// A text, or a number as its digits.
pub(crate) fn word(value: &Value) -> Option<String> {
    match value {
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
