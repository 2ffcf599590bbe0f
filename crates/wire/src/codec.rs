//! What every dialect provides, and the dispatch over the closed set of dialects.

use std::borrow::Cow;

use parlance_model::{Answer, Event, Reject, Request, Time, UserId};
use serde_json::value::RawValue;

use crate::{
    Accent, Class, Dialect, Encoded, Framing, Offset, Style, Tag, chatgenius::Chatgenius, emit, famly::Famly,
    lingochat::Lingochat, sanitise, sechat::Sechat, socialhub::Socialhub,
};

/// What a codec may use while it handles one frame or answer of one connection.
#[derive(Debug)]
pub(crate) struct Context {
    /// The connection's accent. A codec sets it at the first command, before anything is answered.
    pub accent: Accent,
    /// Whether the accent is settled: a first command was seen.
    pub settled: bool,
    /// The time of this call.
    pub now: Time,
    /// Differs between connections, so that made-up ids differ.
    pub salt: u64,
    /// Counts made-up ids.
    pub counter: u64,
    /// Deepest JSON accepted.
    pub max_depth: usize,
    /// Markup is removed from what is shown to clients.
    pub strip: bool,
    /// Whom the connection was authenticated as, once known.
    pub user: Option<UserId>,
}

/// A decoded frame.
pub(crate) enum Decoded {
    /// Hand it to the gateway and answer it under the tag.
    Request(Tag, Request),
    /// Nothing to do.
    Nothing,
    /// Refused for its shape: answer under the tag.
    Refused(Tag, Reject),
}

/// A codec of raw JSON frames. Pure; keeps no state but what [`Context`] holds.
pub(crate) trait Codec {
    /// Reads one text frame.
    fn decode(text: &str, cx: &mut Context) -> Decoded;

    /// The texts that answer a request, in order; none where the dialect answers with silence.
    fn answer(tag: &Tag, result: &Result<Answer, Reject>, cx: &mut Context) -> Vec<String>;

    /// The event in this accent; `None` where the accent has no word for it.
    fn encode(accent: Accent, event: &Event) -> Option<Encoded>;
}

/// One Socket.IO event of a client.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its arguments, unread; at most as deep as the connection's limit.
    pub args: &'a [&'a RawValue],
    /// The packet's ack id, to be put into [`Tag::packet`].
    pub packet: Option<u64>,
}

/// One Socket.IO event for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Emit {
    /// Its name.
    pub name: Cow<'static, str>,
    /// Its arguments, as JSON texts.
    pub args: Vec<String>,
    /// Drop policy.
    pub class: Class,
    /// The log event it carries. Of several emits for one log event only the last has it.
    pub offset: Option<Offset>,
}

impl Emit {
    /// An event that must not be dropped.
    pub fn kept(name: impl Into<Cow<'static, str>>, args: Vec<String>) -> Self {
        Self { name: name.into(), args, class: Class::Kept, offset: None }
    }

    /// An event that may be dropped at a slow recipient.
    pub fn passing(name: impl Into<Cow<'static, str>>, args: Vec<String>) -> Self {
        Self { class: Class::Passing, ..Self::kept(name, args) }
    }

    /// The same, as the (last) word on a log event.
    pub const fn at(mut self, number: u32, seq: u64) -> Self {
        self.offset = Some(Offset { number, seq });
        self
    }
}

/// What a Socket.IO dialect says to one client in answer to something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Say {
    /// An event.
    Emit(Emit),
    /// The acknowledgement, with its arguments as JSON texts. Not sent when the client asked for none.
    Ack(Vec<String>),
}

/// How a dialect turns a CONNECT down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// CONNECT_ERROR with this message and data (a JSON text).
    Error(String, Option<String>),
    /// CONNECT succeeds, these follow, then DISCONNECT.
    Told(Vec<Emit>),
}

