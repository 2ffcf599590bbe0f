//! The log trait: appending messages, reactions and posts; reading and finding.
//!
//! Owns: who may append, dedupe order, ranges. Must not know: how batches are committed.

use std::sync::Arc;

use async_trait::async_trait;
use parlance_model::{Author, BLOCK_BITS, ConversationId, Entry, LogKey, Message, MessageId, Record, Time};
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};

use super::Node;
use super::append::{ClientKey, OpenLog, append, known, remember, stored};
use super::reactions::{Reaction, react};
use super::tables::{
    CLIENT_IDS, ENTRIES, LOGS, LogState, NUMBERS, after, conversation_key, live_state, log_key,
    parse_log_key, row,
};
use super::writer::Step;
use crate::record::decode;
use crate::{Appended, Fault, Find, Log, Page, Posted, Range, Reacted, Stored};

#[allow(clippy::too_many_arguments, reason = "a reaction has five parts, and `self` is counted too")]
#[async_trait]
impl Log for Node {
    async fn append(&self, conversation: &ConversationId, message: Message) -> Result<Appended, Fault> {
        let conversation = conversation.clone();
        self.engine.writer.run(move |step| append_message(step, &conversation, &message)).await
    }

    async fn react(
        &self,
        conversation: &ConversationId,
        author: Author,
        target: u64,
        kind: Arc<str>,
        added: bool,
    ) -> Result<Reacted, Fault> {
        let reaction = Reaction { conversation: conversation.clone(), author, target, kind, added };
        self.engine.writer.run(move |step| react(step, &reaction)).await
    }

    async fn post(&self, key: &LogKey, record: Record, once: Option<&str>) -> Result<Posted, Fault> {
        if matches!(key, LogKey::Conversation(_)) {
            return Err(Fault::Unavailable("post does not write to conversations".to_owned()));
        }
        let (key, once) = (key.clone(), once.map(str::to_owned));
        self.engine.writer.run(move |step| post(step, &key, &record, once.as_deref())).await
    }

    async fn range(&self, key: &LogKey, range: Range) -> Result<Page, Fault> {
        let (key, epoch) = (log_key(key), self.engine.epoch);
        self.engine.read(move |txn| read_range(txn, &key, range, epoch)).await
    }

    async fn confirm(&self, _conversation: &ConversationId, _seq: u64) -> Result<(), Fault> {
        // What can be read was committed.
        Ok(())
    }

    async fn find(&self, what: Find) -> Result<Option<(LogKey, u64)>, Fault> {
        let horizon = self.engine.now() - self.engine.options.dedupe_window;
        self.engine
            .read(move |txn| match what {
                Find::Id(id) => find_id(txn, id),
                Find::Number(number) => find_number(txn, number),
                Find::ClientId { author, id, conversation } => {
                    find_client_id(txn, (author.as_str(), &id), conversation.as_ref(), horizon)
                }
            })
            .await
    }
}

fn append_message(
    step: &mut Step<'_, '_>,
    conversation: &ConversationId,
    message: &Message,
) -> Result<Appended, Fault> {
    let key = conversation_key(conversation);
    let Some(state) = live_state(&step.read().logs, &key)? else { return Ok(Appended::NoConversation) };
    let sender = message.author.id.as_str();
    // Before dedupe: who is no member learns nothing of what is in the log.
    if step.read().members.get((conversation.as_str(), sender))?.is_none() {
        return Ok(Appended::NotMember);
    }
    let client = message.client_id.as_deref();
    let client = client.map(|id| ClientKey { sender, id, conversation: conversation.as_str() });
    if let Some(client) = client
        && let Some(known) = known(step, client, &state)?
    {
        return Ok(Appended::Duplicate(Stored { seq: known.seq, id: state.id(known.seq)?, at: known.at }));
    }
    let mut log = OpenLog::new(LogKey::Conversation(conversation.clone()), state);
    let entry = append(step, &mut log, Record::Message(message.clone()))?;
    if let Some(client) = client {
        remember(step, client, &entry)?;
    }
    Ok(Appended::New(stored(&entry)))
}

fn post(step: &mut Step<'_, '_>, key: &LogKey, record: &Record, once: Option<&str>) -> Result<Posted, Fault> {
    let text = log_key(key);
    let fresh = LogState::fresh(step.rules.epoch);
    let state = live_state(&step.read().logs, &text)?.unwrap_or(fresh);
    // No user has this name: nobody's client ids are among these.
    let name = once.map(|id| ClientKey { sender: "", id, conversation: &text });
    if let Some(name) = name
        && let Some(known) = known(step, name, &state)?
    {
        let stored = Stored { seq: known.seq, id: state.id(known.seq)?, at: known.at };
        return Ok(Posted { stored, fresh: false });
    }
    let entry = append(step, &mut OpenLog::new(key.clone(), state), record.clone())?;
    if let Some(name) = name {
        remember(step, name, &entry)?;
    }
    Ok(Posted { stored: stored(&entry), fresh: true })
}

