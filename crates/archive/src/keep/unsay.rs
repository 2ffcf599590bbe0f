//! Entries of logs that are no messages, without a user in them.
//!
//! Every entry stays in its place: what only said something of the user says nothing any more.

use parlance_backplane::record;
use parlance_model::{Record, UserId};
use parlance_postgres::Refused;

use super::tables::{Broom, ENTRIES};

/// Entries that are read at once.
const BATCH: i64 = 1_000;

/// The record without the user; `None`: it says nothing of the user.
pub(crate) fn without(record: &Record, user: &UserId) -> Option<Record> {
    match record {
        Record::Reaction { author, .. } if author.id == *user => Some(nothing()),
        Record::Members { added, removed, by } => {
            let others = |all: &[UserId]| all.iter().filter(|one| *one != user).cloned().collect::<Vec<_>>();
            let fewer = Record::Members {
                added: others(added),
                removed: others(removed),
                by: by.clone().filter(|by| by != user),
            };
            (fewer != *record).then_some(fewer)
        }
        Record::Title { title, by: Some(by) } if by == user => {
            Some(Record::Title { title: title.clone(), by: None })
        }
        _ => None,
    }
}

/// Nobody came, and nobody went.
fn nothing() -> Record {
    Record::Members { added: Vec::new(), removed: Vec::new(), by: None }
}

const fn kind(record: &Record) -> Option<&'static str> {
    match record {
        Record::Members { .. } => Some("members"),
        Record::Title { .. } => Some("title"),
        _ => None,
    }
}

/// Has entries say nothing of a user, or counts those that do.
pub(super) async fn entries(broom: &mut Broom<'_>, user: &str) -> Result<(), Refused> {
    // No such name is in any log.
    let Ok(id) = UserId::parse(user) else { return Ok(()) };
    // An id is the same in JSON: nothing in it is ever escaped.
    let page = format!(
        "SELECT conversation, seq, record FROM parlance.entries
            WHERE position($1::bytea IN record) > 0 AND (conversation, seq) > ($2, $3)
            ORDER BY conversation, seq LIMIT {BATCH}"
    );
    let change = "UPDATE parlance.entries SET kind = $3, record = $4 WHERE conversation = $1 AND seq = $2 AND record = $5";
    let mut after = (String::new(), -1_i64);
    loop {
        let rows = broom.session.query(&page, &[&user.as_bytes(), &after.0, &after.1]).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = (last.try_get(0)?, last.try_get(1)?);
        for row in &rows {
            let (conversation, seq): (String, i64) = (row.try_get(0)?, row.try_get(1)?);
            let bytes: Vec<u8> = row.try_get(2)?;
            // What a later release wrote is not for this one to change.
            let Some(less) = record::decode_record(&bytes).ok().and_then(|record| without(&record, &id))
            else {
                continue;
            };
            let Some(kind) = kind(&less) else { continue };
            if broom.only_counts {
                broom.count(ENTRIES.name, 1);
                continue;
            }
            let less = record::encode_record(&less);
            let done = broom.session.execute(change, &[&conversation, &seq, &kind, &less, &bytes]).await?;
            broom.count(ENTRIES.name, done);
        }
    }
}

#[cfg(test)]
mod tests {
    use parlance_model::Author;

    use super::*;

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    #[test]
    fn a_record_says_nothing_of_who_is_forgotten_and_the_same_of_others() {
        let alice = user("alice");
        let members = |added: &[&str], removed: &[&str], by: Option<&str>| Record::Members {
            added: added.iter().map(|id| user(id)).collect(),
            removed: removed.iter().map(|id| user(id)).collect(),
            by: by.map(user),
        };
        let some = members(&["alice", "bob"], &["alice"], Some("alice"));
        assert_eq!(without(&some, &alice), Some(members(&["bob"], &[], None)));
        assert_eq!(without(&members(&["bob"], &[], None), &alice), None);
        let reaction = |id: &str| Record::Reaction {
            author: Author { id: user(id), name: Some("A".into()), username: None, picture: None },
            target: 3,
            kind: "x".into(),
            added: true,
        };
        assert_eq!(without(&reaction("alice"), &alice), Some(members(&[], &[], None)));
        assert_eq!(without(&reaction("alice-2"), &alice), None);
        let title = |by: Option<&str>| Record::Title { title: Some("t".into()), by: by.map(user) };
        assert_eq!(without(&title(Some("alice")), &alice), Some(title(None)));
        assert_eq!(without(&Record::Deleted, &alice), None);
    }
}
