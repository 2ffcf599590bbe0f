//! Appending inside a transaction: sequence, time, id, number blocks, retention, publication.
//!
//! Owns: how one entry gets into a log. Must not know: who may append what.

use parlance_model::{BLOCK_BITS, Entry, LogKey, MAX_NUMBER, Record, SELF_NUMBER_LIMIT, Time};
use redb::ReadableTable;

use super::tables::{LogState, after, log_key, put_row};
use super::writer::Step;
use crate::record::{decode, encode};
use crate::{Fault, Publication, Stored};

/// Old rows removed per append: more than one, so that a backlog shrinks, and few, so that no append is slow.
const TRIM: usize = 4;

/// A log, its row read.
pub struct OpenLog {
    /// Which.
    pub key: LogKey,
    /// Its key in the tables.
    pub text: String,
    /// Where it stands.
    pub state: LogState,
}

impl OpenLog {
    /// A log and its state.
    pub fn new(key: LogKey, state: LogState) -> Self {
        Self { text: log_key(&key), key, state }
    }
}

/// Where an entry was put.
pub fn stored(entry: &Entry) -> Stored {
    Stored { seq: entry.seq, id: entry.id, at: entry.at }
}

/// Appends a record, trims, and has the entry published after the commit. The log's row is written too.
pub fn append(step: &mut Step<'_, '_>, log: &mut OpenLog, record: Record) -> Result<Entry, Fault> {
    let state = &mut log.state;
    let seq = state.seq + 1;
    while state.numbers.len() as u64 <= seq >> BLOCK_BITS {
        let block = u32::try_from(state.numbers.len()).unwrap_or(u32::MAX);
        state.numbers.push(assign_number(step, &log.text, block)?);
    }
    let at = step.now().max(Time(state.at));
    let entry = Entry { seq, epoch: state.epoch, at, prev_at: Time(state.at), id: state.id(seq)?, record };
    state.seq = seq;
    state.at = at.millis();
    if state.first == 0 {
        state.first = seq;
    }
    let bytes = encode(&entry);
    step.write().entries.insert((log.text.as_str(), seq), (at.millis(), bytes.as_slice()))?;
    trim_entries(step, log, at)?;
    put_row(&mut step.write().logs, &log.text, &log.state)?;
    step.publish(log.key.topic(), Publication::Entry(entry.clone()));
    Ok(entry)
}

/// Takes the next unused number and remembers whose it is.
pub fn assign_number(step: &mut Step<'_, '_>, log: &str, block: u32) -> Result<u32, Fault> {
    let last = step.read().counters.get("number")?.map(|number| number.value());
    let mut number = last.map_or(u64::from(SELF_NUMBER_LIMIT), |last| last + 1);
    loop {
        let candidate = u32::try_from(number).ok().filter(|number| *number < MAX_NUMBER);
        let candidate = candidate.ok_or_else(|| Fault::Unavailable("all numbers are used".to_owned()))?;
        if step.read().numbers.get(candidate)?.is_none() {
            let tables = step.write();
            tables.counters.insert("number", number)?;
            tables.numbers.insert(candidate, (log, block))?;
            return Ok(candidate);
        }
        number += 1;
    }
}

/// Removes the oldest entries that are too many or too old, never the newest one.
fn trim_entries(step: &mut Step<'_, '_>, log: &mut OpenLog, now: Time) -> Result<(), Fault> {
    let (keep, oldest) = (step.rules.retention_entries, now - step.rules.retention);
    for _ in 0..TRIM {
        skip_hole(step, log)?;
        let first = log.state.first;
        if first >= log.state.seq {
            break;
        }
        let had_reactions = {
            let found = step.read().entries.get((log.text.as_str(), first))?;
            let at = found.as_ref().map_or(0, |entry| entry.value().0);
            if log.state.seq - first - log.state.holes < keep && at >= oldest.millis() {
                break;
            }
            found.is_some_and(|entry| {
                matches!(decode(entry.value().1), Ok(Entry { record: Record::Message(_), .. }))
            })
        };
        let tables = step.write();
        tables.entries.remove((log.text.as_str(), first))?;
        if had_reactions {
            let text = log.text.as_str();
            tables.reactions.retain_in((text, first, "", "")..(text, first + 1, "", ""), |_, _| false)?;
        }
        log.state.first = first + 1;
    }
    skip_hole(step, log)
}

/// Moves the beginning of a log over sequences that were left free.
fn skip_hole(step: &Step<'_, '_>, log: &mut OpenLog) -> Result<(), Fault> {
    if log.state.holes == 0 {
        return Ok(());
    }
    let (text, first) = (log.text.as_str(), log.state.first);
    let next = step.read().entries.range((text, first)..=(text, log.state.seq))?.next().transpose()?;
    if let Some((key, _)) = next {
        let found = key.value().1;
        log.state.holes = log.state.holes.saturating_sub(found - first);
        log.state.first = found;
    }
    Ok(())
}

/// What a client id stands for, while it is remembered.
#[derive(Clone, Copy)]
pub struct Known {
    /// The message's sequence.
    pub seq: u64,
    /// The epoch it was of.
    pub epoch: u32,
    /// When it was appended.
    pub at: Time,
}

/// A client id's key.
#[derive(Clone, Copy)]
pub struct ClientKey<'a> {
    /// Sender.
    pub sender: &'a str,
    /// The sender's id for the message.
    pub id: &'a str,
    /// Conversation.
    pub conversation: &'a str,
}

/// What a client id stands for in this life of the conversation.
pub fn known(step: &Step<'_, '_>, key: ClientKey<'_>, state: &LogState) -> Result<Option<Known>, Fault> {
    let found = step.read().client_ids.get((key.sender, key.id, key.conversation))?;
    let found = found.map(|row| row.value()).map(|(seq, epoch, at)| Known { seq, epoch, at: Time(at) });
    let now = step.now();
    Ok(found
        .filter(|known| state.remembers(known.seq, known.epoch) && known.at + step.rules.dedupe_window > now))
}

/// Remembers a client id, and forgets a few that left the window.
pub fn remember(step: &mut Step<'_, '_>, key: ClientKey<'_>, entry: &Entry) -> Result<(), Fault> {
    let at = entry.at.millis();
    let horizon = (step.now() - step.rules.dedupe_window).millis();
    let tables = step.write();
    tables.client_ids.insert((key.sender, key.id, key.conversation), (entry.seq, entry.epoch, at))?;
    tables.client_id_ages.insert((at, key.sender, key.id, key.conversation), ())?;
    for _ in 0..TRIM {
        let Some((aged, _)) = tables.client_id_ages.first()? else { break };
        let (since, sender, id, conversation) = aged.value();
        if since > horizon {
            break;
        }
        let (sender, id, conversation) = (sender.to_owned(), id.to_owned(), conversation.to_owned());
        drop(aged);
        let whole = (sender.as_str(), id.as_str(), conversation.as_str());
        // The id may have been used again since: only the row of that age goes.
        if tables.client_ids.get(whole)?.is_some_and(|row| row.value().2 == since) {
            tables.client_ids.remove(whole)?;
        }
        tables.client_id_ages.remove((since, whole.0, whole.1, whole.2))?;
    }
    Ok(())
}

/// Removes every entry and reaction of a log.
pub fn clear(step: &mut Step<'_, '_>, text: &str) -> Result<(), Fault> {
    let end = after(text);
    let tables = step.write();
    tables.entries.retain_in((text, 0)..(end.as_str(), 0), |_, _| false)?;
    tables.reactions.retain_in((text, 0, "", "")..(end.as_str(), 0, "", ""), |_, _| false)?;
    Ok(())
}
