//! Changing conversations inside a transaction: creating, members, title, deleting.
//!
//! Owns: the atomic step behind [`crate::Conversations::change`]. Must not know: why somebody changes one.

use std::collections::BTreeSet;
use std::sync::Arc;

use parlance_model::{
    BLOCK_BITS, Conversation, ConversationId, LogKey, MAX_NUMBER, Member, Record, SELF_NUMBER_LIMIT, Time,
    UserId,
};
use redb::ReadableTable;

use super::append::{OpenLog, append, assign_number, clear};
use super::rooms::Evicted;
use super::tables::{
    LogState, Meta, after, conversation_key, corrupt, members_among, members_of, members_within, put_row,
    row, user,
};
use super::writer::Step;
use crate::{Change, ChangeRefused, Changed, Fault, Happening, MANY, MemberSet};

/// A conversation from its rows.
pub fn conversation(
    id: &ConversationId,
    meta: &Meta,
    state: &LogState,
    members: Vec<Member>,
) -> Result<Conversation, Fault> {
    Ok(Conversation {
        id: id.clone(),
        kind: meta.kind()?,
        title: meta.title.as_deref().map(Arc::from),
        numbers: state.numbers.clone(),
        created_by: meta.created_by.as_deref().map(user).transpose()?,
        created_at: Time(meta.created_at),
        updated_at: Time(meta.updated_at),
        members,
        head: state.head(),
    })
}

/// Creates or changes one.
pub fn change(step: &mut Step<'_, '_>, change: &Change) -> Result<Result<Changed, ChangeRefused>, Fault> {
    let key = conversation_key(&change.id);
    let kept: Option<LogState> = row(&step.read().logs, &key)?;
    match kept {
        Some(state) if !state.deleted => update(step, change, state).map(Ok),
        _ if !change.create => Ok(Err(ChangeRefused::NotFound)),
        tombstone => create(step, change, tombstone),
    }
}

/// The number an id of digits is: only written the one canonical way.
fn self_number(id: &ConversationId) -> Option<u32> {
    let number: u32 = id.as_str().parse().ok()?;
    (number < SELF_NUMBER_LIMIT && number.to_string() == id.as_str()).then_some(number)
}

fn create(
    step: &mut Step<'_, '_>,
    change: &Change,
    tombstone: Option<LogState>,
) -> Result<Result<Changed, ChangeRefused>, Fault> {
    let key = conversation_key(&change.id);
    let own = self_number(&change.id);
    let asked = match (own, change.number) {
        (Some(own), Some(asked)) if own != asked => return Ok(Err(ChangeRefused::NumberTaken)),
        (own, asked) => own.or(asked),
    };
    if let Some(number) = asked {
        let owner = step.read().numbers.get(number)?.map(|row| row.value().0.to_owned());
        // Its own number comes back to an all-digits id: epoch and sequence go on, so no id is used twice.
        let free = owner.is_none() || (own.is_some() && owner.as_deref() == Some(key.as_str()));
        if number >= MAX_NUMBER || !free {
            return Ok(Err(ChangeRefused::NumberTaken));
        }
    }
    // Of one that was lost, its members are told by the record of that, which comes after where they join.
    let told = tombstone.as_ref().is_some_and(|old| old.lost);
    let mut state = tombstone.map_or_else(|| LogState::fresh(step.rules.epoch), |old| reborn(old, asked));
    if let Some(number) = asked.filter(|number| state.numbers.first() != Some(number)) {
        step.write().numbers.insert(number, (key.as_str(), 0))?;
        state.numbers.push(number);
    }
    while state.numbers.len() as u64 <= (state.seq + 1) >> BLOCK_BITS {
        let block = u32::try_from(state.numbers.len()).unwrap_or(u32::MAX);
        state.numbers.push(assign_number(step, &key, block)?);
    }
    let now = step.now().millis();
    let meta = Meta {
        kind: change.kind.as_str().to_owned(),
        title: change.title.clone().flatten().map(|title| title.to_string()),
        created_by: change.by.as_ref().map(ToString::to_string),
        created_at: now,
        updated_at: now,
    };
    let (added, _) = difference(&[], &change.members);
    let log = OpenLog::new(LogKey::Conversation(change.id.clone()), state);
    let joined = log.state.seq - u64::from(told);
    let plan = Plan { log, meta, added, removed: Vec::new(), joined, created: true, retitled: false };
    apply(step, change, plan).map(Ok)
}

/// A conversation that comes back: sequence, time and versions go on where its earlier life ended. One that was lost
/// keeps its number, unless another one is asked for, and the record of its loss.
fn reborn(old: LogState, asked: Option<u32>) -> LogState {
    let keeps = old.lost && asked.is_none_or(|asked| old.numbers.first() == Some(&asked));
    LogState {
        epoch: old.epoch + 1,
        since: old.seq + 1,
        born: old.seq + 1,
        first: if old.lost { old.first } else { 0 },
        holes: if old.lost { old.holes } else { 0 },
        numbers: if keeps { old.numbers } else { Vec::new() },
        deleted: false,
        lost: false,
        ..old
    }
}

