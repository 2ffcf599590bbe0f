//! Events as the application's backend reads them.
//!
//! Owns: their JSON. Must not know: how they get there.

use std::sync::Arc;

use parlance_backplane::trail::Step;
use parlance_backplane::{Happening, PresenceCause};
use parlance_model::{Entry, Record, Status, Time, UserId};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::config::Told;

/// One event.
#[derive(Debug, Serialize)]
pub(crate) struct Event {
    id: String,
    #[serde(rename = "type")]
    told: Told,
    at: String,
    data: Data,
}

impl Event {
    /// What of it is counted.
    pub(super) const fn told(&self) -> Told {
        self.told
    }
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Data {
    Message(Box<Message>),
    Reaction(Reaction),
    Read(Read),
    Presence(Presence),
    Created(Created),
    Members(Members),
    Connection(Connection),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    conversation_id: String,
    message_id: String,
    seq: u64,
    user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<Arc<str>>,
    body: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra: Option<Box<RawValue>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Reaction {
    conversation_id: String,
    /// Of the message.
    target_seq: u64,
    seq: u64,
    user_id: String,
    kind: Arc<str>,
    added: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Read {
    conversation_id: String,
    user_id: String,
    /// Everything up to here is read.
    seq: u64,
    from_seq: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Presence {
    user_id: String,
    status: &'static str,
    before: &'static str,
    last_seen: String,
    cause: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    conversation_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Members {
    conversation_id: String,
    seq: u64,
    added: Vec<String>,
    removed: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Connection {
    user_id: String,
    connection_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    mount: String,
}

const fn status(status: Status) -> &'static str {
    match status {
        Status::Offline => "offline",
        Status::Away => "away",
        Status::Online => "online",
        Status::Busy => "busy",
    }
}

fn names(users: &[UserId]) -> Vec<String> {
    users.iter().map(ToString::to_string).collect()
}

fn raw(json: Option<&parlance_model::RawJson>) -> Option<Box<RawValue>> {
    // It was checked when it came.
    json.and_then(|json| RawValue::from_string(json.as_str().to_owned()).ok())
}

fn of_entry(conversation_id: String, entry: &Entry) -> Option<(Told, Data)> {
    let seq = entry.seq;
    Some(match &entry.record {
        Record::Message(m) => {
            let message = Message {
                conversation_id,
                message_id: entry.id.to_opaque(entry.at.seconds32()),
                seq,
                user_id: m.author.id.to_string(),
                client_id: m.client_id.clone(),
                body: m.body.clone(),
                metadata: raw(m.metadata.as_ref()),
                extra: raw(m.extra.as_ref()),
            };
            (Told::MessageAccepted, Data::Message(Box::new(message)))
        }
        Record::Reaction { author, target, kind, added } => {
            let (user_id, kind) = (author.id.to_string(), kind.clone());
            let data = Reaction { conversation_id, target_seq: *target, seq, user_id, kind, added: *added };
            (Told::ReactionChanged, Data::Reaction(data))
        }
        Record::Members { added, removed, by } => {
            let (added, removed, by) = (names(added), names(removed), by.as_ref().map(ToString::to_string));
            (Told::MembersChanged, Data::Members(Members { conversation_id, seq, added, removed, by }))
        }
        _ => return None,
    })
}

fn of_happening(what: &Happening) -> Option<(Told, Data)> {
    Some(match what {
        Happening::Entry { conversation, entry } => return of_entry(conversation.to_string(), entry),
        Happening::Created { conversation, by, .. } => {
            let user_id = by.as_ref().map(ToString::to_string);
            let data = Created { conversation_id: conversation.to_string(), user_id };
            (Told::ConversationCreated, Data::Created(data))
        }
        Happening::Cursor(changed) => {
            // What was only delivered is nobody's to act on.
            let (from_seq, seq) = changed.moved.read?;
            let (conversation_id, user_id) = (changed.conversation.to_string(), changed.user.to_string());
            (Told::ReadMoved, Data::Read(Read { conversation_id, user_id, seq, from_seq }))
        }
        Happening::Presence(p) => {
            let cause = match p.cause {
                PresenceCause::Said => "said",
                PresenceCause::Closed => "closed",
                PresenceCause::Expired => "expired",
            };
            let (user_id, last_seen) = (p.user.to_string(), p.last_seen.to_iso());
            let data =
                Presence { user_id, status: status(p.status), before: status(p.before), last_seen, cause };
            (Told::PresenceChanged, Data::Presence(data))
        }
        Happening::Connection(c) => {
            let told = if c.on { Told::UserConnected } else { Told::UserDisconnected };
            let (user_id, connection_id, mount) = (c.user.to_string(), c.connection.clone(), c.mount.clone());
            (told, Data::Connection(Connection { user_id, connection_id, mount }))
        }
    })
}

/// The event of a step, when it is one of these.
pub(super) fn of_step(step: &Step, wanted: &[Told]) -> Option<Event> {
    let what = step.what.as_ref()?;
    let (told, data) = of_happening(what)?;
    let at: Time = what.at();
    wanted.contains(&told).then(|| Event { id: step.id.clone(), told, at: at.to_iso(), data })
}
