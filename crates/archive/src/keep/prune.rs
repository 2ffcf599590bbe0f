//! What policies say goes. One at a time does it, over all nodes.
//!
//! A log goes from its beginning on: what is left of it is as dense as before. Nothing is looked for that is not in the tables yet,
//! and what is written meanwhile is younger than anything that goes.

use std::collections::BTreeSet;

use parlance_postgres::{Refused, Session};

use super::Rows;
use super::policies::{Known, Policies};
use super::tables::{Broom, ENTRIES, FORGOTTEN, MESSAGES, OVER, REACTIONS, SUPERSEDED, Table, batch, micros};

/// Of the pair; the second half is no part's.
const LOCK: (i32, i32) = (0x6172_6368, -1);
/// What a deleted conversation leaves, besides its row.
const OF_CONVERSATIONS: [&str; 6] =
    ["messages", "entries", "superseded_messages", "reaction_states", "memberships", "receipts"];

/// Has go what policies say, or only counts it; `None`: somebody else is at it.
///
/// # Errors
/// What PostgreSQL says.
pub async fn prune(
    session: &mut Session,
    policies: &Policies,
    only_counts: bool,
) -> Result<Option<Rows>, Refused> {
    let lock = session.query_one("SELECT pg_try_advisory_lock($1, $2)", &[&LOCK.0, &LOCK.1]).await?;
    if !lock.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let done = passed(session, policies, only_counts).await;
    // A connection that failed has lost it already.
    let unlocked = session.query_one("SELECT pg_advisory_unlock($1, $2)", &[&LOCK.0, &LOCK.1]).await;
    let rows = done?;
    unlocked?;
    Ok(Some(rows))
}

async fn passed(session: &mut Session, policies: &Policies, only_counts: bool) -> Result<Rows, Refused> {
    let deleted = deleted(session, policies).await?;
    let mut rows = Rows::new();
    for (conversation, cut) in &deleted {
        gone(session, conversation, *cut, only_counts, &mut rows).await?;
    }
    let mut broom = Broom::new(session, only_counts);
    broom.rows = rows;
    let (has_entries, has_floors) = (broom.has(ENTRIES.name).await?, broom.has(FORGOTTEN).await?);
    let mut pass = Pass { has_entries, has_floors, broom, policies, counted: BTreeSet::new() };
    if only_counts {
        pass.counted.extend(deleted.into_iter().map(|(conversation, _)| conversation));
    }
    // Superseded messages first: a log that was counted has said nothing of them.
    for table in [SUPERSEDED, MESSAGES, ENTRIES, REACTIONS] {
        if table != ENTRIES || pass.has_entries {
            pass.table(table).await?;
        }
    }
    Ok(pass.broom.rows)
}

struct Pass<'a> {
    broom: Broom<'a>,
    policies: &'a Policies,
    has_entries: bool,
    /// It can be noted what was removed.
    has_floors: bool,
    /// Conversations that were counted, where nothing goes that would not be found again.
    counted: BTreeSet<String>,
}

impl Pass<'_> {
    async fn table(&mut self, table: Table) -> Result<(), Refused> {
        let mut after = String::new();
        loop {
            let page = self.broom.page(table, &after).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.conversation);
            for seen in &page {
                let known = Known { now: seen.now, created: seen.created };
                let cut = self.policies.cut(&seen.conversation, known).filter(|cut| seen.first < *cut);
                let Some(cut) = cut.filter(|_| !self.counted.contains(&seen.conversation)) else { continue };
                if table == MESSAGES || table == ENTRIES {
                    self.log(&seen.conversation, cut).await?;
                } else {
                    let old = format!("conversation = $1 AND {} < {}", table.at, micros!("$2"));
                    self.broom.sweep(table.name, &old, &[&seen.conversation, &as_float(cut)]).await?;
                }
            }
        }
    }

    /// The beginning of a log, up to the first that is younger; and reactions to it.
    async fn log(&mut self, conversation: &String, cut: i64) -> Result<(), Refused> {
        let cut = as_float(cut);
        let tables = [MESSAGES, ENTRIES];
        let tables = if self.has_entries { &tables[..] } else { &tables[..1] };
        let (mut kept, mut end): (Option<i64>, i64) = (None, 0);
        for Table { name, at, .. } in tables {
            let sql = format!(
                "SELECT (SELECT seq FROM parlance.{name} WHERE conversation = $1 AND {at} >= {} ORDER BY seq LIMIT 1),
                    (SELECT max(seq) FROM parlance.{name} WHERE conversation = $1)",
                micros!("$2")
            );
            let row = self.broom.session.query_one(&sql, &[conversation, &cut]).await?;
            let (first, last): (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
            kept = [kept, first].into_iter().flatten().min();
            end = end.max(last.unwrap_or_default().saturating_add(1));
        }
        let bound = kept.unwrap_or(end);
        if self.has_floors && !self.broom.only_counts {
            self.noted(conversation, (cut, bound), tables).await?;
        }
        for Table { name, at, .. } in tables {
            let old = format!("conversation = $1 AND {at} < {} AND seq < $3", micros!("$2"));
            self.broom.sweep(name, &old, &[conversation, &cut, &bound]).await?;
        }
        let to_them = "conversation = $1 AND target_seq < $2";
        self.broom.sweep(REACTIONS.name, to_them, &[conversation, &bound]).await?;
        if self.broom.only_counts {
            self.counted.insert(conversation.clone());
        }
        Ok(())
    }

    /// Notes what goes, if something does, before it is gone: history that is brought in beside this, or later, does not bring it
    /// back, whatever policies say by then.
    async fn noted(
        &mut self,
        conversation: &String,
        (cut, bound): (f64, i64),
        tables: &[Table],
    ) -> Result<(), Refused> {
        for Table { name, at, .. } in tables {
            let goes = format!(
                "SELECT FROM parlance.{name} WHERE conversation = $1 AND {at} < {} AND seq < $3 LIMIT 1",
                micros!("$2")
            );
            if self.broom.session.query_opt(&goes, &[conversation, &cut, &bound]).await?.is_some() {
                let floor = format!(
                    "UPDATE parlance.conversations SET removed_before = greatest(removed_before, {}) WHERE id = $1",
                    micros!("$2")
                );
                return self.broom.note(&floor, &[conversation, &cut]).await;
            }
        }
        Ok(())
    }
}

