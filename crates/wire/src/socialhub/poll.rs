//! Polling over HTTP: what is asked for, and the answers' bodies.
//!
//! Owns: names and shapes of `poll` and `poll/missed`. Must not know: who may ask, where events come from.

use std::borrow::Cow;

use parlance_model::{Reject, Time};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::frame::Frame;
use crate::{
    Class, Encoded,
    json::{self, Object},
};

/// Integers beyond are none that a JavaScript client could hold.
const MOST: u64 = 1 << 53;
/// The longest wait, and the one of who does not say.
const LONGEST_MS: u64 = 30_000;

/// What a poll asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Whom it names as its user.
    pub user: String,
    /// The last integer it has.
    pub after: u64,
    /// How long it waits for something to happen.
    pub wait_ms: u64,
}

/// Members by name, whichever way they came.
#[derive(Default)]
struct Members<'a> {
    user: Option<String>,
    after: Option<Cow<'a, str>>,
    timeout: Option<Cow<'a, str>>,
}

/// Reads the query of `poll`. An empty value counts as absent; unknown parameters are nobody's concern.
///
/// # Errors
/// The parameter that is missing or wrong.
pub fn of_query(query: &str) -> Result<Ask, Reject> {
    members_of_query(query, "last_poll_id").ask("last_poll_id")
}

/// Reads the query of `poll/missed`, which never waits.
///
/// # Errors
/// The parameter that is missing or wrong.
pub fn missed_of_query(query: &str) -> Result<Ask, Reject> {
    let members = members_of_query(query, "last_sequence");
    if members.after.is_none() {
        // Who names nobody hears of that first.
        return Err(json::missing(if members.user.is_none() { "user_id" } else { "last_sequence" }));
    }
    Ok(Ask { wait_ms: 0, ..members.ask("last_sequence")? })
}

/// Reads the JSON body of `poll`; what it does not say is taken from the query.
///
/// # Errors
/// The member that is missing or wrong, or `Malformed`.
pub fn of_body(body: &[u8], query: &str, max_depth: usize) -> Result<Ask, Reject> {
    let text = std::str::from_utf8(body)
        .map_err(|_| Reject::new(parlance_model::RejectCode::Malformed, "not a JSON object"))?;
    let object = json::object(if text.trim().is_empty() { "{}" } else { text }, max_depth)?;
    let asked = members_of_query(query, "last_poll_id");
    let members = Members {
        user: plain(&object, "user_id")?.map(Cow::into_owned).or(asked.user),
        after: plain(&object, "last_poll_id")?.or(asked.after),
        timeout: plain(&object, "timeout")?.or(asked.timeout),
    };
    members.ask("last_poll_id")
}

fn members_of_query<'a>(query: &'a str, cursor: &str) -> Members<'a> {
    let mut members = Members::default();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match &*name {
            _ if value.is_empty() => {}
            "user_id" => members.user = Some(value.into_owned()),
            "timeout" => members.timeout = Some(value),
            name if name == cursor => members.after = Some(value),
            _ => {}
        }
    }
    members
}

/// A string, or a number as its text.
fn plain<'a>(object: &Object<'a>, name: &'static str) -> Result<Option<Cow<'a, str>>, Reject> {
    let Some(raw) = json::member(object, name) else { return Ok(None) };
    let text = raw.get();
    if text.starts_with('"') {
        return json::optional::<String>(object, name).map(|value| value.map(Cow::Owned));
    }
    if text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
        return Ok(Some(Cow::Borrowed(text)));
    }
    Err(json::invalid(name, "has the wrong type"))
}

impl Members<'_> {
    fn ask(self, cursor: &'static str) -> Result<Ask, Reject> {
        let user = self.user.filter(|user| !user.is_empty()).ok_or_else(|| json::missing("user_id"))?;
        let integer = |text: Cow<'_, str>| {
            text.parse()
                .ok()
                .filter(|n| *n <= MOST)
                .ok_or_else(|| json::invalid(cursor, "must be an integer"))
        };
        let wait = |text: Cow<'_, str>| {
            let seconds = text.parse::<f64>().ok().filter(|s| s.is_finite() && *s >= 0.0);
            seconds.map(milliseconds).ok_or_else(|| json::invalid("timeout", "must be a number of seconds"))
        };
        Ok(Ask {
            user,
            after: self.after.map(integer).transpose()?.unwrap_or_default(),
            wait_ms: self.timeout.map(wait).transpose()?.unwrap_or(LONGEST_MS),
        })
    }
}

