//! The trail trait: one part, in the durable file.
//!
//! What goes into logs and cursors is written down in the transaction that it is of; what happens to leases, in the order it
//! happened, by an operation of its own. Who takes, and how often something was taken, is in memory: nobody outlives the process.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use parlance_model::{ConversationId, NodeId, Time, Topic};
use redb::{ReadableTable, ReadableTableMetadata};

use super::Node;
use super::tables::{COUNTERS, TRAIL, TRAIL_DEAD, TRAIL_GROUPS, Tables};
use super::writer::Step as Change;
use crate::trail::{ABANDONED, Backlog, Kinds, Step, Taken, Turn, read, write};
use crate::{Fault, Happening, Publication, Trail};

/// How many went although somebody had not settled them.
const DROPPED: &str = "trail_dropped";

/// Who takes for which group.
#[derive(Default)]
pub struct Holders {
    of: HashMap<&'static str, Holder>,
}

struct Holder {
    node: NodeId,
    until: Time,
    /// From which step on it took last, and how often.
    from: u64,
    times: u64,
}

impl Holders {
    /// How long another node has it, if one does; else this one does.
    fn hold(&mut self, turn: &Turn, node: &NodeId, now: Time) -> Option<Duration> {
        match self.of.get_mut(turn.group) {
            Some(holder) if holder.node != *node && holder.until > now => Some(holder.until.since(now)),
            Some(holder) => {
                (holder.node, holder.until) = (node.clone(), now + turn.hold);
                None
            }
            None => {
                let holder = Holder { node: node.clone(), until: now + turn.hold, from: 0, times: 0 };
                self.of.insert(turn.group, holder);
                None
            }
        }
    }

    fn counted(&mut self, group: &'static str, first: u64) -> u64 {
        let Some(holder) = self.of.get_mut(group) else { return 1 };
        holder.times = if holder.from == first { holder.times + 1 } else { 1 };
        holder.from = first;
        holder.times
    }
}

/// What a publication tells of; presence is told by the leases.
pub fn of_publication(topic: &Topic, publication: &Publication) -> Option<Happening> {
    match (topic, publication) {
        (Topic::Conversation(conversation), Publication::Entry(entry)) => {
            Some(Happening::Entry { conversation: conversation.clone(), entry: entry.clone() })
        }
        (_, Publication::Cursor(changed)) => Some(Happening::Cursor(changed.clone())),
        _ => None,
    }
}

/// Writes a step down.
pub fn keep(tables: &mut Tables<'_>, what: &Happening, most: u64) -> Result<(), Fault> {
    let (of, word) = write(what);
    let next = next_of(tables)?;
    tables.trail.insert(next, (of.as_str(), word.as_slice(), ""))?;
    if next > most && tables.trail.remove(next - most)?.is_some() {
        let dropped = tables.counters.get(DROPPED)?.map_or(0, |dropped| dropped.value());
        tables.counters.insert(DROPPED, dropped + 1)?;
    }
    Ok(())
}

/// A number that no step had: also after everything was settled.
fn next_of(tables: &mut Tables<'_>) -> Result<u64, Fault> {
    let last = tables.counters.get("trail")?.map_or(0, |last| last.value());
    tables.counters.insert("trail", last + 1)?;
    Ok(last + 1)
}

