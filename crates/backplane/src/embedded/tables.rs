//! The durable file's layout: tables, their keys, and the small JSON rows in them.
//!
//! Owns: how state is laid out on disk. Must not know: batching, publication, the traits.

use parlance_model::{
    ConversationId, ConversationKind, Cursor, Head, LogKey, Member, MessageId, Record, Time, UserId,
};
use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use crate::Fault;
use crate::record::decode;

type Pair = (&'static str, &'static str);

/// log key, sequence → appended at, entry (see [`crate::record`]).
pub const ENTRIES: TableDefinition<'_, (&str, u64), (u64, &[u8])> = TableDefinition::new("entries");
/// log key → [`LogState`].
pub const LOGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("logs");
/// conversation → [`Meta`].
pub const CONVERSATIONS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("conversations");
/// conversation, user → the head when the user joined.
pub const MEMBERS: TableDefinition<'_, Pair, u64> = TableDefinition::new("members");
/// user, conversation.
pub const BELONGS: TableDefinition<'_, Pair, ()> = TableDefinition::new("belongs");
/// conversation, user → delivered, read, read at.
pub const CURSORS: TableDefinition<'_, Pair, (u64, u64, u64)> = TableDefinition::new("cursors");
/// sender, client id, conversation → sequence, epoch, appended at. Both the dedupe key and the index by client id.
pub const CLIENT_IDS: TableDefinition<'_, (&str, &str, &str), (u64, u32, u64)> =
    TableDefinition::new("client_ids");
/// appended at, then the key of [`CLIENT_IDS`]: what leaves the dedupe window first.
pub const CLIENT_ID_AGES: TableDefinition<'_, (u64, &str, &str, &str), ()> =
    TableDefinition::new("client_id_ages");
/// log key, target, kind, user → the sequence of the reaction: those that stand.
pub const REACTIONS: TableDefinition<'_, (&str, u64, &str, &str), u64> = TableDefinition::new("standing");
/// [`REACTIONS`] as files of the first release have it, without the sequence.
const OLD_REACTIONS: TableDefinition<'_, (&str, u64, &str, &str), ()> = TableDefinition::new("reactions");
/// number → log key, block. Rows are never removed: a number is never used twice.
pub const NUMBERS: TableDefinition<'_, u32, (&str, u32)> = TableDefinition::new("numbers");
/// name → value.
pub const COUNTERS: TableDefinition<'_, &str, u64> = TableDefinition::new("counters");
/// user, integer → log key, sequence.
pub const POINTERS: TableDefinition<'_, (&str, u64), (&str, u64)> = TableDefinition::new("pointers");
/// user, log key, sequence → integer.
pub const ASSIGNED: TableDefinition<'_, (&str, &str, u64), u64> = TableDefinition::new("assigned");
/// user, log key → the highest sequence that has an integer.
pub const MARKS: TableDefinition<'_, Pair, u64> = TableDefinition::new("marks");
/// key → ends at (`u64::MAX`: never), value.
pub const SHARED: TableDefinition<'_, &str, (u64, &[u8])> = TableDefinition::new("shared");
/// ends at, key.
pub const SHARED_ENDS: TableDefinition<'_, (u64, &str), ()> = TableDefinition::new("shared_ends");
/// user → last heard of, written when the user goes offline.
pub const LAST_SEEN: TableDefinition<'_, &str, u64> = TableDefinition::new("last_seen");

/// number → of what it is, word (see [`crate::trail`]), group and id where it was brought back.
pub const TRAIL: TableDefinition<'_, u64, (&str, &[u8], &str)> = TableDefinition::new("trail");
/// group → the first step it has not settled.
pub const TRAIL_GROUPS: TableDefinition<'_, &str, u64> = TableDefinition::new("trail_groups");
/// group, number → of what it is, word, id: what was put aside.
pub const TRAIL_DEAD: TableDefinition<'_, (&str, u64), (&str, &[u8], &str)> =
    TableDefinition::new("trail_dead");

macro_rules! tables {
    ($($field:ident: $def:ident, $key:ty, $value:ty;)*) => {
        /// Every table, open for writing.
        pub struct Tables<'t> { $(pub $field: Table<'t, $key, $value>,)* }

        impl<'t> Tables<'t> {
            /// Opens (and the first time creates) them all.
            pub fn open(txn: &'t WriteTransaction) -> Result<Self, Fault> {
                Ok(Self { $($field: txn.open_table($def)?,)* })
            }
        }
    };
}