type Entries = ReadOnlyTable<(&'static str, u64), (u64, &'static [u8])>;

fn read_range(txn: &ReadTransaction, key: &str, range: Range, epoch: u32) -> Result<Page, Fault> {
    let Some(state) = row::<LogState>(&txn.open_table(LOGS)?, key)? else {
        return Ok(Page { first: 1, epoch, ..Page::default() });
    };
    // The log of a deleted conversation reads as empty, at the place where it ended.
    let first = if state.deleted && !state.lost { state.seq + 1 } else { state.first.max(1) };
    let mut page = Page { first, head: state.seq, epoch: state.epoch, ..Page::default() };
    let entries: Entries = txn.open_table(ENTRIES)?;
    let (from, to, limit) = match range {
        Range::After { seq, limit } => (seq.saturating_add(1).max(first), state.seq + 1, limit),
        Range::Since { at, limit } => {
            (first_since(&entries, key, (first, state.seq + 1), at)?, state.seq + 1, limit)
        }
        Range::Before { seq, limit } => (first, seq.min(state.seq + 1).max(first), limit),
    };
    if from >= to {
        return Ok(page);
    }
    let mut found = entries.range((key, from)..(key, to))?;
    let backwards = matches!(range, Range::Before { .. });
    // One more than asked for: whether there is one.
    while let Some(next) = if backwards { found.next_back() } else { found.next() } {
        if page.entries.len() == limit {
            page.more = true;
            break;
        }
        page.entries.push(decode(next?.1.value().1)?);
    }
    if backwards {
        page.entries.reverse();
    }
    Ok(page)
}

/// The first sequence in `[low, high)` appended at or after `at`: times never run backwards in a log.
fn first_since(entries: &Entries, key: &str, (low, high): (u64, u64), at: Time) -> Result<u64, Fault> {
    let (mut low, mut high) = (low, high);
    while low < high {
        let middle = low + (high - low) / 2;
        // Sequences may be left free: the next entry decides.
        let next = entries.range((key, middle)..(key, high))?.next().transpose()?;
        match next.map(|(key, entry)| (key.value().1, entry.value().0)) {
            Some((seq, appended)) if appended < at.millis() => low = seq + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

fn find_id(txn: &ReadTransaction, id: MessageId) -> Result<Option<(LogKey, u64)>, Fault> {
    let Some(found) = txn.open_table(NUMBERS)?.get(id.number())? else { return Ok(None) };
    let (key, block) = found.value();
    let Some(state) = live_state(&txn.open_table(LOGS)?, key)? else { return Ok(None) };
    let seq = id.sequence_in(block);
    // The number may be one of an earlier life of the conversation.
    if MessageId::of_sequence(&state.numbers, seq) != Some(id) {
        return Ok(None);
    }
    let kept: Option<Entry> =
        txn.open_table(ENTRIES)?.get((key, seq))?.map(|entry| decode(entry.value().1)).transpose()?;
    Ok(kept.map(|_| parse_log_key(key)).transpose()?.map(|key| (key, seq)))
}

fn find_number(txn: &ReadTransaction, number: u32) -> Result<Option<(LogKey, u64)>, Fault> {
    let Some(found) = txn.open_table(NUMBERS)?.get(number)? else { return Ok(None) };
    let (key, block) = found.value();
    let LogKey::Conversation(id) = parse_log_key(key)? else { return Ok(None) };
    let Some(state) = live_state(&txn.open_table(LOGS)?, key)? else { return Ok(None) };
    // The number may be one of an earlier life of the conversation.
    let lives = usize::try_from(block).is_ok_and(|block| state.numbers.get(block) == Some(&number));
    Ok(lives.then(|| (LogKey::Conversation(id), u64::from(block) << BLOCK_BITS)))
}

fn find_client_id(
    txn: &ReadTransaction,
    (author, id): (&str, &str),
    conversation: Option<&ConversationId>,
    horizon: Time,
) -> Result<Option<(LogKey, u64)>, Fault> {
    let (table, logs) = (txn.open_table(CLIENT_IDS)?, txn.open_table(LOGS)?);
    let end = after(id);
    let mut newest: Option<(u64, ConversationId, u64)> = None;
    for found in table.range((author, id, "")..(author, end.as_str(), ""))? {
        let (key, value) = found?;
        let (place, (seq, epoch, at)) = (key.value().2, value.value());
        if conversation.is_some_and(|only| only.as_str() != place) || at <= horizon.millis() {
            continue;
        }
        let place =
            ConversationId::parse(place).map_err(|_| super::tables::corrupt("conversation", place))?;
        let lives =
            live_state(&logs, &conversation_key(&place))?.is_some_and(|state| state.remembers(seq, epoch));
        if lives && newest.as_ref().is_none_or(|(best, ..)| at >= *best) {
            newest = Some((at, place, seq));
        }
    }
    Ok(newest.map(|(_, place, seq)| (LogKey::Conversation(place), seq)))
}
