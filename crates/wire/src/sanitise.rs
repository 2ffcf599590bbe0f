//! Removing markup from message texts: what is left is copied byte for byte.
//!
//! Owns: which texts of a message people read, and that an encrypted one is never touched. Must not know:
//! which mounts ask for it.

mod markup;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use parlance_model::{Answer, Event, HistoryPage, MessageEvent, RawJson, Send};
use serde_json::value::{RawValue, to_raw_value};

use crate::json::Object;

/// How often a text is looked through: `<<b>i>` is markup again once `<b>` is gone. Honest texts take two.
const PASSES: usize = 8;
/// The one text beside the body that people read.
const TRANSLATED: &str = "translatedText";

/// The text without tags, comments, doctypes, and the content of scripts and styles, whether they are
/// finished or not. No entity is read or written.
///
/// The result holds no markup, and stripping it again changes nothing.
pub fn strip(text: &str) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..PASSES {
        if !text.contains('<') {
            return text;
        }
        text = match markup::spans(&text) {
            Some(spans) if spans.is_empty() => return text,
            Some(spans) => Cow::Owned(without(&text, &spans)),
            None => break,
        };
    }
    // Only somebody who nests markup to get it past us comes here.
    if text.contains('<') { Cow::Owned(text.replace('<', "")) } else { text }
}

/// The text between the spans.
fn without(text: &str, spans: &[Range<usize>]) -> String {
    let mut left = String::with_capacity(text.len());
    let mut from = 0;
    for span in spans {
        left.push_str(text.get(from..span.start).unwrap_or_default());
        from = span.end;
    }
    left.push_str(text.get(from..).unwrap_or_default());
    left
}

/// Whether a message's metadata marks its text as encrypted: `"encrypted": true`.
pub fn is_encrypted(metadata: Option<&RawJson>) -> bool {
    #[derive(serde::Deserialize)]
    struct Mark {
        #[serde(default)]
        encrypted: bool,
    }
    metadata.is_some_and(|m| serde_json::from_str::<Mark>(m.as_str()).is_ok_and(|mark| mark.encrypted))
}

/// The event with its message's texts stripped, unless the message is marked as encrypted.
pub fn event(event: &Event) -> Cow<'_, Event> {
    let stripped = match event {
        Event::Message(event) => message(event),
        _ => None,
    };
    stripped.map_or(Cow::Borrowed(event), |message| Cow::Owned(Event::Message(message)))
}

/// An answer with the texts of all messages in it stripped likewise.
pub fn answer(answer: &Answer) -> Cow<'_, Answer> {
    match answer {
        Answer::History(page) => {
            let messages = page.messages.iter().map(|m| message(m).unwrap_or_else(|| m.clone())).collect();
            Cow::Owned(Answer::History(HistoryPage { messages, more: page.more }))
        }
        Answer::Queued(events) => {
            let events = events.iter().map(|e| match event(e) {
                Cow::Owned(stripped) => Arc::new(stripped),
                Cow::Borrowed(_) => e.clone(),
            });
            Cow::Owned(Answer::Queued(events.collect()))
        }
        _ => Cow::Borrowed(answer),
    }
}

/// Strips the texts of a message that is about to be sent, unless it is marked as encrypted. The body may be
/// empty afterwards.
pub fn send(send: &mut Send) {
    if let Some((body, extra)) = texts(&send.body, send.metadata.as_ref(), send.extra.as_ref()) {
        (send.body, send.extra) = (body, extra);
    }
}

/// The message stripped; `None` when there is nothing to strip.
fn message(event: &MessageEvent) -> Option<MessageEvent> {
    let message = &event.message;
    let (body, extra) = texts(&message.body, message.metadata.as_ref(), message.extra.as_ref())?;
    let mut event = event.clone();
    (event.message.body, event.message.extra) = (body, extra);
    Some(event)
}

/// Body and other fields without markup; `None` when they are already.
fn texts(
    body: &Arc<str>,
    metadata: Option<&RawJson>,
    extra: Option<&RawJson>,
) -> Option<(Arc<str>, Option<RawJson>)> {
    if is_encrypted(metadata) {
        return None;
    }
    let new_body = match strip(body) {
        Cow::Owned(stripped) => Some(Arc::from(stripped)),
        Cow::Borrowed(_) => None,
    };
    let new_extra = extra.and_then(translated);
    if new_body.is_none() && new_extra.is_none() {
        return None;
    }
    Some((new_body.unwrap_or_else(|| body.clone()), new_extra.or_else(|| extra.cloned())))
}

/// The fields with the translation stripped; `None` when there is nothing to strip.
fn translated(extra: &RawJson) -> Option<RawJson> {
    let mut members: Object<'_> = serde_json::from_str(extra.as_str()).ok()?;
    let text: String = serde_json::from_str(members.get(TRANSLATED)?.get()).ok()?;
    let Cow::Owned(stripped) = strip(&text) else { return None };
    let stripped: Box<RawValue> = to_raw_value(&stripped).ok()?;
    members.insert(Cow::Borrowed(TRANSLATED), &stripped);
    serde_json::to_string(&members).ok().map(RawJson::trusted)
}
