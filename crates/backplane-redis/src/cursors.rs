//! The cursors trait.

use async_trait::async_trait;
use parlance_backplane::{CursorChanged, CursorSet, Cursors, Fault};
use parlance_model::{ConversationId, Cursor, LogKey, ReceiptKind, Time, UserId};

use crate::batches::ask_all;
use crate::engine::{Args, Node};
use crate::envelope;
use crate::keys::partition;
use crate::link::{Reply, at};

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
        let answer = self.on_log("gw1_cursor", &LogKey::Conversation(conversation.clone()), args).await?;
        match answer.first() {
            Some(told) => envelope::cursor(told.text()?.as_bytes(), conversation).map(Some),
            None => Ok(None),
        }
    }

    async fn cursors(&self, conversation: &ConversationId) -> Result<(u64, Vec<Cursor>), Fault> {
        let log = LogKey::Conversation(conversation.clone());
        let answer = self.on_log("gw1_cursors", &log, Args::none()).await?;
        if answer.is_empty() {
            return Ok((0, Vec::new()));
        }
        Ok((at(&answer, 0).number()?, cursors(at(&answer, 1))?))
    }

    async fn standing(&self, conversations: &[ConversationId]) -> Vec<Result<CursorSet, Fault>> {
        let of = |id: &ConversationId| partition(&format!("c:{id}"));
        ask_all(conversations, of, |ids| async move {
            let keys: Vec<String> = ids.iter().flat_map(|id| self.keys.place(id)).collect();
            self.list("gw1_cursor_sets", &keys, Args::none()).await?.into_iter().map(standing).collect()
        })
        .await
    }
}

fn standing(told: Reply) -> Result<CursorSet, Fault> {
    let told = told.list()?;
    if told.is_empty() {
        return Ok(CursorSet::default());
    }
    let number = u32::try_from(at(&told, 1).number()?).unwrap_or(u32::MAX);
    Ok(CursorSet { number, version: at(&told, 0).number()?, cursors: cursors(at(&told, 2))? })
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
