//! What is carried on channels: one letter for the kind, then JSON with short keys.
//!
//! Owns: these forms, but for those that trails have too (`parlance_backplane::trail`); the functions write the same ones. Unknown fields are skipped and unknown kinds are no
//! publication, so that nodes of two versions can share a Redis. Must not know: channels, sockets.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::millis;
use parlance_backplane::{Behind, Fault, Publication, RoomChanged, Signal, TypingChanged, record, trail};
use parlance_model::{Author, ConversationId, Time, Topic, UserId};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct AuthorTwin {
    #[serde(rename = "i")]
    id: String,
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    name: Option<Arc<str>>,
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    username: Option<Arc<str>>,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    picture: Option<Arc<str>>,
}

#[derive(Serialize, Deserialize)]
struct TypingTwin {
    a: AuthorTwin,
    o: bool,
    w: Vec<String>,
    u: u64,
    t: u64,
    /// Where, when the channel does not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    c: Option<String>,
}

#[derive(Deserialize)]
struct RoomTwin {
    a: AuthorTwin,
    p: bool,
    f: bool,
    x: bool,
    t: u64,
}

#[derive(Serialize, Deserialize)]
enum SignalTwin {
    #[serde(rename = "t")]
    Typing(TypingTwin),
    #[serde(rename = "d")]
    Disconnect(String, bool),
    #[serde(rename = "m")]
    Maintenance,
    #[serde(rename = "o")]
    Orders,
}

/// A conversation, and milliseconds.
type BehindTwin = (String, u64, u64);

fn corrupt(why: impl std::fmt::Display) -> Fault {
    Fault::Corrupt(format!("publication: {why}"))
}

fn user(text: &str) -> Result<UserId, Fault> {
    UserId::parse(text).map_err(corrupt)
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(corrupt)
}

impl From<&Author> for AuthorTwin {
    fn from(author: &Author) -> Self {
        Self {
            id: author.id.to_string(),
            name: author.name.clone(),
            username: author.username.clone(),
            picture: author.picture.clone(),
        }
    }
}

impl AuthorTwin {
    fn author(self) -> Result<Author, Fault> {
        let Self { id, name, username, picture } = self;
        Ok(Author { id: user(&id)?, name, username, picture })
    }
}

impl TypingTwin {
    fn typing(self, conversation: Option<&ConversationId>) -> Result<TypingChanged, Fault> {
        let named = self.c.as_deref().map(ConversationId::parse).transpose().map_err(corrupt)?;
        Ok(TypingChanged {
            conversation: named.or(conversation.cloned()).ok_or_else(|| corrupt("typing nowhere"))?,
            author: self.a.author()?,
            on: self.o,
            to: self.w.iter().map(|id| user(id)).collect::<Result<_, _>>()?,
            until: Time(self.u),
            at: Time(self.t),
        })
    }
}

/// An author as the functions keep it.
pub fn author(author: &Author) -> Vec<u8> {
    // Strings only: serde_json has no way to fail on them.
    serde_json::to_vec(&AuthorTwin::from(author)).unwrap_or_default()
}

/// The bytes of a signal.
pub fn signal(signal: &Signal) -> Vec<u8> {
    let twin = match signal {
        Signal::Behind(all) => return behind(all),
        Signal::Typing(changed) => SignalTwin::Typing(TypingTwin {
            a: (&changed.author).into(),
            o: changed.on,
            w: changed.to.iter().map(ToString::to_string).collect(),
            u: changed.until.millis(),
            t: changed.at.millis(),
            c: Some(changed.conversation.to_string()),
        }),
        Signal::Disconnect { reason, reconnect } => SignalTwin::Disconnect(reason.clone(), *reconnect),
        Signal::Maintenance => SignalTwin::Maintenance,
        Signal::Orders => SignalTwin::Orders,
    };
    let mut bytes = vec![b's'];
    bytes.extend(serde_json::to_vec(&twin).unwrap_or_default());
    bytes
}

