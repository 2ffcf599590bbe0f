//! Writing what is missing, by the sink's own statements: whoever writes the same beside it changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use parlance_model::{Conversation, ConversationId, Cursor, Entry, Member, Time, UserId};
use parlance_postgres::Refused;
use tokio::time::timeout;
use tokio_postgres::Transaction;

use super::PATIENCE;
use super::known::{Floor, Forgotten, named};
use crate::keep::{FORGETTING, Policies};
use crate::rows::{self, Rows};
use crate::store::{APPLY, LOCK, Store, copy};

const STAGING: &str = include_str!("staging.sql");
const SETTLE: &str = include_str!("settle.sql");
/// Who brings history in; the second half of a pair that is no part's.
const BRINGING: i32 = -2;

/// What is there of some places: sequence, epoch, milliseconds.
const THERE: &str = "SELECT seq, epoch, (extract(epoch FROM sent_at) * 1000)::bigint FROM parlance.messages
        WHERE conversation = $1 AND seq BETWEEN $2 AND $3
    UNION ALL SELECT seq, epoch, (extract(epoch FROM at) * 1000)::bigint FROM parlance.entries
        WHERE conversation = $1 AND seq BETWEEN $2 AND $3";
/// How many places of a log are there, such as can be read again.
const COUNT: &str = "SELECT (SELECT count(*) FROM parlance.messages
        WHERE conversation = $1 AND seq > $2 AND seq <= $3 AND epoch >= $4 AND prev_at IS NOT NULL)
    + (SELECT count(*) FROM parlance.entries WHERE conversation = $1 AND seq > $2 AND seq <= $3 AND epoch >= $4)";

/// Where something is written, and what is kept of it.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub id: &'a ConversationId,
    pub part: usize,
    pub policies: &'a Policies,
}

/// A conversation, and some of its members and cursors as they stand.
pub struct Standing<'a> {
    pub conversation: &'a Conversation,
    /// Of the first entry that is kept.
    pub epoch: u32,
    pub members: &'a [Member],
    pub cursors: &'a [Cursor],
}

/// Takes the lock of whoever brings history in, for as long as the connection is there; `false`: somebody else has it.
pub async fn hold(store: &Store) -> Result<bool, Refused> {
    store.session.batch_execute(STAGING).await?;
    let lock = "SELECT pg_try_advisory_lock($1, $2)";
    Ok(store.session.query_one(lock, &[&LOCK, &BRINGING]).await?.try_get(0)?)
}

fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

impl Store {
    /// Whether all places of a log behind one, up to another, are there; the epoch is that of the first one that is kept.
    pub async fn has_all(
        &self,
        id: &ConversationId,
        (after, to): (u64, u64),
        epoch: u32,
    ) -> Result<bool, Refused> {
        let (id, from, end, epoch) = (id.as_str(), number(after), number(to), i64::from(epoch));
        let asked = timeout(PATIENCE, self.session.query_one(COUNT, &[&id, &from, &end, &epoch])).await;
        let count: i64 = asked.map_err(|_| Refused::late())??.try_get(0)?;
        Ok(count >= end - from)
    }

    /// Writes those of some entries that are missing and may come; how many these are. `bound`: the first entry of the log
    /// that may come, where there are some before it that may not.
    pub async fn fill(
        &mut self,
        place: Place<'_>,
        entries: &[Entry],
        bound: &mut Option<u64>,
    ) -> Result<u64, Refused> {
        timeout(PATIENCE, self.filled(place, entries, bound)).await.map_err(|_| Refused::late())?
    }