/// Has each of these groups begin with what is there, unless it has begun: nothing goes that one of them did not have. One that
/// is not among them for long holds nothing back.
fn begin(step: &mut Change<'_, '_>, groups: &[&'static str], now: Time) -> Result<(), Fault> {
    for group in groups {
        if step.read().trail_groups.get(*group)?.is_none() {
            let first = step.read().trail.first()?.map_or(1, |(key, _)| key.value());
            step.write().trail_groups.insert(*group, first)?;
        }
    }
    let mut known = Vec::new();
    for group in step.read().trail_groups.iter()? {
        known.push(group?.0.value().to_owned());
    }
    for group in known {
        let unnamed = format!("trail_unnamed {group}");
        let since = step.read().counters.get(unnamed.as_str())?.map(|since| Time(since.value()));
        let tables = step.write();
        match since {
            _ if groups.contains(&group.as_str()) => drop(tables.counters.remove(unnamed.as_str())?),
            None => drop(tables.counters.insert(unnamed.as_str(), now.millis())?),
            Some(since) if now.since(since) > ABANDONED => {
                tracing::warn!(group, "nothing is kept for it any more: it has not been configured for long");
                tables.trail_groups.remove(group.as_str())?;
                tables.counters.remove(unnamed.as_str())?;
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// What every group has settled goes.
fn forget(step: &mut Change<'_, '_>) -> Result<(), Fault> {
    let mut oldest = u64::MAX;
    for group in step.read().trail_groups.iter()? {
        oldest = oldest.min(group?.1.value());
    }
    step.write().trail.retain_in(..oldest, |_, _| false)?;
    Ok(())
}

/// Group and id of a step that was brought back.
fn label(text: &str) -> Option<(&str, &str)> {
    text.split_once(' ')
}

impl Node {
    fn step(&self, group: &str, number: u64, row: (&str, &[u8], &str)) -> Step {
        let (of, word, brought) = row;
        let (to, id) = label(brought).map_or((group, None), |(to, id)| (to, Some(id)));
        let what = if to == group { read(of, word) } else { Ok(None) };
        let what = what.unwrap_or_else(|fault| {
            tracing::error!(%fault, "a step of the trail cannot be read");
            None
        });
        let is_unreadable = what.is_none() && to == group;
        let id = id.map_or_else(|| format!("{}-{number}", self.engine.epoch), str::to_owned);
        Step { id, place: number.to_string(), taken: 1, what, is_unreadable }
    }

    /// From where on a group has settled nothing; a new one begins with what is there.
    async fn place(&self, group: &'static str) -> Result<u64, Fault> {
        let known =
            self.engine.read(move |txn| Ok(txn.open_table(TRAIL_GROUPS)?.get(group)?.map(|at| at.value())));
        if let Some(place) = known.await? {
            return Ok(place);
        }
        self.engine
            .writer
            .run(move |step| {
                let first = step.read().trail.first()?.map_or(1, |(key, _)| key.value());
                step.write().trail_groups.insert(group, first)?;
                Ok(first)
            })
            .await
    }

    async fn settled(&self, turn: &Turn, steps: &[Step], aside: bool) -> Result<bool, Fault> {
        let now = self.engine.now();
        if self.engine.holders.lock().hold(turn, &self.id, now).is_some() {
            return Ok(false);
        }
        let group = turn.group;
        let taken: Vec<(u64, String)> =
            steps.iter().filter_map(|step| Some((step.place.parse().ok()?, step.id.clone()))).collect();
        let mut named = self.engine.options.trail_groups.clone();
        named.push(group);
        let Some(last) = taken.iter().map(|(place, _)| *place).max() else { return Ok(true) };
        self.engine
            .writer
            .run(move |step| {
                for (place, id) in taken.iter().filter(|_| aside) {
                    put_aside(step, group, (*place, id))?;
                }
                begin(step, &named, now)?;
                step.write().trail_groups.insert(group, last + 1)?;
                forget(step)?;
                Ok(true)
            })
            .await
    }
}

fn put_aside(step: &mut Change<'_, '_>, group: &str, (place, id): (u64, &str)) -> Result<(), Fault> {
    let row = step.read().trail.get(place)?.map(|row| (row.value().0.to_owned(), row.value().1.to_vec()));
    if let Some((of, word)) = row {
        step.write().trail_dead.insert((group, place), (of.as_str(), word.as_slice(), id))?;
    }
    Ok(())
}

#[async_trait]
impl Trail for Node {
    fn kinds(&self) -> Kinds {
        self.engine.options.trail
    }

    fn parts(&self) -> usize {
        1
    }

    fn part_of(&self, _conversation: &ConversationId) -> usize {
        0
    }

    async fn waiting(&self) -> Result<Vec<usize>, Fault> {
        self.engine
            .read(|txn| Ok(if txn.open_table(TRAIL)?.is_empty()? { Vec::new() } else { vec![0] }))
            .await
    }

    async fn take(&self, turn: &Turn, most: usize) -> Result<Taken, Fault> {
        let now = self.engine.now();
        if let Some(wait) = self.engine.holders.lock().hold(turn, &self.id, now) {
            return Ok(Taken::Held(wait));
        }
        let (group, from) = (turn.group, self.place(turn.group).await?);
        let rows = self.engine.read(move |txn| {
            let table = txn.open_table(TRAIL)?;
            let mut rows = Vec::new();
            for row in table.range(from..)?.take(most.max(1)) {
                let (key, row) = row?;
                let (of, word, brought) = row.value();
                rows.push((key.value(), of.to_owned(), word.to_vec(), brought.to_owned()));
            }
            Ok(rows)
        });
        let mut steps: Vec<Step> = rows
            .await?
            .iter()
            .map(|(number, of, word, brought)| self.step(group, *number, (of, word, brought)))
            .collect();
        let mut holders = self.engine.holders.lock();
        match steps.first() {
            Some(first) => {
                let times = holders.counted(group, first.place.parse().unwrap_or_default());
                steps.iter_mut().for_each(|step| step.taken = times);
            }
            None => drop(holders.of.remove(group)),
        }
        Ok(Taken::Steps(steps))
    }

    async fn settle(&self, turn: &Turn, steps: &[Step]) -> Result<bool, Fault> {
        self.settled(turn, steps, false).await
    }

    async fn bury(&self, turn: &Turn, steps: &[Step]) -> Result<bool, Fault> {
        self.settled(turn, steps, true).await
    }

    async fn buried(&self, group: &'static str, _part: usize, most: usize) -> Result<Vec<Step>, Fault> {
        let rows = self.engine.read(move |txn| {
            let table = txn.open_table(TRAIL_DEAD)?;
            let mut rows = Vec::new();
            for row in table.range((group, 0)..=(group, u64::MAX))?.take(most) {
                let (key, row) = row?;
                let (of, word, id) = row.value();
                rows.push((key.value().1, of.to_owned(), word.to_vec(), format!("{group} {id}")));
            }
            Ok(rows)
        });
        let rows = rows.await?;
        Ok(rows.iter().map(|(number, of, word, id)| self.step(group, *number, (of, word, id))).collect())
    }

    async fn revive(&self, group: &'static str, _part: usize) -> Result<u64, Fault> {
        self.engine
            .writer
            .run(move |step| {
                let mut rows = Vec::new();
                for row in step.read().trail_dead.range((group, 0)..=(group, u64::MAX))? {
                    let (_, row) = row?;
                    let (of, word, id) = row.value();
                    rows.push((of.to_owned(), word.to_vec(), format!("{group} {id}")));
                }
                let tables = step.write();
                for (of, word, brought) in &rows {
                    let next = next_of(tables)?;
                    tables.trail.insert(next, (of.as_str(), word.as_slice(), brought.as_str()))?;
                }
                tables.trail_dead.retain_in((group, 0)..=(group, u64::MAX), |_, _| false)?;
                Ok(rows.len() as u64)
            })
            .await
    }

    async fn backlog(&self, group: &'static str) -> Result<Backlog, Fault> {
        let node_epoch = self.engine.epoch;
        let read = self.engine.read(move |txn| {
            let from = txn.open_table(TRAIL_GROUPS)?.get(group)?.map_or(0, |at| at.value());
            let table = txn.open_table(TRAIL)?;
            let last = table.last()?.map_or(0, |(key, _)| key.value());
            let first = table.range(from..)?.next().transpose()?;
            let first =
                first.map(|(key, row)| (key.value(), row.value().0.to_owned(), row.value().1.to_vec()));
            let dead = txn.open_table(TRAIL_DEAD)?.range((group, 0)..=(group, u64::MAX))?.count() as u64;
            let dropped = txn.open_table(COUNTERS)?.get(DROPPED)?.map_or(0, |dropped| dropped.value());
            Ok((first, last, Backlog { dead, dropped, ..Backlog::default() }))
        });
        let (first, last, backlog) = read.await?;
        let Some((number, of, word)) = first else { return Ok(backlog) };
        let since = read_at(&of, &word, node_epoch);
        Ok(Backlog { steps: last + 1 - number, since, ..backlog })
    }
}

/// When a step happened, as it says itself.
fn read_at(of: &str, word: &[u8], epoch: u32) -> Option<Time> {
    let at = read(of, word).ok().flatten().map(|what| what.at());
    // One that cannot be read is as old as the file at most.
    Some(at.unwrap_or(Time(u64::from(epoch) * 1000)))
}