/// Of a kind of its own: a node of an earlier release passes it over.
fn behind(all: &[Behind]) -> Vec<u8> {
    let twins: Vec<BehindTwin> =
        all.iter().map(|b| (b.conversation.to_string(), millis(b.late), millis(b.each))).collect();
    let mut bytes = vec![b'b'];
    bytes.extend(serde_json::to_vec(&twins).unwrap_or_default());
    bytes
}

fn read_behind(bytes: &[u8]) -> Result<Vec<Behind>, Fault> {
    let of = |(id, late, each): BehindTwin| {
        Ok(Behind {
            conversation: ConversationId::parse(&id).map_err(corrupt)?,
            late: Duration::from_millis(late),
            each: Duration::from_millis(each),
        })
    };
    read::<Vec<BehindTwin>>(bytes)?.into_iter().map(of).collect()
}

fn room(bytes: &[u8], conversation: &ConversationId) -> Result<RoomChanged, Fault> {
    let twin: RoomTwin = read(bytes)?;
    Ok(RoomChanged {
        conversation: conversation.clone(),
        author: twin.a.author()?,
        present: twin.p,
        flipped: twin.f,
        explicit: twin.x,
        at: Time(twin.t),
    })
}

/// Reads what came on the channel of `topic`; `None` for a kind of a later release.
pub fn publication(topic: &Topic, bytes: &[u8]) -> Result<Option<Publication>, Fault> {
    let (kind, body) = bytes.split_first().ok_or_else(|| corrupt("empty"))?;
    let place = match topic {
        Topic::Conversation(id) => Some(id),
        _ => None,
    };
    let here = || place.ok_or_else(|| corrupt("not on a conversation"));
    Ok(Some(match kind {
        b'e' => Publication::Entry(record::decode(body)?),
        b'c' => Publication::Cursor(trail::cursor(body, here()?)?),
        b't' => Publication::Typing(read::<TypingTwin>(body)?.typing(place)?),
        b'r' => Publication::Room(room(body, here()?)?),
        b'p' => Publication::Presence(trail::presence(body)?),
        b'b' => Publication::Signal(Signal::Behind(read_behind(body)?)),
        b's' => Publication::Signal(match read(body)? {
            SignalTwin::Typing(twin) => Signal::Typing(twin.typing(None)?),
            SignalTwin::Disconnect(reason, reconnect) => Signal::Disconnect { reason, reconnect },
            SignalTwin::Maintenance => Signal::Maintenance,
            SignalTwin::Orders => Signal::Orders,
        }),
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_read_back() {
        let id = |text: &str| UserId::parse(text).unwrap();
        let typing = TypingChanged {
            conversation: ConversationId::parse("c").unwrap(),
            author: Author { name: Some("\"Zoë\"\n".into()), ..Author::bare(id("u")) },
            on: true,
            to: vec![id("v")],
            until: Time(9),
            at: Time(5),
        };
        let disconnect = Signal::Disconnect { reason: "a \"b\"".into(), reconnect: true };
        let behind = Signal::Behind(vec![Behind {
            conversation: ConversationId::parse("c").unwrap(),
            late: Duration::from_millis(400),
            each: Duration::from_millis(7),
        }]);
        for said in [Signal::Typing(typing), disconnect, Signal::Maintenance, Signal::Orders, behind] {
            let heard = publication(&Topic::Nodes, &signal(&said)).unwrap();
            assert_eq!(heard, Some(Publication::Signal(said)));
        }
    }

    #[test]
    fn poison_is_refused_and_later_kinds_are_skipped() {
        for bad in ["", "e", "e{}", "p{\"u\":\"a b\"}", "s[]", "c{}", "t\u{0}", "r{}"] {
            assert!(publication(&Topic::Nodes, bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(publication(&Topic::Nodes, b"z{}").unwrap(), None);
    }
}
