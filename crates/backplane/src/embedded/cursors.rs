//! The cursors trait: delivered and read positions, with a dense version per conversation.

use async_trait::async_trait;
use parlance_model::{
    ConversationId, Cursor, ReceiptKind, Topic, UserId,
    delivery::{Marks, Moved},
};
use redb::ReadableTable;

use super::Node;
use super::tables::{LOGS, conversation_key, cursors_of, live_state, put_row};
use super::writer::Step;
use crate::{CursorChanged, CursorSet, Cursors, Fault, Publication};

#[async_trait]
impl Cursors for Node {
    async fn advance(
        &self,
        conversation: &ConversationId,
        user: &UserId,
        kind: ReceiptKind,
        seq: u64,
    ) -> Result<Option<CursorChanged>, Fault> {
        let (conversation, user) = (conversation.clone(), user.clone());
        self.engine.writer.run(move |step| advance(step, &conversation, &user, (kind, seq))).await
    }

    async fn cursors(&self, conversation: &ConversationId) -> Result<(u64, Vec<Cursor>), Fault> {
        let conversation = conversation.clone();
        self.engine
            .read(move |txn| {
                let state = live_state(&txn.open_table(LOGS)?, &conversation_key(&conversation))?;
                let Some(state) = state else { return Ok((0, Vec::new())) };
                Ok((state.cursor_version, cursors_of(txn, &conversation)?))
            })
            .await
    }

    async fn standing(&self, conversations: &[ConversationId]) -> Vec<Result<CursorSet, Fault>> {
        let asked = conversations.to_vec();
        let read = self.engine.read(move |txn| {
            let logs = txn.open_table(LOGS)?;
            let standing = |id: &ConversationId| {
                let Some(state) = live_state(&logs, &conversation_key(id))? else {
                    return Ok(CursorSet::default());
                };
                let number = state.numbers.first().copied().unwrap_or(0);
                Ok(CursorSet { number, version: state.cursor_version, cursors: cursors_of(txn, id)? })
            };
            asked.iter().map(standing).collect::<Result<Vec<_>, Fault>>()
        });
        match read.await {
            Ok(all) => all.into_iter().map(Ok).collect(),
            Err(fault) => conversations.iter().map(|_| Err(fault.clone())).collect(),
        }
    }
}

fn advance(
    step: &mut Step<'_, '_>,
    conversation: &ConversationId,
    user: &UserId,
    (kind, seq): (ReceiptKind, u64),
) -> Result<Option<CursorChanged>, Fault> {
    let log = conversation_key(conversation);
    let key = (conversation.as_str(), user.as_str());
    let Some(mut state) = live_state(&step.read().logs, &log)? else { return Ok(None) };
    let Some(joined) = step.read().members.get(key)?.map(|member| member.value()) else { return Ok(None) };
    let kept = step.read().cursors.get(key)?.map(|cursor| cursor.value());
    // What was said before a member joined is nobody's to hear delivered.
    let (delivered, read, read_at) = kept.unwrap_or((joined, joined, 0));
    let mut marks = Marks { delivered, read };
    let moved = marks.advance(kind, seq, state.seq);
    let at = step.now();
    if moved != Moved::default() {
        let read_at = if moved.read.is_some() { at.millis() } else { read_at };
        state.cursor_version += 1;
        let tables = step.write();
        tables.cursors.insert(key, (marks.delivered, marks.read, read_at))?;
        put_row(&mut tables.logs, &log, &state)?;
    }
    let changed = CursorChanged {
        conversation: conversation.clone(),
        user: user.clone(),
        moved,
        at,
        version: state.cursor_version,
    };
    if moved != Moved::default() {
        step.publish(Topic::Conversation(conversation.clone()), Publication::Cursor(changed.clone()));
    }
    Ok(Some(changed))
}
