//! How far the members of a conversation have read.
//!
//! Owns: which message a cursor stands at. Must not know: who asks, how an answer is spelt.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use parlance_backplane::{Fault, Range};
use parlance_model::{Conversation, Cursor, LogKey, MessageId, Record, Time, UserId};
use parlance_wire::history::{ReadCursor, famly_id};

use crate::node::Node;

/// Entries looked at when a cursor stands at one that is no message.
const CHUNK: usize = 100;
/// Reads under way at once.
const AT_ONCE: usize = 8;

/// The members' read cursors, by user; of those who have read something.
pub async fn read(node: &Node, conversation: &Conversation) -> Result<Vec<ReadCursor>, Fault> {
    let (_, cursors) = node.backplane.cursors.cursors(&conversation.id).await?;
    let users: Vec<UserId> = cursors.iter().map(|cursor| cursor.user.clone()).collect();
    let joined = node.backplane.members.joined(&conversation.id, &users).await?;
    // What was there before a member is below its cursor, but nobody read it.
    let has_read = |cursor: &Cursor| cursor.read > 0 && cursor.read_at.millis() > 0;
    let mut cursors: Vec<Cursor> = cursors
        .into_iter()
        .zip(joined)
        .filter(|(c, joined)| has_read(c) && joined.is_some())
        .map(|(c, _)| c)
        .collect();
    cursors.sort_by(|a, b| a.user.as_str().cmp(b.user.as_str()));
    let key = LogKey::Conversation(conversation.id.clone());
    // Cursors of a lively conversation stand close together: each place is looked up once.
    let mut places: Vec<u64> = cursors.iter().map(|cursor| cursor.read).collect();
    places.sort_unstable();
    places.dedup();
    let key = &key;
    let found: BTreeMap<u64, Place> = stream::iter(places)
        .map(|seq| async move { Ok::<_, Fault>((seq, place(node, key, seq).await?)) })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    let shown = cursors.into_iter().filter_map(|cursor| {
        let message = match *found.get(&cursor.read)? {
            Place::Message(id, at) => famly_id(id, at),
            Place::Gone { before } => {
                let id = MessageId::of_sequence(&conversation.numbers, cursor.read)?;
                famly_id(id, before.min(cursor.read_at))
            }
            Place::Nothing => return None,
        };
        Some(ReadCursor { user: cursor.user, message, at: cursor.read_at })
    });
    Ok(shown.collect())
}

#[derive(Clone, Copy)]
enum Place {
    /// The newest message up to the cursor.
    Message(MessageId, Time),
    /// It is kept no more: it is from a time not after this. That orders it before everything that is kept.
    Gone { before: Time },
    /// No message is that old, and none was.
    Nothing,
}

async fn place(node: &Node, key: &LogKey, seq: u64) -> Result<Place, Fault> {
    let mut below = seq.saturating_add(1);
    let mut limit = 1;
    loop {
        let page = node.backplane.history.range(key, Range::Before { seq: below, limit }).await?;
        let message = page.entries.iter().rev().find(|e| matches!(e.record, Record::Message(_)));
        if let Some(entry) = message {
            return Ok(Place::Message(entry.id, entry.at));
        }
        match page.entries.first() {
            Some(oldest) if page.more => (below, limit) = (oldest.seq, CHUNK),
            Some(oldest) if oldest.seq > 1 => return Ok(Place::Gone { before: oldest.prev_at }),
            Some(_) => return Ok(Place::Nothing),
            None => return gone(node, key, page.first).await,
        }
    }
}

/// The place of a cursor below everything that is kept.
async fn gone(node: &Node, key: &LogKey, first: u64) -> Result<Place, Fault> {
    let page =
        node.backplane.history.range(key, Range::After { seq: first.saturating_sub(1), limit: 1 }).await?;
    let before = page.entries.first().map_or(Time::from_millis(u64::MAX), |entry| entry.prev_at);
    Ok(Place::Gone { before })
}