tables! {
    entries: ENTRIES, (&'static str, u64), (u64, &'static [u8]);
    logs: LOGS, &'static str, &'static [u8];
    conversations: CONVERSATIONS, &'static str, &'static [u8];
    members: MEMBERS, Pair, u64;
    belongs: BELONGS, Pair, ();
    cursors: CURSORS, Pair, (u64, u64, u64);
    client_ids: CLIENT_IDS, (&'static str, &'static str, &'static str), (u64, u32, u64);
    client_id_ages: CLIENT_ID_AGES, (u64, &'static str, &'static str, &'static str), ();
    reactions: REACTIONS, (&'static str, u64, &'static str, &'static str), u64;
    numbers: NUMBERS, u32, (&'static str, u32);
    counters: COUNTERS, &'static str, u64;
    pointers: POINTERS, (&'static str, u64), (&'static str, u64);
    assigned: ASSIGNED, (&'static str, &'static str, u64), u64;
    marks: MARKS, Pair, u64;
    shared: SHARED, &'static str, (u64, &'static [u8]);
    shared_ends: SHARED_ENDS, (u64, &'static str), ();
    last_seen: LAST_SEEN, &'static str, u64;
    trail: TRAIL, u64, (&'static str, &'static [u8], &'static str);
    trail_groups: TRAIL_GROUPS, &'static str, u64;
    trail_dead: TRAIL_DEAD, (&'static str, u64), (&'static str, &'static [u8], &'static str);
}

/// Brings a file of the first release up to date: its standing reactions get their sequences from the logs.
pub fn upgrade(txn: &WriteTransaction) -> Result<(), Fault> {
    {
        let old = txn.open_table(OLD_REACTIONS)?;
        if !old.is_empty()? {
            let (entries, mut reactions) = (txn.open_table(ENTRIES)?, txn.open_table(REACTIONS)?);
            for found in entries.iter()? {
                let (key, value) = found?;
                let (log, seq) = key.value();
                let Record::Reaction { author, target, kind, added: true } = decode(value.value().1)?.record
                else {
                    continue;
                };
                let row = (log, target, &*kind, author.id.as_str());
                if old.get(row)?.is_some() {
                    reactions.insert(row, seq)?;
                }
            }
        }
    }
    txn.delete_table(OLD_REACTIONS)?;
    Ok(())
}

/// Where a log stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LogState {
    /// Newest sequence.
    #[serde(rename = "s")]
    pub seq: u64,
    /// First sequence still kept.
    #[serde(rename = "f")]
    pub first: u64,
    /// Epoch.
    #[serde(rename = "e")]
    pub epoch: u32,
    /// Time of the newest entry.
    #[serde(rename = "t")]
    pub at: u64,
    /// Cursor version.
    #[serde(rename = "c", default)]
    pub cursor_version: u64,
    /// Version of members and title.
    #[serde(rename = "v", default)]
    pub version: u64,
    /// Block numbers.
    #[serde(rename = "n", default)]
    pub numbers: Vec<u32>,
    /// A tombstone: the conversation is gone, but sequence and epoch go on if it comes back.
    #[serde(rename = "d", default, skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    /// With `deleted`: nobody deleted the conversation, it was lost.
    #[serde(rename = "x", default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// First sequence of the epoch.
    #[serde(rename = "b", default)]
    pub since: u64,
    /// First sequence of this life of the conversation; 0 in files of the first release.
    #[serde(rename = "l", default)]
    pub born: u64,
    /// Sequences between the first and the newest entry that were left free.
    #[serde(rename = "h", default)]
    pub holes: u64,
}

impl LogState {
    /// A log that begins.
    pub fn fresh(epoch: u32) -> Self {
        Self { epoch, since: 1, born: 1, ..Self::default() }
    }

    /// Whether a client id that was noted at this place is one of this life of the conversation.
    pub const fn remembers(&self, seq: u64, epoch: u32) -> bool {
        epoch == self.epoch || (self.born > 0 && seq >= self.born)
    }

    /// The id of a sequence of this log.
    pub fn id(&self, seq: u64) -> Result<MessageId, Fault> {
        MessageId::of_sequence(&self.numbers, seq)
            .ok_or_else(|| Fault::Corrupt(format!("no number for sequence {seq}")))
    }

    /// As others see it.
    pub fn head(&self) -> Head {
        Head {
            seq: self.seq,
            epoch: self.epoch,
            at: Time(self.at),
            cursor_version: self.cursor_version,
            version: self.version,
            since: self.since.max(1),
        }
    }
}

/// What is known of a conversation besides its log and members.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// See [`ConversationKind::as_str`].
    #[serde(rename = "k")]
    pub kind: String,
    /// Title.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Creator.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Created at.
    #[serde(rename = "c")]
    pub created_at: u64,
    /// Changed at.
    #[serde(rename = "u")]
    pub updated_at: u64,
}

impl Meta {
    /// The kind, read.
    pub fn kind(&self) -> Result<ConversationKind, Fault> {
        ConversationKind::parse(&self.kind).ok_or_else(|| corrupt("conversation kind", &self.kind))
    }
}

/// The key of a log in every table.
pub fn log_key(key: &LogKey) -> String {
    match key {
        LogKey::Conversation(id) => conversation_key(id),
        LogKey::User(user) => format!("u:{user}"),
        LogKey::App(name) => format!("a:{name}"),
    }
}

/// [`log_key`] of a conversation.
pub fn conversation_key(id: &ConversationId) -> String {
    format!("c:{id}")
}

/// Reads [`log_key`].
pub fn parse_log_key(text: &str) -> Result<LogKey, Fault> {
    let bad = || corrupt("log key", text);
    match text.split_once(':').ok_or_else(bad)? {
        ("c", id) => ConversationId::parse(id).map(LogKey::Conversation).map_err(|_| bad()),
        ("u", id) => UserId::parse(id).map(LogKey::User).map_err(|_| bad()),
        ("a", name) => Ok(LogKey::App(name.into())),
        _ => Err(bad()),
    }
}

/// The string right after `text` in byte order: the exclusive end of a range over one first key part.
pub fn after(text: &str) -> String {
    format!("{text}\0")
}

/// What cannot be read.
pub fn corrupt(what: &str, text: &str) -> Fault {
    Fault::Corrupt(format!("{what} {text:?}"))
}

/// Reads a user id out of a key.
pub fn user(text: &str) -> Result<UserId, Fault> {
    UserId::parse(text).map_err(|_| corrupt("user", text))
}

/// Reads a JSON row.
pub fn row<T: serde::de::DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<T>, Fault> {
    let Some(found) = table.get(key)? else { return Ok(None) };
    serde_json::from_slice(found.value()).map(Some).map_err(|error| Fault::Corrupt(format!("{key}: {error}")))
}

/// Writes a JSON row.
pub fn put_row<T: Serialize>(
    table: &mut Table<'_, &'static str, &'static [u8]>,
    key: &str,
    value: &T,
) -> Result<(), Fault> {
    let bytes = serde_json::to_vec(value).map_err(|error| Fault::Corrupt(format!("{key}: {error}")))?;
    table.insert(key, bytes.as_slice())?;
    Ok(())
}

/// A log's state; `None` when it was never there or was deleted.
pub fn live_state(
    logs: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<LogState>, Fault> {
    Ok(row::<LogState>(logs, key)?.filter(|state| !state.deleted))
}

/// The members of a conversation, by user id.
pub fn members_of(
    members: &impl ReadableTable<Pair, u64>,
    id: &ConversationId,
) -> Result<Vec<Member>, Fault> {
    Ok(members_within(members, id, usize::MAX)?.unwrap_or_default())
}

/// The members of a conversation, unless they are more than `most`.
pub fn members_within(
    members: &impl ReadableTable<Pair, u64>,
    id: &ConversationId,
    most: usize,
) -> Result<Option<Vec<Member>>, Fault> {
    let (from, to) = (id.as_str(), after(id.as_str()));
    let mut all = Vec::new();
    for found in members.range((from, "")..(to.as_str(), ""))? {
        if all.len() == most {
            return Ok(None);
        }
        let (key, joined) = found?;
        all.push(Member { user: user(key.value().1)?, joined_seq: joined.value() });
    }
    Ok(Some(all))
}

/// Of these users those who are members.
pub fn members_among<'a>(
    members: &impl ReadableTable<Pair, u64>,
    id: &ConversationId,
    users: impl IntoIterator<Item = &'a UserId>,
) -> Result<Vec<Member>, Fault> {
    let mut found = Vec::new();
    for user in users {
        if let Some(joined) = members.get((id.as_str(), user.as_str()))? {
            found.push(Member { user: user.clone(), joined_seq: joined.value() });
        }
    }
    Ok(found)
}

/// The cursors of a conversation, by user id.
pub fn cursors_of(txn: &ReadTransaction, id: &ConversationId) -> Result<Vec<Cursor>, Fault> {
    let (from, to) = (id.as_str(), after(id.as_str()));
    let mut all = Vec::new();
    for found in txn.open_table(CURSORS)?.range((from, "")..(to.as_str(), ""))? {
        let (key, cursor) = found?;
        let (delivered, read, read_at) = cursor.value();
        all.push(Cursor { user: user(key.value().1)?, delivered, read, read_at: Time(read_at) });
    }
    Ok(all)
}
