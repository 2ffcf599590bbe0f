//! What every dialect provides, and the dispatch over the closed set of dialects.

use parlance_model::{Answer, Event, Reject, Request, Time, UserId};

use crate::{Accent, Dialect, Encoded, Tag, sechat::Sechat, socialhub::Socialhub};

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

/// A dialect's codec. Pure; keeps no state but what [`Context`] holds.
pub(crate) trait Codec {
    /// Reads one text frame.
    fn decode(text: &str, cx: &mut Context) -> Decoded;

    /// The texts that answer a request, in order; none where the dialect answers with silence.
    fn answer(tag: &Tag, result: &Result<Answer, Reject>, cx: &mut Context) -> Vec<String>;

    /// The event in this accent; `None` where the accent has no word for it.
    fn encode(accent: Accent, event: &Event) -> Option<Encoded>;
}

pub(crate) fn decode(dialect: Dialect, text: &str, cx: &mut Context) -> Decoded {
    match dialect {
        Dialect::Sechat => Sechat::decode(text, cx),
        Dialect::Socialhub => Socialhub::decode(text, cx),
    }
}

pub(crate) fn answer(
    dialect: Dialect,
    tag: &Tag,
    result: &Result<Answer, Reject>,
    cx: &mut Context,
) -> Vec<String> {
    match dialect {
        Dialect::Sechat => Sechat::answer(tag, result, cx),
        Dialect::Socialhub => Socialhub::answer(tag, result, cx),
    }
}

/// Encodes an event for every recipient of an accent; `None` where the accent has no word for it.
///
/// A log event of a sequenced accent ([`Accent::is_sequenced`]) comes back open: see [`Encoded::seal`].
pub fn encode(accent: Accent, event: &Event) -> Option<Encoded> {
    match accent.dialect() {
        Dialect::Sechat => Sechat::encode(accent, event),
        Dialect::Socialhub => Socialhub::encode(accent, event),
    }
}
