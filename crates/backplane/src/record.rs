//! The record format: how an entry is kept and carried between nodes, as JSON with short, stable keys.
//!
//! Owns: the keys, and that what older releases wrote stays readable. Unknown fields are skipped, so that
//! nodes of two versions can share a log. Must not know: where the bytes are kept, client dialects.

use std::borrow::Cow;
use std::sync::Arc;

use parlance_model::{
    Author, ConversationId, Entry, Message, MessageId, RawJson, Record, Time, TraceContext, UserId,
};
use serde::{Deserialize, Serialize};

use crate::Fault;

/// The bytes of an entry.
pub fn encode(entry: &Entry) -> Vec<u8> {
    let twin = EntryTwin {
        seq: entry.seq,
        epoch: entry.epoch,
        at: entry.at.millis(),
        prev_at: entry.prev_at.millis(),
        number: entry.id.number(),
        offset: entry.id.offset(),
        record: RecordTwin::from(&entry.record),
    };
    // Strings and integers only: serde_json has no way to fail on them.
    serde_json::to_vec(&twin).unwrap_or_default()
}

/// The record in the bytes of an entry, for an engine that puts the rest around it where the entry gets its place:
/// `{"s":…,"e":…,"t":…,"p":…,"n":…,"o":…,"r":` record `}`.
pub fn encode_record(record: &Record) -> Vec<u8> {
    serde_json::to_vec(&RecordTwin::from(record)).unwrap_or_default()
}

/// Reads [`encode`], of this release or an older one.
///
/// # Errors
/// [`Fault::Corrupt`] when the bytes are no entry.
pub fn decode(bytes: &[u8]) -> Result<Entry, Fault> {
    let twin: EntryTwin<'_> = serde_json::from_slice(bytes).map_err(|error| corrupt(&error.to_string()))?;
    Ok(Entry {
        seq: twin.seq,
        epoch: twin.epoch,
        at: Time(twin.at),
        prev_at: Time(twin.prev_at),
        id: MessageId::new(twin.number, twin.offset).ok_or_else(|| corrupt("id out of range"))?,
        record: twin.record.into_record()?,
    })
}

/// Reads [`encode_record`], of this release or an older one.
///
/// # Errors
/// [`Fault::Corrupt`] when the bytes are no record.
pub fn decode_record(bytes: &[u8]) -> Result<Record, Fault> {
    let twin: RecordTwin<'_> = serde_json::from_slice(bytes).map_err(|error| corrupt(&error.to_string()))?;
    twin.into_record()
}

fn corrupt(why: &str) -> Fault {
    Fault::Corrupt(format!("log entry: {why}"))
}

type Text<'a> = Cow<'a, str>;

#[derive(Serialize, Deserialize)]
struct EntryTwin<'a> {
    #[serde(rename = "s")]
    seq: u64,
    #[serde(rename = "e", default)]
    epoch: u32,
    #[serde(rename = "t")]
    at: u64,
    #[serde(rename = "p", default)]
    prev_at: u64,
    #[serde(rename = "n")]
    number: u32,
    #[serde(rename = "o")]
    offset: u32,
    #[serde(rename = "r", borrow)]
    record: RecordTwin<'a>,
}

#[derive(Serialize, Deserialize)]
struct AuthorTwin<'a> {
    #[serde(rename = "i", borrow)]
    id: Text<'a>,
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    name: Option<Text<'a>>,
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    username: Option<Text<'a>>,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    picture: Option<Text<'a>>,
}

