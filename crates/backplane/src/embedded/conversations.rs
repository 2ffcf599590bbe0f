//! The conversations trait: reading them; the changes are in [`super::change`].

use async_trait::async_trait;
use parlance_model::{Conversation, ConversationId, UserId, delivery::Marks};
use redb::ReadTransaction;

use super::Node;
use super::change::{change, conversation, delete};
use super::tables::{
    BELONGS, CONVERSATIONS, CURSORS, LOGS, MEMBERS, Meta, after, conversation_key, corrupt, live_state,
    members_of, row,
};
use crate::{Change, ChangeRefused, Changed, Conversations, Fault, Listed, Membership};

#[async_trait]
impl Conversations for Node {
    async fn change(&self, wanted: Change) -> Result<Result<Changed, ChangeRefused>, Fault> {
        self.engine.writer.run(move |step| change(step, &wanted)).await
    }

    async fn get(&self, id: &ConversationId) -> Result<Option<Conversation>, Fault> {
        let id = id.clone();
        self.engine
            .read(move |txn| {
                let Some(state) = live_state(&txn.open_table(LOGS)?, &conversation_key(&id))? else {
                    return Ok(None);
                };
                let meta: Meta = row(&txn.open_table(CONVERSATIONS)?, id.as_str())?
                    .ok_or_else(|| corrupt("no row of conversation", id.as_str()))?;
                let members = members_of(&txn.open_table(MEMBERS)?, &id)?;
                conversation(&id, &meta, &state, members).map(Some)
            })
            .await
    }

    async fn of_user(&self, user: &UserId) -> Result<Vec<Membership>, Fault> {
        let user = user.clone();
        self.engine.read(move |txn| of_user(txn, user.as_str())).await
    }

    async fn listed(&self, from: Option<&str>, most: usize) -> Result<Listed, Fault> {
        let from = from.map(after).unwrap_or_default();
        self.engine.read(move |txn| listed(txn, &from, most.max(1))).await
    }

    async fn delete(&self, id: &ConversationId) -> Result<bool, Fault> {
        let id = id.clone();
        self.engine.writer.run(move |step| delete(step, &id)).await
    }
}

fn of_user(txn: &ReadTransaction, user: &str) -> Result<Vec<Membership>, Fault> {
    let (logs, members, cursors) =
        (txn.open_table(LOGS)?, txn.open_table(MEMBERS)?, txn.open_table(CURSORS)?);
    let end = after(user);
    let mut all = Vec::new();
    for found in txn.open_table(BELONGS)?.range((user, "")..(end.as_str(), ""))? {
        let (key, _) = found?;
        let id = key.value().1;
        let conversation = ConversationId::parse(id).map_err(|_| corrupt("conversation", id))?;
        let state = live_state(&logs, &conversation_key(&conversation))?;
        let (Some(state), Some(joined)) = (state, members.get((id, user))?) else {
            return Err(corrupt("a membership without its conversation", id));
        };
        let marks = cursors.get((id, user))?.map(|cursor| cursor.value());
        let marks = marks.map_or_else(Marks::default, |(delivered, read, _)| Marks { delivered, read });
        let number = state.numbers.first().copied().unwrap_or(0);
        all.push(Membership { conversation, number, joined_seq: joined.value(), head: state.head(), marks });
    }
    Ok(all)
}

/// From one on, by id.
fn listed(txn: &ReadTransaction, from: &str, most: usize) -> Result<Listed, Fault> {
    let mut page = Listed::default();
    for found in txn.open_table(CONVERSATIONS)?.range(from..)? {
        if page.ids.len() == most {
            page.next = page.ids.last().map(ToString::to_string);
            break;
        }
        let (key, _) = found?;
        let id = key.value();
        page.ids.push(ConversationId::parse(id).map_err(|_| corrupt("conversation", id))?);
    }
    Ok(page)
}
