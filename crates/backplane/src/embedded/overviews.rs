//! The overviews trait: conversations at a glance, each read from the end of its log.
//!
//! Must not know: who asks for them.

use async_trait::async_trait;
use parlance_model::{ConversationId, Entry, Record, Time, UserId};
use redb::{ReadOnlyTable, ReadTransaction};

use super::Node;
use super::tables::{
    BELONGS, CONVERSATIONS, CURSORS, ENTRIES, LOGS, LogState, MEMBERS, Meta, after, conversation_key,
    corrupt, live_state, row, user,
};
use crate::record::decode;
use crate::{BEHIND, Belonging, COUNTED, FEW, Fault, Overview, Overviews, Reading, SCANNED, SCANNED_BYTES};

#[async_trait]
impl Overviews for Node {
    async fn belonging(
        &self,
        user: &UserId,
        after: Option<&ConversationId>,
        limit: usize,
    ) -> Result<Belonging, Fault> {
        let (user, after) = (user.clone(), after.cloned());
        self.engine.read(move |txn| belonging(txn, user.as_str(), after.as_ref(), limit)).await
    }

    async fn overviews(
        &self,
        user: &UserId,
        conversations: &[ConversationId],
    ) -> Vec<Result<Option<Overview>, Fault>> {
        let (user, asked) = (user.clone(), conversations.to_vec());
        let read = self.engine.read(move |txn| {
            let tables = Open::new(txn)?;
            Ok(asked.iter().map(|id| tables.overview(&user, id)).collect::<Vec<_>>())
        });
        read.await.unwrap_or_else(|fault| conversations.iter().map(|_| Err(fault.clone())).collect())
    }
}

fn belonging(
    txn: &ReadTransaction,
    user: &str,
    behind: Option<&ConversationId>,
    limit: usize,
) -> Result<Belonging, Fault> {
    let (from, end) = (behind.map(|id| after(id.as_str())).unwrap_or_default(), after(user));
    let mut found = Belonging::default();
    for row in txn.open_table(BELONGS)?.range((user, from.as_str())..(end.as_str(), ""))? {
        if found.ids.len() == limit {
            found.more = true;
            break;
        }
        let (key, _) = row?;
        let id = key.value().1;
        found.ids.push(ConversationId::parse(id).map_err(|_| corrupt("conversation", id))?);
    }
    Ok(found)
}

type Pair = (&'static str, &'static str);

/// The tables an overview is made of.
struct Open {
    logs: ReadOnlyTable<&'static str, &'static [u8]>,
    conversations: ReadOnlyTable<&'static str, &'static [u8]>,
    members: ReadOnlyTable<Pair, u64>,
    cursors: ReadOnlyTable<Pair, (u64, u64, u64)>,
    entries: ReadOnlyTable<(&'static str, u64), (u64, &'static [u8])>,
}

/// What the end of a log shows.
#[derive(Default)]
struct End {
    last: Option<Entry>,
    unread: u64,
    more: bool,
}

impl Open {
    fn new(txn: &ReadTransaction) -> Result<Self, Fault> {
        Ok(Self {
            logs: txn.open_table(LOGS)?,
            conversations: txn.open_table(CONVERSATIONS)?,
            members: txn.open_table(MEMBERS)?,
            cursors: txn.open_table(CURSORS)?,
            entries: txn.open_table(ENTRIES)?,
        })
    }

    fn overview(&self, user: &UserId, id: &ConversationId) -> Result<Option<Overview>, Fault> {
        let (key, place) = (conversation_key(id), (id.as_str(), user.as_str()));
        let Some(state) = live_state(&self.logs, &key)? else { return Ok(None) };
        let Some(joined) = self.members.get(place)?.map(|joined| joined.value()) else { return Ok(None) };
        let meta: Meta = row(&self.conversations, id.as_str())?
            .ok_or_else(|| corrupt("no row of conversation", id.as_str()))?;
        let cursor = self.cursors.get(place)?.map(|cursor| cursor.value());
        let (_, read, at) = cursor.unwrap_or_default();
        let message = if at == 0 { None } else { self.message_at(&key, read)? };
        let end = self.end(&key, (user, read.max(joined)), &state)?;
        Ok(Some(Overview {
            conversation: id.clone(),
            kind: meta.kind()?,
            title: meta.title.map(Into::into),
            numbers: state.numbers.clone(),
            head: state.head(),
            members: self.few(id)?,
            read: Reading { seq: read, at: Time(at), message },
            unread: end.unread,
            more_unread: end.more,
            last: end.last,
        }))
    }

    fn few(&self, id: &ConversationId) -> Result<Option<Vec<UserId>>, Fault> {
        let end = after(id.as_str());
        let mut named = Vec::new();
        for found in self.members.range((id.as_str(), "")..(end.as_str(), ""))? {
            if named.len() as u64 == FEW {
                return Ok(None);
            }
            named.push(user(found?.0.value().1)?);
        }
        Ok(Some(named))
    }

    /// The newest message up to a place.
    fn message_at(&self, key: &str, seq: u64) -> Result<Option<(u64, Time)>, Fault> {
        let backwards = self.entries.range((key, 0)..=(key, seq))?.rev();
        for found in backwards.take(usize::try_from(BEHIND).unwrap_or(usize::MAX)) {
            let entry = decode(found?.1.value().1)?;
            if matches!(entry.record, Record::Message(_)) {
                return Ok(Some((entry.seq, entry.at)));
            }
        }
        Ok(None)
    }

    /// Looks at a log from its end on; what is up to `floor` is read.
    fn end(&self, key: &str, (user, floor): (&UserId, u64), state: &LogState) -> Result<End, Fault> {
        let (mut end, mut scanned, mut bytes) = (End::default(), 0, 0);
        for found in self.entries.range((key, 0)..=(key, state.seq))?.rev() {
            let (place, kept) = found?;
            let (seq, kept) = (place.value().1, kept.value().1);
            if seq <= floor && end.last.is_some() {
                break;
            }
            if scanned == SCANNED || bytes >= SCANNED_BYTES {
                end.more = seq > floor;
                break;
            }
            scanned += 1;
            bytes += kept.len();
            let entry = decode(kept)?;
            let Record::Message(message) = &entry.record else { continue };
            if seq > floor && message.author.id != *user {
                if end.unread == COUNTED {
                    end.more = true;
                    break;
                }
                end.unread += 1;
            }
            end.last.get_or_insert(entry);
        }
        Ok(end)
    }
}
