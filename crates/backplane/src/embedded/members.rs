//! The members trait: looking at some members, and changing many, without going through all of them.

use std::collections::BTreeSet;

use async_trait::async_trait;
use parlance_model::{ConversationId, LogKey, Record, UserId};

use super::Node;
use super::append::{OpenLog, append};
use super::change::conversation;
use super::rooms::Evicted;
use super::tables::{
    CONVERSATIONS, LOGS, MEMBERS, Meta, conversation_key, corrupt, live_state, members_among, members_within,
    put_row, row,
};
use super::writer::Step;
use crate::{Enlisted, Enlistment, Fault, MANY, Members, NAMED, Outline};

#[async_trait]
impl Members for Node {
    async fn enlist(&self, call: Enlistment) -> Result<Option<Enlisted>, Fault> {
        let asked = call.add.clone();
        let Some(mut done) = self.engine.writer.run(move |step| enlist(step, &call)).await? else {
            return Ok(None);
        };
        // After the commit: whoever takes a lease later finds the membership.
        done.present = self.engine.leases.lock().leased(asked);
        Ok(Some(done))
    }

    async fn joined(&self, id: &ConversationId, users: &[UserId]) -> Result<Vec<Option<u64>>, Fault> {
        let (id, users) = (id.clone(), users.to_vec());
        self.engine
            .read(move |txn| {
                let members = txn.open_table(MEMBERS)?;
                let of = |user: &UserId| {
                    Ok(members.get((id.as_str(), user.as_str()))?.map(|joined| joined.value()))
                };
                users.iter().map(of).collect()
            })
            .await
    }

    async fn outline(&self, id: &ConversationId) -> Result<Option<Outline>, Fault> {
        let id = id.clone();
        self.engine
            .read(move |txn| {
                let Some(state) = live_state(&txn.open_table(LOGS)?, &conversation_key(&id))? else {
                    return Ok(None);
                };
                let meta: Meta = row(&txn.open_table(CONVERSATIONS)?, id.as_str())?
                    .ok_or_else(|| corrupt("no row of conversation", id.as_str()))?;
                let members = members_within(&txn.open_table(MEMBERS)?, &id, MANY)?;
                let many = members.is_none();
                let conversation = conversation(&id, &meta, &state, members.unwrap_or_default())?;
                Ok(Some(Outline { conversation, many }))
            })
            .await
    }
}

fn enlist(step: &mut Step<'_, '_>, call: &Enlistment) -> Result<Option<Enlisted>, Fault> {
    let key = conversation_key(&call.id);
    let Some(state) = live_state(&step.read().logs, &key)? else { return Ok(None) };
    let (add, remove): (BTreeSet<&UserId>, BTreeSet<&UserId>) =
        (call.add.iter().collect(), call.remove.iter().collect());
    let table = &step.read().members;
    let there: BTreeSet<UserId> =
        members_among(table, &call.id, add.iter().copied())?.into_iter().map(|member| member.user).collect();
    let added: Vec<UserId> = add.into_iter().filter(|user| !there.contains(*user)).cloned().collect();
    let removed: Vec<UserId> =
        members_among(table, &call.id, remove)?.into_iter().map(|member| member.user).collect();
    if added.is_empty() && removed.is_empty() {
        return Ok(Some(Enlisted::default()));
    }
    let id = call.id.as_str();
    let mut meta: Meta =
        row(&step.read().conversations, id)?.ok_or_else(|| corrupt("no row of conversation", id))?;
    meta.updated_at = step.now().millis();
    let mut log = OpenLog::new(LogKey::Conversation(call.id.clone()), state);
    let tables = step.write();
    for user in &added {
        tables.members.insert((id, user.as_str()), log.state.seq)?;
        tables.belongs.insert((user.as_str(), id), ())?;
    }
    for user in &removed {
        tables.members.remove((id, user.as_str()))?;
        tables.belongs.remove((user.as_str(), id))?;
    }
    put_row(&mut tables.conversations, id, &meta)?;
    log.state.version += 1;
    let named = if added.len() > NAMED { Vec::new() } else { added.clone() };
    append(step, &mut log, Record::Members { added: named, removed: removed.clone(), by: None })?;
    if !removed.is_empty() {
        step.evict(Evicted { conversation: call.id.clone(), users: Some(removed.clone()) });
    }
    Ok(Some(Enlisted { added, removed, present: Vec::new() }))
}