/// Raw JSON is kept as a string, so that it comes back byte for byte whatever it holds.
#[derive(Serialize, Deserialize)]
enum RecordTwin<'a> {
    #[serde(rename = "m")]
    Message {
        #[serde(rename = "a", borrow)]
        author: AuthorTwin<'a>,
        #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
        client_id: Option<Text<'a>>,
        #[serde(rename = "b")]
        body: Text<'a>,
        #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
        metadata: Option<Text<'a>>,
        #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
        extra: Option<Text<'a>>,
        #[serde(rename = "w", with = "trace", default, skip_serializing_if = "Option::is_none")]
        trace: Option<TraceContext>,
    },
    #[serde(rename = "r")]
    Reaction {
        #[serde(rename = "a", borrow)]
        author: AuthorTwin<'a>,
        #[serde(rename = "g")]
        target: u64,
        #[serde(rename = "k")]
        kind: Text<'a>,
        #[serde(rename = "f")]
        added: bool,
    },
    #[serde(rename = "u")]
    Members {
        #[serde(rename = "a", default, skip_serializing_if = "Vec::is_empty")]
        added: Vec<Text<'a>>,
        #[serde(rename = "d", default, skip_serializing_if = "Vec::is_empty")]
        removed: Vec<Text<'a>>,
        #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
        by: Option<Text<'a>>,
    },
    #[serde(rename = "t")]
    Title {
        #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
        title: Option<Text<'a>>,
        #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
        by: Option<Text<'a>>,
    },
    #[serde(rename = "l")]
    Lost {
        #[serde(rename = "f")]
        from: u64,
        #[serde(rename = "t")]
        to: u64,
    },
    #[serde(rename = "d")]
    Deleted {},
    #[serde(rename = "i")]
    Invited {
        #[serde(rename = "c")]
        conversation: Text<'a>,
        #[serde(rename = "s")]
        since: u64,
    },
    #[serde(rename = "a")]
    App {
        #[serde(rename = "k")]
        kind: Text<'a>,
        #[serde(rename = "p")]
        payload: Text<'a>,
        #[serde(rename = "w", with = "trace", default, skip_serializing_if = "Option::is_none")]
        trace: Option<TraceContext>,
    },
    #[serde(rename = "n")]
    NotificationRead {
        #[serde(rename = "i", default, skip_serializing_if = "Option::is_none")]
        id: Option<Text<'a>>,
    },
}

/// A `traceparent`. What is none says nothing, and is no fault of the record: a message does not go for it.
mod trace {
    use parlance_model::TraceContext;
    use serde::{Deserialize, Deserializer, Serializer};
    use serde_json::value::RawValue;

    #[allow(clippy::ref_option, reason = "as serde calls it")]
    pub fn serialize<S: Serializer>(trace: &Option<TraceContext>, to: S) -> Result<S::Ok, S::Error> {
        match trace {
            Some(trace) => to.collect_str(trace),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Option<TraceContext>, D::Error> {
        // Nothing in a good one is ever escaped.
        let written = <&RawValue>::deserialize(from)?.get();
        let text = written.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        Ok(text.and_then(TraceContext::parse))
    }
}

fn text(of: &Option<Arc<str>>) -> Option<Text<'_>> {
    of.as_deref().map(Cow::Borrowed)
}

fn raw(of: &Option<RawJson>) -> Option<Text<'_>> {
    of.as_ref().map(|json| Cow::Borrowed(json.as_str()))
}

fn users(of: &[UserId]) -> Vec<Text<'_>> {
    of.iter().map(|user| Cow::Borrowed(user.as_str())).collect()
}

fn by(of: &Option<UserId>) -> Option<Text<'_>> {
    of.as_ref().map(|user| Cow::Borrowed(user.as_str()))
}

impl<'a> From<&'a Author> for AuthorTwin<'a> {
    fn from(author: &'a Author) -> Self {
        Self {
            id: Cow::Borrowed(author.id.as_str()),
            name: text(&author.name),
            username: text(&author.username),
            picture: text(&author.picture),
        }
    }
}

