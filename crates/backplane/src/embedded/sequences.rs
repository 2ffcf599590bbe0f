//! The sequences trait: one growing integer per user, pointing at log entries.

use async_trait::async_trait;
use parlance_model::{LogKey, UserId};
use redb::ReadableTable;

use super::Node;
use super::tables::{LogState, MARKS, POINTERS, after, log_key, parse_log_key, row};
use super::writer::Step;
use crate::{FENCE_MARGIN, Fault, Sequences};

/// Pointers to trimmed entries removed per assignment.
const TRIM: usize = 4;

#[async_trait]
impl Sequences for Node {
    async fn assign(&self, pointers: &[(UserId, LogKey, u64)]) -> Result<Vec<u64>, Fault> {
        let pointers: Vec<(UserId, String, u64)> =
            pointers.iter().map(|(user, log, seq)| (user.clone(), log_key(log), *seq)).collect();
        self.engine
            .writer
            .run(move |step| {
                pointers.iter().map(|(user, log, seq)| assign(step, user.as_str(), log, *seq)).collect()
            })
            .await
    }

    async fn pointers(
        &self,
        user: &UserId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, LogKey, u64)>, Fault> {
        let user = user.clone();
        self.engine
            .read(move |txn| {
                let user = user.as_str();
                let table = txn.open_table(POINTERS)?;
                let Some(from) = after.checked_add(1) else { return Ok(Vec::new()) };
                let found = table.range((user, from)..=(user, u64::MAX))?;
                found
                    .take(limit)
                    .map(|found| {
                        let (key, value) = found?;
                        let (log, seq) = value.value();
                        Ok((key.value().1, parse_log_key(log)?, seq))
                    })
                    .collect()
            })
            .await
    }

    async fn marks(&self, user: &UserId) -> Result<Vec<(LogKey, u64)>, Fault> {
        let user = user.clone();
        self.engine
            .read(move |txn| {
                let end = after(user.as_str());
                let table = txn.open_table(MARKS)?;
                table
                    .range((user.as_str(), "")..(end.as_str(), ""))?
                    .map(|found| {
                        let (key, seq) = found?;
                        Ok((parse_log_key(key.value().1)?, seq.value()))
                    })
                    .collect()
            })
            .await
    }
}

fn assign(step: &mut Step<'_, '_>, user: &str, log: &str, seq: u64) -> Result<u64, Fault> {
    if let Some(known) = step.read().assigned.get((user, log, seq))? {
        return Ok(known.value());
    }
    let last = newest(step, user)?;
    let mark = step.read().marks.get((user, log))?.map_or(0, |mark| mark.value());
    let tables = step.write();
    tables.pointers.insert((user, last + 1), (log, seq))?;
    tables.assigned.insert((user, log, seq), last + 1)?;
    tables.marks.insert((user, log), mark.max(seq))?;
    trim(step, user, last + 1)?;
    Ok(last + 1)
}

/// Lets a user's integers go on above all that were ever given, with one for this entry.
pub fn leap(step: &mut Step<'_, '_>, user: &str, (log, seq): (&str, u64)) -> Result<(), Fault> {
    let last = newest(step, user)?;
    let integer = if last == 0 { step.now().millis() } else { last + FENCE_MARGIN };
    let tables = step.write();
    tables.pointers.insert((user, integer), (log, seq))?;
    tables.assigned.insert((user, log, seq), integer)?;
    tables.marks.insert((user, log), seq)?;
    Ok(())
}

fn newest(step: &Step<'_, '_>, user: &str) -> Result<u64, Fault> {
    let mut all = step.read().pointers.range((user, 0)..=(user, u64::MAX))?;
    Ok(all.next_back().transpose()?.map_or(0, |(key, _)| key.value().1))
}

/// Removes the oldest pointers whose entries are gone; the newest stays, as it carries the count.
/// Pointers kept per user at most; beyond, the oldest are forgotten.
const MAX_POINTERS: u64 = 10_000;

fn trim(step: &mut Step<'_, '_>, user: &str, newest: u64) -> Result<(), Fault> {
    for _ in 0..TRIM {
        let oldest = step.read().pointers.range((user, 0)..(user, newest))?.next().transpose()?;
        let Some((integer, log, seq)) = oldest.map(|(key, value)| {
            let (log, seq) = value.value();
            (key.value().1, log.to_owned(), seq)
        }) else {
            break;
        };
        let state: Option<LogState> = row(&step.read().logs, &log)?;
        // A quiet log keeps its entries for long: its pointers must not keep all later ones.
        let beyond = newest.saturating_sub(integer) >= MAX_POINTERS;
        let first = if step.rules.kept_elsewhere { 0 } else { state.as_ref().map_or(0, |state| state.first) };
        if !beyond && state.is_none_or(|state| !state.deleted && seq >= first) {
            break;
        }
        let tables = step.write();
        tables.pointers.remove((user, integer))?;
        tables.assigned.remove((user, log.as_str(), seq))?;
    }
    Ok(())
}