    async fn filled(
        &mut self,
        Place { id, part, policies }: Place<'_>,
        entries: &[Entry],
        bound: &mut Option<u64>,
    ) -> Result<u64, Refused> {
        let step = self.session.transaction().await?;
        lock(&step, part).await?;
        let floor = Floor::of(&step, id, policies).await?;
        let (wanted, unwanted): (Vec<&Entry>, Vec<&Entry>) =
            entries.iter().partition(|entry| floor.admits(entry.at));
        if let Some(last) = unwanted.last() {
            *bound = Some(last.seq.saturating_add(1));
        }
        let there = there(&step, id, &wanted).await?;
        let is_missing =
            |entry: &&Entry| there.get(&entry.seq).is_none_or(|is| *is < (entry.epoch, entry.at));
        let missing: Vec<&Entry> = wanted.into_iter().filter(is_missing).collect();
        if missing.is_empty() {
            return Ok(0);
        }
        let users = missing.iter().flat_map(|entry| named(entry)).collect();
        let forgotten = Forgotten::among(&step, users).await?;
        let missing: Vec<Entry> = missing.into_iter().map(|entry| forgotten.unsaid(entry.clone())).collect();
        let mut rows = Rows::of_entries(missing.iter().map(|entry| (id, entry)));
        rows.without_reactions_to(bound.unwrap_or_default());
        write(step, &rows).await?;
        Ok(missing.len() as u64)
    }

    /// Writes what stands.
    pub async fn stand(&mut self, part: usize, standing: &Standing<'_>) -> Result<(), Refused> {
        timeout(PATIENCE, self.stood(part, standing)).await.map_err(|_| Refused::late())?
    }

    async fn stood(&mut self, part: usize, standing: &Standing<'_>) -> Result<(), Refused> {
        let Standing { conversation, epoch, members, cursors } = standing;
        let id = &conversation.id;
        let step = self.session.transaction().await?;
        lock(&step, part).await?;
        // However old it is, its members and receipts stay for as long as it is there.
        let floor = Floor::of(&step, id, &Policies::default()).await?;
        if floor.is_forgotten(conversation.created_at) {
            return Ok(());
        }
        let users: BTreeSet<&UserId> = members.iter().map(|member| &member.user).collect();
        let users = users.into_iter().chain(cursors.iter().map(|cursor| &cursor.user));
        let forgotten = Forgotten::among(&step, users.chain(&conversation.created_by).collect()).await?;
        let since = |user: &UserId, at: Time| forgotten.at(user).is_none_or(|forgotten| at > forgotten);
        let by = conversation.created_by.as_ref().filter(|by| since(by, conversation.created_at));
        let mut rows = Rows::default();
        rows.created(id, conversation.head.epoch, conversation.created_at, by.cloned());
        for member in *members {
            // The entry of their coming comes right behind where they joined.
            let joined = member.joined_seq.saturating_add(1);
            let known = if joined >= conversation.head.since { conversation.head.epoch } else { *epoch };
            let life = (*epoch).min(conversation.head.epoch);
            let (joined, after) = ((known, joined), forgotten.at(&member.user));
            rows.stands(id, &member.user, rows::Standing { joined, life, after });
        }
        for cursor in cursors.iter().filter(|cursor| since(&cursor.user, cursor.read_at)) {
            rows.cursor_stands(id, cursor);
        }
        write(step, &rows).await
    }
}

/// Excludes who else writes this part, and whoever forgets somebody.
async fn lock(step: &Transaction<'_>, part: usize) -> Result<(), Refused> {
    let part = i32::try_from(part).unwrap_or(i32::MAX);
    step.query(
        "SELECT pg_advisory_xact_lock($1, $2), pg_advisory_xact_lock_shared($1, $3)",
        &[&LOCK, &part, &FORGETTING],
    )
    .await?;
    Ok(())
}

async fn write(step: Transaction<'_>, rows: &Rows) -> Result<(), Refused> {
    for (table, lines) in rows.copies() {
        copy(&step, table, &lines).await?;
    }
    step.batch_execute(APPLY).await?;
    step.batch_execute(SETTLE).await?;
    Ok(step.commit().await?)
}

/// What has which place, the later one of two.
async fn there(
    step: &Transaction<'_>,
    id: &ConversationId,
    entries: &[&Entry],
) -> Result<BTreeMap<u64, (u32, Time)>, Refused> {
    let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return Ok(BTreeMap::new()) };
    let mut all = BTreeMap::new();
    for row in step.query(THERE, &[&id.as_str(), &number(first.seq), &number(last.seq)]).await? {
        let (seq, epoch, at): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let is = (u32::try_from(epoch).unwrap_or(u32::MAX), Time(at.unsigned_abs()));
        let known = all.entry(seq.unsigned_abs()).or_insert(is);
        *known = (*known).max(is);
    }
    Ok(all)
}