fn update(step: &mut Step<'_, '_>, change: &Change, state: LogState) -> Result<Changed, Fault> {
    let mut meta: Meta = row(&step.read().conversations, change.id.as_str())?
        .ok_or_else(|| corrupt("no row of conversation", change.id.as_str()))?;
    let table = &step.read().members;
    let members = match &change.members {
        MemberSet::Exactly(_) => members_of(table, &change.id)?,
        // A change of a few takes no longer where there are many.
        MemberSet::Delta { add, remove } => members_among(table, &change.id, add.iter().chain(remove))?,
    };
    let title = change.title.as_ref().map(|title| title.as_deref().map(str::to_owned));
    let retitled = title.as_ref().is_some_and(|title| *title != meta.title);
    let (added, removed) = difference(&members, &change.members);
    if change.only_create || (!retitled && added.is_empty() && removed.is_empty()) {
        let members = members_within(table, &change.id, MANY)?.unwrap_or_default();
        let conversation = conversation(&change.id, &meta, &state, members)?;
        return Ok(Changed { conversation, created: false, added: Vec::new(), removed: Vec::new() });
    }
    meta.updated_at = step.now().millis();
    meta.title = title.unwrap_or(meta.title);
    let log = OpenLog::new(LogKey::Conversation(change.id.clone()), state);
    let joined = log.state.seq;
    apply(step, change, Plan { log, meta, added, removed, joined, created: false, retitled })
}

/// Who comes and who goes.
fn difference(members: &[Member], set: &MemberSet) -> (Vec<UserId>, Vec<UserId>) {
    let current: BTreeSet<&UserId> = members.iter().map(|member| &member.user).collect();
    let (wanted, unwanted): (BTreeSet<&UserId>, BTreeSet<&UserId>) = match set {
        MemberSet::Exactly(exactly) => {
            let wanted: BTreeSet<_> = exactly.iter().collect();
            let unwanted = current.difference(&wanted).copied().collect();
            (wanted, unwanted)
        }
        MemberSet::Delta { add, remove } => {
            let unwanted: BTreeSet<_> = remove.iter().collect();
            (add.iter().filter(|user| !unwanted.contains(user)).collect(), unwanted)
        }
    };
    let added = wanted.difference(&current).map(|user| (*user).clone()).collect();
    let removed = unwanted.intersection(&current).map(|user| (*user).clone()).collect();
    (added, removed)
}

struct Plan {
    log: OpenLog,
    meta: Meta,
    added: Vec<UserId>,
    removed: Vec<UserId>,
    joined: u64,
    created: bool,
    retitled: bool,
}

fn apply(step: &mut Step<'_, '_>, change: &Change, plan: Plan) -> Result<Changed, Fault> {
    let Plan { mut log, meta, added, removed, joined, created, retitled } = plan;
    let id = change.id.as_str();
    let tables = step.write();
    for user in &added {
        tables.members.insert((id, user.as_str()), joined)?;
        tables.belongs.insert((user.as_str(), id), ())?;
    }
    for user in &removed {
        tables.members.remove((id, user.as_str()))?;
        tables.belongs.remove((user.as_str(), id))?;
    }
    put_row(&mut tables.conversations, id, &meta)?;
    log.state.version += 1;
    let by = change.by.clone();
    if created {
        let at = Time(meta.created_at);
        step.happened(&Happening::Created { conversation: change.id.clone(), by: by.clone(), at })?;
    }
    if created || !added.is_empty() || !removed.is_empty() {
        let record = Record::Members { added: added.clone(), removed: removed.clone(), by: by.clone() };
        append(step, &mut log, record)?;
    }
    if !removed.is_empty() {
        step.evict(Evicted { conversation: change.id.clone(), users: Some(removed.clone()) });
    }
    if retitled {
        append(step, &mut log, Record::Title { title: meta.title.as_deref().map(Arc::from), by })?;
    }
    let members = members_within(&step.read().members, &change.id, MANY)?.unwrap_or_default();
    let conversation = conversation(&change.id, &meta, &log.state, members)?;
    Ok(Changed { conversation, created, added, removed })
}

/// Deletes one, leaving a tombstone; `false` when there was none.
pub fn delete(step: &mut Step<'_, '_>, id: &ConversationId) -> Result<bool, Fault> {
    let key = conversation_key(id);
    let Some(state) = row::<LogState>(&step.read().logs, &key)?.filter(|state| !state.deleted || state.lost)
    else {
        return Ok(false);
    };
    let members = members_of(&step.read().members, id)?;
    let mut log = OpenLog::new(LogKey::Conversation(id.clone()), state);
    log.state.version += 1;
    append(step, &mut log, Record::Deleted)?;
    step.evict(Evicted { conversation: id.clone(), users: None });
    clear(step, &key)?;
    let (id, end) = (id.as_str(), after(id.as_str()));
    let tables = step.write();
    for member in &members {
        tables.belongs.remove((member.user.as_str(), id))?;
    }
    tables.members.retain_in((id, "")..(end.as_str(), ""), |_, _| false)?;
    tables.cursors.retain_in((id, "")..(end.as_str(), ""), |_, _| false)?;
    tables.conversations.remove(id)?;
    // Client ids are forgotten by their epoch, numbers stay used: see `append::known`, `log::find_id`.
    (log.state.deleted, log.state.lost) = (true, false);
    put_row(&mut tables.logs, &key, &log.state)?;
    Ok(true)
}