impl<'a> From<&'a Record> for RecordTwin<'a> {
    fn from(record: &'a Record) -> Self {
        match record {
            Record::Message(message) => Self::Message {
                author: (&message.author).into(),
                client_id: text(&message.client_id),
                body: Cow::Borrowed(&message.body),
                metadata: raw(&message.metadata),
                extra: raw(&message.extra),
                trace: message.trace.as_deref().copied(),
            },
            Record::Reaction { author, target, kind, added } => Self::Reaction {
                author: author.into(),
                target: *target,
                kind: Cow::Borrowed(kind),
                added: *added,
            },
            Record::Members { added, removed, by: who } => {
                Self::Members { added: users(added), removed: users(removed), by: by(who) }
            }
            Record::Title { title, by: who } => Self::Title { title: text(title), by: by(who) },
            Record::Lost { from, to } => Self::Lost { from: *from, to: *to },
            Record::Deleted => Self::Deleted {},
            Record::Invited { conversation, since } => {
                Self::Invited { conversation: Cow::Borrowed(conversation.as_str()), since: *since }
            }
            Record::App { kind, payload, trace } => Self::App {
                kind: Cow::Borrowed(kind),
                payload: Cow::Borrowed(payload.as_str()),
                trace: trace.as_deref().copied(),
            },
            Record::NotificationRead { id } => Self::NotificationRead { id: text(id) },
        }
    }
}

fn shared(of: Option<Text<'_>>) -> Option<Arc<str>> {
    of.map(|text| Arc::from(&*text))
}

fn json(of: Option<Text<'_>>) -> Option<RawJson> {
    of.map(|text| RawJson::trusted(&*text))
}

fn user(of: &str) -> Result<UserId, Fault> {
    UserId::parse(of).map_err(|error| corrupt(&error.to_string()))
}

fn user_list(of: &[Text<'_>]) -> Result<Vec<UserId>, Fault> {
    of.iter().map(|id| user(id)).collect()
}

impl AuthorTwin<'_> {
    fn into_author(self) -> Result<Author, Fault> {
        Ok(Author {
            id: user(&self.id)?,
            name: shared(self.name),
            username: shared(self.username),
            picture: shared(self.picture),
        })
    }
}

