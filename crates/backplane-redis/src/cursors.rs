//! The cursors trait.

use async_trait::async_trait;
use parlance_backplane::{CursorChanged, CursorSet, Cursors, Fault, MANY, trail};
use parlance_model::{ConversationId, Cursor, LogKey, ReceiptKind, Time, UserId};

use crate::batches::ask_all;
use crate::engine::{Args, Node};
use crate::keys::partition;
use crate::link::{Reply, at};

/// How many of a log's keys who moves a cursor hands over.
const MOVES: usize = 6;

#[async_trait]
impl Cursors for Node {
    async fn advance(
        &self,
        conversation: &ConversationId,
        user: &UserId,
        kind: ReceiptKind,
        seq: u64,
    ) -> Result<Option<CursorChanged>, Fault> {
        let kind = if kind == ReceiptKind::Read { "r" } else { "d" };
        let args = self.timed().and(user).and(kind).and(seq.min(1 << 52));
        let keys = self.keys.log_for(&LogKey::Conversation(conversation.clone()), MOVES);
        let answer = self.list("gw1_cursor", &keys, args).await?;
        match answer.first() {
            Some(told) => trail::cursor(told.text()?.as_bytes(), conversation).map(Some),
            None => Ok(None),
        }
    }

    async fn cursors(&self, conversation: &ConversationId) -> Result<(u64, Vec<Cursor>), Fault> {
        let set = self.cursor_sets(&[conversation]).await?.pop().unwrap_or_default();
        Ok((set.version, set.cursors))
    }

    async fn standing(&self, conversations: &[ConversationId]) -> Vec<Result<CursorSet, Fault>> {
        let of = |id: &ConversationId| partition(&format!("c:{id}"));
        ask_all(conversations, of, |ids| async move { self.cursor_sets(&ids).await }).await
    }
}

impl Node {
    /// Those of conversations of one partition. Very many are read piece by piece, after their version: a move that comes
    /// meanwhile may be among them, and is published again.
    async fn cursor_sets(&self, ids: &[&ConversationId]) -> Result<Vec<CursorSet>, Fault> {
        let keys: Vec<String> = ids.iter().flat_map(|id| self.keys.place(id)).collect();
        let told = self.list("gw1_cursor_sets", &keys, Args::none().and(MANY)).await?;
        let mut sets = Vec::with_capacity(told.len());
        for (id, told) in ids.iter().copied().zip(told) {
            let told = told.list()?;
            let mut set = standing(&told)?;
            if matches!(at(&told, 3).number(), Ok(1)) {
                set.cursors = self.every_cursor(id).await?;
            }
            sets.push(set);
        }
        Ok(sets)
    }

    async fn every_cursor(&self, id: &ConversationId) -> Result<Vec<Cursor>, Fault> {
        let [state, _, kept] = self.keys.place(id);
        let mut all = Vec::new();
        for piece in self.pieces(&[state, kept]).await? {
            all.extend(cursors(&piece)?);
        }
        all.sort_by(|one, other| one.user.cmp(&other.user));
        all.dedup_by(|later, kept| later.user == kept.user);
        Ok(all)
    }
}

fn standing(told: &[Reply]) -> Result<CursorSet, Fault> {
    if told.is_empty() {
        return Ok(CursorSet::default());
    }
    let number = u32::try_from(at(told, 1).number()?).unwrap_or(u32::MAX);
    Ok(CursorSet { number, version: at(told, 0).number()?, cursors: cursors(at(told, 2))? })
}

fn cursors(pairs: &Reply) -> Result<Vec<Cursor>, Fault> {
    let all = pairs.clone().list()?;
    let mut cursors = all.chunks_exact(2).map(cursor).collect::<Result<Vec<_>, _>>()?;
    cursors.sort_by(|one, other| one.user.cmp(&other.user));
    Ok(cursors)
}

fn cursor(pair: &[Reply]) -> Result<Cursor, Fault> {
    let (user, marks) = (at(pair, 0).text()?, at(pair, 1).text()?);
    let corrupt = || Fault::Corrupt(format!("cursor of {user:?}: {marks:?}"));
    let numbers: Vec<u64> = marks.split(' ').filter_map(|part| part.parse().ok()).collect();
    let [delivered, read, read_at] = numbers[..] else { return Err(corrupt()) };
    Ok(Cursor { user: UserId::parse(user).map_err(|_| corrupt())?, delivered, read, read_at: Time(read_at) })
}
