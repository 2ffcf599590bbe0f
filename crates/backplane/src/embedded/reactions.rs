//! Reactions: adding and removing them inside a transaction, and reading those that stand.
//!
//! Owns: that a member's reaction of a kind to a message stands once. Must not know: how batches are committed.

use std::sync::Arc;

use async_trait::async_trait;
use parlance_model::{Author, ConversationId, LogKey, Record, Time};
use redb::{ReadTransaction, ReadableTable};

use super::Node;
use super::append::{OpenLog, append, stored};
use super::tables::{ENTRIES, LogState, REACTIONS, conversation_key, live_state, user};
use super::writer::Step;
use crate::record::decode;
use crate::{Fault, Reacted, Reactions, Standing, Stored};

#[async_trait]
impl Reactions for Node {
    async fn standing(
        &self,
        conversation: &ConversationId,
        first: u64,
        last: u64,
    ) -> Result<Vec<Standing>, Fault> {
        let key = conversation_key(conversation);
        self.engine.read(move |txn| standing(txn, &key, (first, last))).await
    }
}

fn standing(txn: &ReadTransaction, log: &str, (first, last): (u64, u64)) -> Result<Vec<Standing>, Fault> {
    if first > last {
        return Ok(Vec::new());
    }
    let (reactions, entries) = (txn.open_table(REACTIONS)?, txn.open_table(ENTRIES)?);
    let mut all = Vec::new();
    for found in reactions.range((log, first, "", "")..(log, last.saturating_add(1), "", ""))? {
        let (key, seq) = found?;
        let (_, target, kind, who) = key.value();
        let seq = seq.value();
        // A reaction is newer than its message, and logs are trimmed from their beginning: it is there.
        let at = entries.get((log, seq))?.map_or(Time(0), |entry| Time(entry.value().0));
        all.push(Standing { target, kind: kind.into(), user: user(who)?, seq, at });
    }
    all.sort_by_key(|standing| (standing.target, standing.seq));
    Ok(all)
}

/// A member's reaction, or its taking back.
pub struct Reaction {
    /// Where.
    pub conversation: ConversationId,
    /// Who.
    pub author: Author,
    /// The sequence of the message.
    pub target: u64,
    /// The emoji or reaction word.
    pub kind: Arc<str>,
    /// Added, or removed.
    pub added: bool,
}

/// Adds or removes one; idempotent.
pub fn react(step: &mut Step<'_, '_>, reaction: &Reaction) -> Result<Reacted, Fault> {
    let Reaction { conversation, author, target, kind, added } = reaction;
    let key = conversation_key(conversation);
    let Some(state) = live_state(&step.read().logs, &key)? else { return Ok(Reacted::NotMember) };
    let user = author.id.as_str();
    if step.read().members.get((conversation.as_str(), user))?.is_none() {
        return Ok(Reacted::NotMember);
    }
    let is_message = step
        .read()
        .entries
        .get((key.as_str(), *target))?
        .map(|entry| decode(entry.value().1))
        .transpose()?
        .is_some_and(|entry| matches!(entry.record, Record::Message(_)));
    if !is_message {
        return Ok(Reacted::NoMessage);
    }
    let row = (key.as_str(), *target, &**kind, user);
    let stands = step.read().reactions.get(row)?.map(|seq| seq.value());
    match stands {
        Some(seq) if *added => return Ok(Reacted::Same(place(step, &key, &state, seq)?)),
        None if !*added => return Ok(Reacted::Same(None)),
        _ => {}
    }
    // Before the append, which trims: the message it is for may be what goes.
    if *added {
        step.write().reactions.insert(row, state.seq + 1)?;
    } else {
        step.write().reactions.remove(row)?;
    }
    let record =
        Record::Reaction { author: author.clone(), target: *target, kind: kind.clone(), added: *added };
    let mut log = OpenLog::new(LogKey::Conversation(conversation.clone()), state);
    Ok(Reacted::New(stored(&append(step, &mut log, record)?)))
}

/// Where an entry that is kept stands.
fn place(step: &Step<'_, '_>, key: &str, state: &LogState, seq: u64) -> Result<Option<Stored>, Fault> {
    let Some(entry) = step.read().entries.get((key, seq))? else { return Ok(None) };
    Ok(Some(Stored { seq, id: state.id(seq)?, at: Time(entry.value().0) }))
}