impl RecordTwin<'_> {
    fn into_record(self) -> Result<Record, Fault> {
        Ok(match self {
            Self::Message { author, client_id, body, metadata, extra, trace } => Record::Message(Message {
                author: author.into_author()?,
                client_id: shared(client_id),
                body: Arc::from(&*body),
                metadata: json(metadata),
                extra: json(extra),
                trace: trace.map(Box::new),
            }),
            Self::Reaction { author, target, kind, added } => {
                Record::Reaction { author: author.into_author()?, target, kind: Arc::from(&*kind), added }
            }
            Self::Members { added, removed, by } => Record::Members {
                added: user_list(&added)?,
                removed: user_list(&removed)?,
                by: by.as_deref().map(user).transpose()?,
            },
            Self::Title { title, by } => {
                Record::Title { title: shared(title), by: by.as_deref().map(user).transpose()? }
            }
            Self::Lost { from, to } => Record::Lost { from, to },
            Self::Deleted {} => Record::Deleted,
            Self::Invited { conversation, since } => Record::Invited {
                conversation: ConversationId::parse(&conversation)
                    .map_err(|error| corrupt(&error.to_string()))?,
                since,
            },
            Self::App { kind, payload, trace } => Record::App {
                kind: Arc::from(&*kind),
                payload: RawJson::trusted(&*payload),
                trace: trace.map(Box::new),
            },
            Self::NotificationRead { id } => Record::NotificationRead { id: shared(id) },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn entry(record: Record) -> Entry {
        Entry {
            seq: 7,
            epoch: 2,
            at: Time(1_755_633_600_123),
            prev_at: Time(1_755_633_600_000),
            id: MessageId::new(1 << 30, 7).unwrap(),
            record,
        }
    }

    fn author() -> Author {
        Author { id: id("u1"), name: Some("Zoë \"Z\"".into()), username: Some("zoe".into()), picture: None }
    }

    fn every_record() -> Vec<Record> {
        let message = Message {
            author: author(),
            client_id: Some("c-1".into()),
            body: "line\nbreak \u{1F600} \u{0}".into(),
            metadata: Some(RawJson::trusted("{\"a\": [1, 2.50]}")),
            extra: None,
            trace: None,
        };
        vec![
            Record::Message(message.clone()),
            Record::Message(Message {
                author: Author::bare(id("u2")),
                client_id: None,
                metadata: None,
                extra: Some(RawJson::trusted("{}")),
                ..message
            }),
            Record::Reaction { author: author(), target: 3, kind: "👍".into(), added: false },
            Record::Members { added: vec![id("a"), id("b")], removed: vec![id("c")], by: Some(id("d")) },
            Record::Members { added: vec![], removed: vec![], by: None },
            Record::Title { title: Some("T".into()), by: None },
            Record::Title { title: None, by: Some(id("a")) },
            Record::Lost { from: 3, to: 9 },
            Record::Deleted,
            Record::Invited { conversation: ConversationId::parse("c:1").unwrap(), since: 4 },
            Record::App { kind: "feed_update".into(), payload: RawJson::trusted("[ 1 ]"), trace: None },
            Record::NotificationRead { id: Some("n1".into()) },
            Record::NotificationRead { id: None },
        ]
    }

    #[test]
    fn every_record_reads_back_unchanged() {
        for record in every_record() {
            let entry = entry(record);
            assert_eq!(decode(&encode(&entry)).unwrap(), entry);
        }
    }

    /// What release 0.1 wrote. Never change these strings: add new ones.
    #[test]
    fn what_0_1_wrote_stays_readable() {
        let kept = [
            r#"{"s":7,"e":2,"t":1755633600123,"p":1755633600000,"n":1073741824,"o":7,"r":{"m":{"a":{"i":"u1","n":"Zoë \"Z\"","u":"zoe"},"c":"c-1","b":"line\nbreak 😀 \u0000","d":"{\"a\": [1, 2.50]}"}}}"#,
            r#"{"s":7,"e":2,"t":1755633600123,"p":1755633600000,"n":1073741824,"o":7,"r":{"m":{"a":{"i":"u2"},"b":"line\nbreak 😀 \u0000","x":"{}"}}}"#,
            r#"{"s":7,"e":2,"t":1755633600123,"p":1755633600000,"n":1073741824,"o":7,"r":{"r":{"a":{"i":"u1","n":"Zoë \"Z\"","u":"zoe"},"g":3,"k":"👍","f":false}}}"#,
            r#"{"s":7,"e":2,"t":1755633600123,"p":1755633600000,"n":1073741824,"o":7,"r":{"u":{"a":["a","b"],"d":["c"],"b":"d"}}}"#,
            r#"{"s":7,"e":2,"t":1755633600123,"p":1755633600000,"n":1073741824,"o":7,"r":{"u":{}}}"#,
            r#"{"s":7,"e":2,"t":1755633600123,"p":1755633600000,"n":1073741824,"o":7,"r":{"t":{"t":"T"}}}"#,
            r#"{"s":7,"e":2,"t":1755633600123,"p":1755633600000,"n":1073741824,"o":7,"r":{"t":{"b":"a"}}}"#,
            r#"{"s":7,"e":2,"t":1755633600123,"p":1755633600000,"n":1073741824,"o":7,"r":{"l":{"f":3,"t":9}}}"#,
            r#"{"s":7,"e":2,"t":1755633600123,"p":1755633600000,"n":1073741824,"o":7,"r":{"d":{}}}"#,
            r#"{"s":7,"e":2,"t":1755633600123,"p":1755633600000,"n":1073741824,"o":7,"r":{"i":{"c":"c:1","s":4}}}"#,
            r#"{"s":7,"e":2,"t":1755633600123,"p":1755633600000,"n":1073741824,"o":7,"r":{"a":{"k":"feed_update","p":"[ 1 ]"}}}"#,
            r#"{"s":7,"e":2,"t":1755633600123,"p":1755633600000,"n":1073741824,"o":7,"r":{"n":{"i":"n1"}}}"#,
            r#"{"s":7,"e":2,"t":1755633600123,"p":1755633600000,"n":1073741824,"o":7,"r":{"n":{}}}"#,
        ];
        let records = every_record();
        assert_eq!(kept.len(), records.len());
        for (text, record) in kept.into_iter().zip(records) {
            assert_eq!(decode(text.as_bytes()).unwrap(), entry(record), "{text}");
        }
    }

    /// Whatever is not traced is written as it was before there were traces: these are the same strings.
    #[test]
    fn what_is_not_traced_costs_nothing() {
        let message = &every_record()[1];
        let written = r#"{"m":{"a":{"i":"u2"},"b":"line\nbreak 😀 \u0000","x":"{}"}}"#;
        assert_eq!(String::from_utf8(encode_record(message)).unwrap(), written);
        let app = Record::App { kind: "k".into(), payload: RawJson::trusted("[ 1 ]"), trace: None };
        assert_eq!(encode_record(&app), br#"{"a":{"k":"k","p":"[ 1 ]"}}"#);
    }

    #[test]
    fn a_trace_comes_back_with_its_record() {
        let written = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
        let context = TraceContext::parse(written).map(Box::new);
        for record in every_record() {
            let traced = match record {
                Record::Message(message) => Record::Message(Message { trace: context.clone(), ..message }),
                Record::App { kind, payload, .. } => Record::App { kind, payload, trace: context.clone() },
                _ => continue,
            };
            let bytes = encode_record(&traced);
            let ends = format!(r#","w":"{written}"}}}}"#);
            assert!(bytes.ends_with(ends.as_bytes()), "{}", String::from_utf8_lossy(&bytes));
            assert_eq!(decode_record(&bytes).unwrap(), traced);
            assert_eq!(traced.trace(), context.as_deref());
            let entry = entry(traced);
            assert_eq!(decode(&encode(&entry)).unwrap(), entry);
        }
    }

    #[test]
    fn a_trace_that_is_none_says_nothing() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
        for bad in [
            "null",
            "\"\"",
            "\"00-00-00-00\"",
            "\"\\ud800\"",
            "17",
            "-0.5e3",
            "true",
            r#"["00"]"#,
            r#"{"w":{"w":[]}}"#,
            &format!("\"{}\"", good.to_uppercase().replacen("00-", "zz-", 1)),
            &format!("\"{}\"", "x".repeat(10_000)),
        ] {
            let message = format!(r#"{{"m":{{"a":{{"i":"u"}},"b":"x","w":{bad}}}}}"#);
            let app = format!(r#"{{"a":{{"k":"k","p":"1","w":{bad}}}}}"#);
            for record in [message, app] {
                assert_eq!(decode_record(record.as_bytes()).unwrap().trace(), None, "{record}");
            }
        }
    }

    #[test]
    fn unknown_fields_are_skipped_and_garbage_is_corrupt() {
        let newer =
            r#"{"s":1,"t":5,"n":1,"o":1,"zz":[{}],"r":{"m":{"a":{"i":"u","q":1},"b":"x","y":{"k":null}}}}"#;
        let read = decode(newer.as_bytes()).unwrap();
        assert_eq!((read.seq, read.epoch, read.prev_at), (1, 0, Time(0)));
        for bad in ["", "{}", "[]", "\u{0}", r#"{"s":1,"t":5,"n":1,"o":1,"r":{"i":{"c":"a b","s":1}}}"#] {
            assert!(matches!(decode(bad.as_bytes()), Err(Fault::Corrupt(_))), "{bad}");
        }
        assert!(matches!(
            decode(br#"{"s":1,"t":5,"n":4294967295,"o":1,"r":{"d":{}}}"#),
            Err(Fault::Corrupt(_))
        ));
    }
}
