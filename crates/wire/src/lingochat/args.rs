//! A command's arguments, read alike in both editions.
//!
//! Owns: the aliases of a field, the bounds of a value. Must not know: which command takes which field.

use std::sync::Arc;

use parlance_model::{ConversationId, MAX_NUMBER, MessageId, RawJson, Reject, Since, Time};
use serde_json::value::RawValue;

use super::arg;
use crate::{
    codec::Call,
    json::{self, Object},
};

/// A field by its name, which refusals give, and its aliases.
pub(super) type Names = &'static [&'static str];

pub(super) const CONVERSATION: Names = &["conversationId", "conversation_id", "roomId", "room_id"];
pub(super) const MESSAGE: Names = &["messageId", "message_id"];
pub(super) const SINCE: Names = &["since"];
pub(super) const TEXT: Names = &["text", "content", "body"];
pub(super) const CLIENT_ID: Names = &["clientMessageId", "client_message_id"];
pub(super) const SENDER_LANGUAGE: Names = &["senderLanguage", "sender_language"];
pub(super) const RECIPIENT_LANGUAGE: Names = &["recipientLanguage", "recipient_language"];
pub(super) const TRANSLATED_TEXT: Names = &["translatedText", "translated_text"];
pub(super) const LANGUAGE: Names = &["language"];

/// Longest message id a client may choose.
const CLIENT_ID_CHARS: usize = 128;
/// Longest language tag (RFC 5646 section 4.4.1).
const LANGUAGE_CHARS: usize = 35;

/// The arguments of one command.
pub(super) struct Args<'a> {
    /// Whether it is of the object edition: its first argument is an object.
    pub object: bool,
    /// What the command is about, in the positional edition: its first argument.
    first: Option<&'a RawValue>,
    /// The second argument of the positional edition, when it is no object.
    second: Option<&'a RawValue>,
    /// The object edition's one argument; the positional edition's second, when it is an object.
    fields: Object<'a>,
}

/// A conversation as a client names it.
pub(super) struct Place {
    /// The id; for a number, its digits.
    pub id: ConversationId,
    /// Its number, when it is named by number.
    pub number: Option<u32>,
    /// The name as it came, for the answer: JSON.
    pub said: String,
}

impl<'a> Args<'a> {
    /// Tells the edition and sorts the arguments.
    pub fn of(call: &Call<'a>, max_depth: usize) -> Result<Self, Reject> {
        let at = |index: usize| call.args.get(index).copied().filter(|v| v.get() != "null");
        let object = at(0).is_some_and(is_object);
        let (first, second) = if object { (None, None) } else { (at(0), at(1)) };
        let holder = if object { at(0) } else { second.filter(|v| is_object(v)) };
        let fields = holder.map(|v| json::object(v.get(), max_depth)).transpose()?.unwrap_or_default();
        Ok(Self { object, first, second: second.filter(|v| !is_object(v)), fields })
    }