/// As documented, nobody waits longer than 30 s.
fn milliseconds(seconds: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 30,000 by now")]
    let ms = (seconds * 1000.0).clamp(0.0, 30_000.0) as u64;
    ms
}

/// The parts of an envelope that a poll's event keeps.
#[derive(Deserialize)]
struct Parts<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
    #[serde(borrow, rename = "type")]
    kind: &'a RawValue,
    #[serde(borrow, default)]
    channel: Option<&'a RawValue>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: &'a RawValue,
    #[serde(default)]
    seq: Option<u64>,
}

/// What a connection was told that is in no log: an envelope without an integer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passing {
    /// The envelope's id.
    pub id: String,
    text: String,
}

/// Takes what is in no log from a frame as it was told on a WebSocket. `None`: it is found elsewhere,
/// in a log or in cursors.
pub fn passing(text: &str) -> Option<Passing> {
    let parts: Parts<'_> = serde_json::from_str(text).ok()?;
    // A loss stands in the log too, where it is found with its place; so do receipts in the readers' cursors.
    if parts.seq.is_some() || matches!(parts.kind.get(), "\"error\"" | "\"read_receipt\"") {
        return None;
    }
    Some(Passing { id: serde_json::from_str(parts.id.get()).ok()?, text: text.to_owned() })
}

impl Passing {
    /// As a poll's event.
    pub fn event(&self, integer: u64) -> Option<String> {
        event_of(&self.text, integer)
    }
}

/// The envelope that tells of events that are kept no more: the vocabulary has no word for them, so an error it is, as on
/// a WebSocket. `from` and `to` are the first and the last integer of them.
pub fn gap(from: u64, to: u64, at: Time) -> Option<Encoded> {
    #[derive(Serialize)]
    struct Payload {
        code: &'static str,
        message: &'static str,
        details: Details,
    }
    #[derive(Serialize)]
    struct Details {
        resync: bool,
        from: u64,
        to: u64,
    }
    let payload = Payload {
        code: "INTERNAL_ERROR",
        message: "some events can no longer be replayed; reload",
        details: Details { resync: true, from, to },
    };
    let id = json::made_up_uuid(&[b"gap", &from.to_le_bytes(), &to.to_le_bytes()]);
    Frame::new(id, "error", payload, at).text().map(|text| Encoded::framed(&[text], Class::Kept))
}

/// A poll's event: `{id,type,channel?,payload,timestamp}`, its id the user's integer.
pub fn event(encoded: &Encoded, integer: u64) -> Option<String> {
    let sealed = encoded.seal(integer);
    event_of(sealed.texts().first()?, integer)
}

