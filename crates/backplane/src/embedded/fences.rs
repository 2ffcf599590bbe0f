//! The fences trait.
//!
//! The engine keeps what it acknowledged; a file may still be replaced by an older copy, or by none, while clients and
//! their positions live on. Must not know: who compares what.

use async_trait::async_trait;
use parlance_model::{LogKey, Record, Time};
use redb::ReadableTable;

use super::Node;
use super::append::{OpenLog, append, stored};
use super::sequences::leap;
use super::tables::{LOGS, LogState, log_key, put_row, row};
use super::writer::Step;
use crate::{FENCE_MARGIN, Fault, Fenced, Fences, Place, Seen};

#[async_trait]
impl Fences for Node {
    async fn heads(&self, logs: &[LogKey]) -> Vec<Result<Place, Fault>> {
        let keys: Vec<String> = logs.iter().map(log_key).collect();
        let epoch = self.engine.epoch;
        let read = self
            .engine
            .read(move |txn| {
                let logs = txn.open_table(LOGS)?;
                let place = |key: &String| row::<LogState>(&logs, key).map(|state| place(state, epoch));
                keys.iter().map(place).collect::<Result<Vec<_>, _>>()
            })
            .await;
        match read {
            Ok(places) => places.into_iter().map(Ok).collect(),
            Err(fault) => logs.iter().map(|_| Err(fault.clone())).collect(),
        }
    }

    async fn fence(&self, log: &LogKey, seen: Seen) -> Result<Fenced, Fault> {
        let log = log.clone();
        self.engine.writer.run(move |step| fence(step, &log, &seen)).await
    }
}

fn place(state: Option<LogState>, epoch: u32) -> Place {
    match state {
        None => Place::Nothing { epoch },
        Some(state) if state.lost => Place::Lost(state.head()),
        Some(state) if state.deleted => Place::Deleted(state.head()),
        Some(state) => Place::Log(state.head()),
    }
}

/// What needs no fence; `None`: it does.
fn verdict(
    step: &Step<'_, '_>,
    key: &str,
    state: Option<&LogState>,
    seen: &Seen,
) -> Result<Option<Fenced>, Fault> {
    let Some(state) = state else {
        let begun = seen.seq == 0 && (seen.epoch == 0 || seen.epoch == step.rules.epoch);
        return Ok(begun.then_some(Fenced::There));
    };
    let other = seen.epoch != 0 && seen.epoch != state.epoch;
    if state.since.max(1) > seen.seq {
        return Ok(Some(if other { Fenced::Already } else { Fenced::There }));
    }
    if state.deleted && !state.lost && seen.seq <= state.seq {
        return Ok(Some(Fenced::There));
    }
    if other || seen.seq > state.seq {
        return Ok(None);
    }
    let Some(at) = seen.at else { return Ok(Some(Fenced::There)) };
    let found = step.read().entries.get((key, seen.seq))?.map(|entry| entry.value().0);
    let trimmed = found.is_none() && seen.seq < state.first;
    Ok((trimmed || found == Some(at.millis())).then_some(Fenced::There))
}

fn fence(step: &mut Step<'_, '_>, key: &LogKey, seen: &Seen) -> Result<Fenced, Fault> {
    let text = log_key(key);
    let kept: Option<LogState> = row(&step.read().logs, &text)?;
    if let Some(verdict) = verdict(step, &text, kept.as_ref(), seen)? {
        return Ok(verdict);
    }
    let lost = kept.is_none() && matches!(key, LogKey::Conversation(_));
    let mut state = kept.unwrap_or_else(|| LogState::fresh(step.rules.epoch));
    (state.lost, state.deleted) = (state.lost || lost, state.deleted || lost);
    let target = state.seq.max(seen.seq) + FENCE_MARGIN;
    if state.numbers.is_empty() && seen.number != 0 && step.read().numbers.get(seen.number)?.is_none() {
        step.write().numbers.insert(seen.number, (text.as_str(), 0))?;
        state.numbers.push(seen.number);
    }
    if state.first > 0 {
        state.holes += target - state.seq - 1;
    }
    state.epoch = state.epoch.max(seen.epoch) + 1;
    state.version += FENCE_MARGIN;
    state.cursor_version += FENCE_MARGIN;
    state.at = state.at.max(seen.at.unwrap_or(Time(0)).millis());
    (state.seq, state.since) = (target - 1, target);
    if state.deleted && !state.lost {
        put_row(&mut step.write().logs, &text, &state)?;
        return Ok(Fenced::There);
    }
    let mut log = OpenLog::new(key.clone(), state);
    let entry = append(step, &mut log, Record::Lost { from: seen.from.max(1), to: target - 1 })?;
    if let LogKey::User(user) = key {
        leap(step, user.as_str(), (&text, entry.seq))?;
    }
    Ok(Fenced::Begun(stored(&entry)))
}