    /// A field under any of its names; the first one that is there counts.
    fn field(&self, names: Names) -> Option<&'a RawValue> {
        names.iter().find_map(|name| json::member(&self.fields, name))
    }

    /// A text field.
    fn text(&self, names: Names) -> Result<Option<String>, Reject> {
        let Some(value) = self.field(names) else { return Ok(None) };
        serde_json::from_str(value.get())
            .map(Some)
            .map_err(|_| json::invalid(name(names), "must be a string"))
    }

    /// The conversation the command is about, if it names one.
    pub fn place(&self) -> Result<Option<Place>, Reject> {
        let value = if self.object { self.field(CONVERSATION) } else { self.first };
        value.map(place).transpose()
    }

    /// The message the command is about.
    pub fn message(&self) -> Result<MessageId, Reject> {
        let value = if self.object { self.field(MESSAGE) } else { self.first };
        message(value.ok_or_else(|| json::missing(name(MESSAGE)))?)
            .ok_or_else(|| json::invalid(name(MESSAGE), "is no message id"))
    }

    /// The conversation beside a message: only the object edition has room for it.
    pub fn place_of_message(&self) -> Result<Option<Place>, Reject> {
        if self.object { self.place() } else { Ok(None) }
    }

    /// Where a history begins. A client that has nothing yet says so with nothing, or with 0.
    pub fn since(&self) -> Result<Since, Reject> {
        let value = self.field(SINCE).or(self.second).filter(|v| v.get() != "0");
        let Some(value) = value else { return Ok(Since::Beginning) };
        let time = || serde_json::from_str::<String>(value.get()).ok().and_then(|t| Time::parse_iso(&t));
        message(value)
            .map(Since::Message)
            .or_else(|| time().map(Since::Time))
            .ok_or_else(|| json::invalid(name(SINCE), "must be an ISO time or a message id"))
    }

    /// The message's text, of 1 to `max` characters.
    pub fn body(&self, max: usize) -> Result<Arc<str>, Reject> {
        let text = self.text(TEXT)?.ok_or_else(|| json::missing(name(TEXT)))?;
        let why = || json::invalid(name(TEXT), &format!("must be 1 to {max} characters"));
        if text.is_empty() || longer(&text, max) { Err(why()) } else { Ok(text.into()) }
    }

    /// A text beside the message; an empty one is as good as none.
    pub fn aside(&self, names: Names, max: usize) -> Result<Option<String>, Reject> {
        match self.text(names)?.filter(|t| !t.is_empty()) {
            Some(text) if longer(&text, max) => {
                Err(json::invalid(name(names), &format!("must be at most {max} characters")))
            }
            text => Ok(text),
        }
    }

    /// A language: clients name it by tag or in words, which may be anything but markup.
    pub fn language(&self, names: Names) -> Result<Option<String>, Reject> {
        let language = self.aside(names, LANGUAGE_CHARS)?;
        if language.as_deref().is_some_and(has_markup) {
            return Err(json::invalid(name(names), "must be a language"));
        }
        Ok(language)
    }

    /// The client's own id for a message. Others are told it as it is, so it is no place for markup.
    pub fn client_id(&self) -> Result<Option<Arc<str>>, Reject> {
        let Some(id) = self.text(CLIENT_ID)? else { return Ok(None) };
        if id.is_empty() || longer(&id, CLIENT_ID_CHARS) || has_markup(&id) {
            return Err(json::invalid(
                name(CLIENT_ID),
                "must be 1 to 128 printable characters without markup",
            ));
        }
        Ok(Some(id.into()))
    }

    /// The client's metadata; `encrypted: true` beside the text counts as part of it.
    pub fn metadata(&self, max_depth: usize) -> Result<Option<RawJson>, Reject> {
        let encrypted = self.field(&["encrypted"]).filter(|v| v.get() == "true");
        let Some(value) = self.field(&["metadata"]) else {
            return Ok(encrypted.map(|_| RawJson::trusted(r#"{"encrypted":true}"#)));
        };
        let wrong = |_| json::invalid("metadata", "must be an object");
        let mut members: Object<'_> = serde_json::from_str(value.get()).map_err(wrong)?;
        let text = match encrypted {
            Some(encrypted) => {
                members.insert("encrypted".into(), encrypted);
                arg(&members)
            }
            None => value.get().to_owned(),
        };
        let too_deep = |why| json::invalid("metadata", &format!("is wrong: {why}"));
        RawJson::new(&text, max_depth).map(Some).map_err(too_deep)
    }
}

fn is_object(value: &RawValue) -> bool {
    value.get().starts_with('{')
}

fn name(names: Names) -> &'static str {
    names.first().copied().unwrap_or_default()
}

fn longer(text: &str, max: usize) -> bool {
    text.chars().nth(max).is_some()
}

fn has_markup(text: &str) -> bool {
    text.chars().any(|c| c.is_control() || matches!(c, '<' | '>' | '&' | '"' | '\''))
}

fn place(value: &RawValue) -> Result<Place, Reject> {
    let wrong = |why: &str| json::invalid(name(CONVERSATION), why);
    let said = value.get();
    if said.starts_with('"') {
        let id: String = serde_json::from_str(said).map_err(|_| wrong("is wrong"))?;
        let number = number(&id);
        let id = ConversationId::parse(&id).map_err(|why| wrong(&format!("is wrong: {why}")))?;
        let said = arg(id.as_str());
        return Ok(Place { id, number, said });
    }
    let number = number(said).ok_or_else(|| wrong("must be a number from 0 to 2147483647, or a string"))?;
    let id = ConversationId::parse(&number.to_string()).map_err(|why| wrong(&format!("is wrong: {why}")))?;
    Ok(Place { id, number: Some(number), said: said.to_owned() })
}

/// A conversation's number, of digits alone. `007` is no number: it would be another conversation's.
fn number(digits: &str) -> Option<u32> {
    let plain = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|n| plain && *n < MAX_NUMBER)
}

/// A message id: the integer lingochat is told, or any other rendering of it.
fn message(value: &RawValue) -> Option<MessageId> {
    if let Ok(integer) = serde_json::from_str::<u64>(value.get()) {
        return MessageId::from_integer(integer);
    }
    MessageId::from_any(&serde_json::from_str::<String>(value.get()).ok()?)
}