/// A codec of Socket.IO events. Pure; keeps no state but what [`Context`] holds.
pub(crate) trait EventCodec {
    /// Reads one event. [`Tag::packet`] must be [`Call::packet`].
    fn decode(call: &Call<'_>, cx: &mut Context) -> Decoded;

    /// What answers a request, in order. Under a default tag: a word that answers nothing in particular
    /// (an expired token), or the greeting [`Answer::Welcome`].
    fn answer(tag: &Tag, result: &Result<Answer, Reject>, cx: &mut Context) -> Vec<Say>;

    /// The event in this accent; none where the accent has no word for it.
    fn encode(accent: Accent, event: &Event) -> Vec<Emit>;

    /// How a CONNECT is turned down.
    fn refuse(reject: &Reject) -> Refusal;
}

pub(crate) fn decode(dialect: Dialect, text: &str, cx: &mut Context) -> Decoded {
    match dialect {
        Dialect::Sechat => <Sechat as Codec>::decode(text, cx),
        Dialect::Socialhub => Socialhub::decode(text, cx),
        Dialect::Lingochat | Dialect::Famly | Dialect::Chatgenius => Decoded::Nothing,
    }
}

pub(crate) fn answer(
    dialect: Dialect,
    tag: &Tag,
    result: &Result<Answer, Reject>,
    cx: &mut Context,
) -> Vec<String> {
    match dialect {
        Dialect::Sechat => <Sechat as Codec>::answer(tag, result, cx),
        Dialect::Socialhub => Socialhub::answer(tag, result, cx),
        Dialect::Lingochat | Dialect::Famly | Dialect::Chatgenius => Vec::new(),
    }
}

pub(crate) fn decode_event(dialect: Dialect, call: &Call<'_>, cx: &mut Context) -> Decoded {
    match dialect {
        Dialect::Sechat => <Sechat as EventCodec>::decode(call, cx),
        Dialect::Lingochat => Lingochat::decode(call, cx),
        Dialect::Famly => Famly::decode(call, cx),
        Dialect::Chatgenius => Chatgenius::decode(call, cx),
        Dialect::Socialhub => Decoded::Nothing,
    }
}

pub(crate) fn answer_event(
    dialect: Dialect,
    tag: &Tag,
    result: &Result<Answer, Reject>,
    cx: &mut Context,
) -> Vec<Say> {
    match dialect {
        Dialect::Sechat => <Sechat as EventCodec>::answer(tag, result, cx),
        Dialect::Lingochat => Lingochat::answer(tag, result, cx),
        Dialect::Famly => Famly::answer(tag, result, cx),
        Dialect::Chatgenius => Chatgenius::answer(tag, result, cx),
        Dialect::Socialhub => Vec::new(),
    }
}

pub(crate) fn refuse(dialect: Dialect, reject: &Reject) -> Refusal {
    match dialect {
        Dialect::Sechat => Sechat::refuse(reject),
        Dialect::Lingochat => Lingochat::refuse(reject),
        Dialect::Famly => Famly::refuse(reject),
        Dialect::Chatgenius => Chatgenius::refuse(reject),
        Dialect::Socialhub => Refusal::Error(reject.message.to_string(), None),
    }
}

/// Encodes an event for every recipient of an accent and style; `None` where the accent has no word for it.
///
/// A log event of a sequenced accent ([`Accent::is_sequenced`]) comes back open: see [`Encoded::seal`]; an
/// event outside the log whose last argument is a string likewise: see [`Encoded::seal_offset`].
pub fn encode(accent: Accent, style: &Style, event: &Event) -> Option<Encoded> {
    let event = if style.strip { sanitise::event(event) } else { Cow::Borrowed(event) };
    if accent.framing() == Framing::Raw {
        return match accent.dialect() {
            Dialect::Socialhub => Socialhub::encode(accent, &event),
            _ => <Sechat as Codec>::encode(accent, &event),
        };
    }
    let emits = match accent.dialect() {
        Dialect::Sechat => <Sechat as EventCodec>::encode(accent, &event),
        Dialect::Lingochat => Lingochat::encode(accent, &event),
        Dialect::Famly => Famly::encode(accent, &event),
        Dialect::Chatgenius => Chatgenius::encode(accent, &event),
        Dialect::Socialhub => Vec::new(),
    };
    emit::together(&emits, style)
}
