//! Happenings as words: a letter for the kind, then JSON with short keys; beside it, of what it is (`c:` and a conversation,
//! or a user). Cursors and presence are carried on channels in the same form.
//!
//! Owns: these forms, which the functions inside Redis write too. Unknown fields are skipped, and unknown kinds are no happening.

use parlance_model::delivery::Moved;
use parlance_model::{ConversationId, Status, Time, UserId};
use serde::{Deserialize, Serialize};

use super::{ConnectionChanged, Happening};
use crate::{CursorChanged, Fault, PresenceCause, PresenceChanged, record};

#[derive(Serialize, Deserialize)]
struct CursorTwin {
    u: String,
    t: u64,
    v: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    d: Option<(u64, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r: Option<(u64, u64)>,
}

#[derive(Serialize, Deserialize)]
struct PresenceTwin {
    u: String,
    s: u8,
    b: u8,
    l: u64,
    t: u64,
    c: String,
}

#[derive(Serialize, Deserialize)]
struct ConnectionTwin {
    u: String,
    i: String,
    m: String,
    o: bool,
    t: u64,
}

#[derive(Serialize, Deserialize)]
struct CreatedTwin {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    b: String,
    t: u64,
}

fn corrupt(why: impl std::fmt::Display) -> Fault {
    Fault::Corrupt(format!("publication: {why}"))
}

fn user(text: &str) -> Result<UserId, Fault> {
    UserId::parse(text).map_err(corrupt)
}

fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Fault> {
    serde_json::from_slice(bytes).map_err(corrupt)
}

/// A status as one digit; a greater one outranks a smaller one.
pub const fn status_digit(status: Status) -> u8 {
    match status {
        Status::Offline => 0,
        Status::Away => 1,
        Status::Online => 2,
        Status::Busy => 3,
    }
}

/// Reads [`status_digit`].
///
/// # Errors
/// [`Fault::Corrupt`] for any other number.
pub fn status(digit: u64) -> Result<Status, Fault> {
    let all = [Status::Offline, Status::Away, Status::Online, Status::Busy];
    all.into_iter().find(|status| u64::from(status_digit(*status)) == digit).ok_or_else(|| corrupt("status"))
}

/// Reads a moved (or unmoved) cursor, without its letter.
///
/// # Errors
/// [`Fault::Corrupt`] when it is none.
pub fn cursor(bytes: &[u8], conversation: &ConversationId) -> Result<CursorChanged, Fault> {
    let twin: CursorTwin = parse(bytes)?;
    Ok(CursorChanged {
        conversation: conversation.clone(),
        user: user(&twin.u)?,
        moved: Moved { delivered: twin.d, read: twin.r },
        at: Time(twin.t),
        version: twin.v,
    })
}

/// Reads a change of presence, without its letter.
///
/// # Errors
/// [`Fault::Corrupt`] when it is none.
pub fn presence(bytes: &[u8]) -> Result<PresenceChanged, Fault> {
    let twin: PresenceTwin = parse(bytes)?;
    Ok(PresenceChanged {
        user: user(&twin.u)?,
        status: status(twin.s.into())?,
        before: status(twin.b.into())?,
        last_seen: Time(twin.l),
        at: Time(twin.t),
        cause: match twin.c.as_str() {
            "closed" => PresenceCause::Closed,
            "expired" => PresenceCause::Expired,
            _ => PresenceCause::Said,
        },
    })
}

const fn cause(cause: PresenceCause) -> &'static str {
    match cause {
        PresenceCause::Said => "said",
        PresenceCause::Closed => "closed",
        PresenceCause::Expired => "expired",
    }
}

fn spell(letter: u8, twin: &impl Serialize) -> Vec<u8> {
    let mut word = vec![letter];
    // Strings and integers only: serde_json has no way to fail on them.
    word.extend(serde_json::to_vec(twin).unwrap_or_default());
    word
}