fn event_of(text: &str, integer: u64) -> Option<String> {
    let parts: Parts<'_> = serde_json::from_str(text).ok()?;
    let channel = parts.channel.map(|channel| format!(r#""channel":{channel},"#)).unwrap_or_default();
    let payload = parts.payload.map_or("null", RawValue::get);
    let (kind, timestamp) = (parts.kind, parts.timestamp);
    Some(format!(r#"{{"id":{integer},"type":{kind},{channel}"payload":{payload},"timestamp":{timestamp}}}"#))
}

/// A missed event: the envelope as on a WebSocket, with the user's integer.
pub fn envelope(encoded: &Encoded, integer: u64) -> Option<String> {
    if encoded.is_open() {
        return encoded.seal(integer).texts().first().map(|text| (*text).to_owned());
    }
    let texts = encoded.texts();
    let body = texts.first()?.strip_suffix('}')?;
    Some(format!(r#"{body},"seq":{integer}}}"#))
}

/// The body of a poll's answer.
pub fn page(events: &[String], last: u64, more: bool) -> String {
    format!(r#"{{"events":[{}],"last_poll_id":{last},"has_more":{more}}}"#, events.join(","))
}

/// The body of an answer about what was missed.
pub fn missed(messages: &[String], last: u64, more: bool) -> String {
    format!(r#"{{"messages":[{}],"last_sequence":{last},"has_more":{more}}}"#, messages.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_query_is_read_and_what_is_wrong_is_named() {
        let ask = |after, wait_ms| Ask { user: "u".into(), after, wait_ms };
        for (query, expected) in [
            ("user_id=u", ask(0, 30_000)),
            ("user_id=u&last_poll_id=456&timeout=30", ask(456, 30_000)),
            ("user_id=u&last_poll_id=&timeout=0&x=1", ask(0, 0)),
            ("user_id=u&timeout=900", ask(0, 30_000)),
            ("user_id=u&timeout=1.5", ask(0, 1_500)),
        ] {
            assert_eq!(of_query(query), Ok(expected), "{query}");
        }
        for (query, field) in [
            ("", "user_id"),
            ("user_id=&last_poll_id=1", "user_id"),
            ("user_id=u&last_poll_id=x", "last_poll_id"),
            ("user_id=u&last_poll_id=-1", "last_poll_id"),
            ("user_id=u&last_poll_id=9007199254740993", "last_poll_id"),
            ("user_id=u&timeout=-1", "timeout"),
            ("user_id=u&timeout=NaN", "timeout"),
        ] {
            assert_eq!(of_query(query).unwrap_err().field.as_deref(), Some(field), "{query}");
        }
        assert_eq!(missed_of_query("user_id=u&last_sequence=7"), Ok(ask(7, 0)));
        for (query, field) in
            [("user_id=u", "last_sequence"), ("last_sequence=1", "user_id"), ("", "user_id")]
        {
            assert_eq!(missed_of_query(query).unwrap_err().field.as_deref(), Some(field), "{query}");
        }
    }

    #[test]
    fn a_body_is_read_with_ids_in_either_form() {
        let read = |body: &str| of_body(body.as_bytes(), "", 32);
        let ask = Ask { user: "123".into(), after: 456, wait_ms: 30_000 };
        assert_eq!(read(r#"{"user_id":"123","last_poll_id":456}"#), Ok(ask.clone()));
        assert_eq!(read(r#"{"user_id":123,"last_poll_id":"456","more":[1]}"#), Ok(ask.clone()));
        assert_eq!(of_body(br#"{"last_poll_id":456}"#, "user_id=123", 32), Ok(ask.clone()));
        assert_eq!(of_body(b"", "user_id=123&last_poll_id=456", 32), Ok(ask));
        for body in
            ["[]", "{", "7", r#"{"user_id":{}}"#, r#"{"user_id":"u","last_poll_id":true}"#, "{}", "\u{1}"]
        {
            assert!(read(body).is_err(), "{body}");
        }
        let deep = format!(r#"{{"user_id":"u","x":{}{}}}"#, "[".repeat(100), "]".repeat(100));
        assert!(read(&deep).is_err());
        assert!(of_body(b"\xff", "", 32).is_err());
    }

    #[test]
    fn an_event_takes_its_integer_for_its_id() {
        let text = r#"{"id":"uuid","type":"message","channel":"conversation:c","payload":{"id":"uuid"},"timestamp":"t"}"#;
        let open = Encoded::open(text.to_owned(), Class::Kept);
        let expected = json!({
            "id": 7, "type": "message", "channel": "conversation:c", "payload": { "id": "uuid" }, "timestamp": "t"
        });
        assert_eq!(parsed(&event(&open, 7).unwrap()), expected);
        let told = parsed(&envelope(&open, 7).unwrap());
        assert_eq!((&told["id"], &told["seq"]), (&json!("uuid"), &json!(7)));
        let closed = Encoded::framed(&[text], Class::Kept);
        assert_eq!(parsed(&event(&closed, 7).unwrap()), expected);
        assert_eq!(parsed(&envelope(&closed, 7).unwrap()), told);
        assert_eq!(passing(&envelope(&open, 7).unwrap()), None);
        assert_eq!(parsed(&passing(text).unwrap().event(9).unwrap())["id"], 9);
        assert_eq!(passing("{}"), None);
    }

    #[test]
    fn bodies_are_as_documented() {
        let events = ["{\"id\":1}".to_owned(), "{\"id\":2}".to_owned()];
        let expected = json!({ "events": [{ "id": 1 }, { "id": 2 }], "last_poll_id": 2, "has_more": true });
        assert_eq!(parsed(&page(&events, 2, true)), expected);
        assert_eq!(
            parsed(&page(&[], 5, false)),
            json!({ "events": [], "last_poll_id": 5, "has_more": false })
        );
        assert_eq!(parsed(&missed(&[], 0, false))["messages"], json!([]));
    }
}