/// Below 2^53: exactly.
#[allow(clippy::cast_precision_loss, reason = "microseconds since 1970")]
const fn as_float(micros: i64) -> f64 {
    micros as f64
}

/// Conversations that were deleted long enough ago, each with the time before which that has to have been.
async fn deleted(session: &Session, policies: &Policies) -> Result<Vec<(String, f64)>, Refused> {
    let us = |time: &str| format!("(extract(epoch FROM {time}) * 1000000)::bigint");
    let sql = format!(
        "SELECT id, {}, {} FROM parlance.conversations WHERE deleted_at IS NOT NULL AND id > $1 ORDER BY id LIMIT 1000",
        us("deleted_at"),
        us("now()")
    );
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = session.query(&sql, &[&after]).await?;
        let Some(last) = page.last() else { return Ok(found) };
        after = last.try_get(0)?;
        for row in &page {
            let (id, at, now): (String, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            if let Some(cut) = policies.cut_of_deleted(&id, now).filter(|cut| at < *cut) {
                found.push((id, as_float(cut)));
            }
        }
    }
}

/// All of a deleted conversation. Each batch makes sure, and has it stay so, that it was not made again meanwhile.
async fn gone(
    session: &mut Session,
    conversation: &String,
    cut: f64,
    only_counts: bool,
    rows: &mut Rows,
) -> Result<(), Refused> {
    let mut broom = Broom::new(session, only_counts);
    let mut tables: Vec<&'static str> = OF_CONVERSATIONS.to_vec();
    if !broom.has(ENTRIES.name).await? {
        tables.retain(|table| *table != ENTRIES.name);
    }
    if only_counts {
        for table in tables {
            broom.sweep(table, "conversation = $1", &[conversation]).await?;
        }
        broom.count("conversations", 1);
        for (table, count) in broom.rows {
            *rows.entry(table).or_default() += count;
        }
        return Ok(());
    }
    let has_forgotten = broom.has(FORGOTTEN).await?;
    // A Redis may have lost that it was deleted: then its log goes on.
    let still = format!(
        "SELECT FROM parlance.conversations c WHERE id = $1 AND deleted_at < {}
            AND (created_at IS NULL OR created_at <= deleted_at) AND NOT EXISTS (
                SELECT FROM parlance.messages m WHERE m.conversation = c.id AND m.sent_at > c.deleted_at
            ) FOR UPDATE",
        micros!("$2")
    );
    // First, so that nothing comes behind what goes now.
    if has_forgotten {
        let step = session.transaction().await?;
        if step.query_opt(&still, &[conversation, &cut]).await?.is_none() {
            return Ok(());
        }
        step.execute(OVER, &[conversation]).await?;
        step.commit().await?;
    }
    for table in tables {
        loop {
            let step = session.transaction().await?;
            if step.query_opt(&still, &[conversation, &cut]).await?.is_none() {
                return Ok(());
            }
            let went = step.execute(&batch(table, "conversation = $1"), &[conversation]).await?;
            step.commit().await?;
            *rows.entry(table).or_default() += went;
            if went == 0 {
                break;
            }
        }
    }
    let row = format!(
        "DELETE FROM parlance.conversations WHERE id = $1 AND deleted_at < {}
            AND (created_at IS NULL OR created_at <= deleted_at)",
        micros!("$2")
    );
    *rows.entry("conversations").or_default() += session.execute(&row, &[conversation, &cut]).await?;
    Ok(())
}