/// Of what it is, and the word.
pub fn write(what: &Happening) -> (String, Vec<u8>) {
    match what {
        Happening::Created { conversation, by, at } => {
            let b = by.as_ref().map(ToString::to_string).unwrap_or_default();
            (format!("c:{conversation}"), spell(b'n', &CreatedTwin { b, t: at.millis() }))
        }
        Happening::Entry { conversation, entry } => {
            let mut word = vec![b'e'];
            word.extend(record::encode(entry));
            (format!("c:{conversation}"), word)
        }
        Happening::Cursor(c) => {
            let (d, r) = (c.moved.delivered, c.moved.read);
            let twin = CursorTwin { u: c.user.to_string(), t: c.at.millis(), v: c.version, d, r };
            (format!("c:{}", c.conversation), spell(b'c', &twin))
        }
        Happening::Presence(p) => {
            let twin = PresenceTwin {
                u: p.user.to_string(),
                s: status_digit(p.status),
                b: status_digit(p.before),
                l: p.last_seen.millis(),
                t: p.at.millis(),
                c: cause(p.cause).to_owned(),
            };
            (p.user.to_string(), spell(b'p', &twin))
        }
        Happening::Connection(c) => {
            let (u, i, m) = (c.user.to_string(), c.connection.clone(), c.mount.clone());
            (c.user.to_string(), spell(b'l', &ConnectionTwin { u, i, m, o: c.on, t: c.at.millis() }))
        }
    }
}

/// Reads [`write()`]; `None` for a kind of a later release.
///
/// # Errors
/// [`Fault::Corrupt`] when it is none.
pub fn read(of: &str, word: &[u8]) -> Result<Option<Happening>, Fault> {
    let (letter, body) = word.split_first().ok_or_else(|| corrupt("empty"))?;
    let conversation = || {
        let id = of.strip_prefix("c:").ok_or_else(|| corrupt("not of a conversation"))?;
        ConversationId::parse(id).map_err(corrupt)
    };
    Ok(Some(match letter {
        b'n' => {
            let twin: CreatedTwin = parse(body)?;
            let by = (!twin.b.is_empty()).then(|| user(&twin.b)).transpose()?;
            Happening::Created { conversation: conversation()?, by, at: Time(twin.t) }
        }
        b'e' => Happening::Entry { conversation: conversation()?, entry: record::decode(body)? },
        b'c' => Happening::Cursor(cursor(body, &conversation()?)?),
        b'p' => Happening::Presence(presence(body)?),
        b'l' => {
            let twin: ConnectionTwin = parse(body)?;
            Happening::Connection(ConnectionChanged {
                user: user(&twin.u)?,
                connection: twin.i,
                mount: twin.m,
                on: twin.o,
                at: Time(twin.t),
            })
        }
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_model::{Entry, MessageId, Record};

    #[test]
    fn happenings_read_back_and_what_is_unknown_is_none() {
        let (id, conversation) = (UserId::parse("zoe").unwrap(), ConversationId::parse("c").unwrap());
        let entry = Entry {
            seq: 3,
            epoch: 2,
            at: Time(9),
            prev_at: Time(8),
            id: MessageId::new(7, 3).unwrap(),
            record: Record::Deleted,
        };
        let cursor = CursorChanged {
            conversation: conversation.clone(),
            user: id.clone(),
            moved: Moved { delivered: None, read: Some((1, 4)) },
            at: Time(5),
            version: 6,
        };
        let presence = PresenceChanged {
            user: id.clone(),
            status: Status::Busy,
            before: Status::Away,
            last_seen: Time(4),
            at: Time(5),
            cause: PresenceCause::Expired,
        };
        let connection = ConnectionChanged {
            user: id.clone(),
            connection: "x/1".to_owned(),
            mount: "/chat \"1\"".to_owned(),
            on: true,
            at: Time(3),
        };
        for what in [
            Happening::Created { conversation: conversation.clone(), by: Some(id), at: Time(1) },
            Happening::Created { conversation: conversation.clone(), by: None, at: Time(1) },
            Happening::Entry { conversation, entry },
            Happening::Cursor(cursor),
            Happening::Presence(presence),
            Happening::Connection(connection),
        ] {
            let (of, word) = write(&what);
            assert_eq!(read(&of, &word).unwrap(), Some(what));
        }
        assert_eq!(read("c:c", b"z{}").unwrap(), None);
        for bad in ["", "e", "e{}", "p{\"u\":\"a b\"}", "c{}", "n{}", "l[]"] {
            assert!(read("c:c", bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(read("c", b"n{\"t\":1}").is_err());
    }
}
