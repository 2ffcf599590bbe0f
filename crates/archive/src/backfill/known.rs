//! What must not come back: what is kept no longer, and who was forgotten.

use std::collections::{BTreeMap, BTreeSet};

use parlance_model::{Author, ConversationId, Entry, Message, Record, Time, UserId};
use parlance_postgres::Refused;
use tokio_postgres::Transaction;

use crate::keep::{Known, Policies, without};

/// Now, when its latest life began, before when everything was removed, and when it was forgotten, in microseconds.
const OF_CONVERSATION: &str = "SELECT (extract(epoch FROM now()) * 1000000)::bigint,
    (extract(epoch FROM (SELECT created_at FROM parlance.conversations WHERE id = $1)) * 1000000)::bigint,
    (extract(epoch FROM (SELECT removed_before FROM parlance.conversations WHERE id = $1)) * 1000000)::bigint,
    (extract(epoch FROM (SELECT at FROM parlance.forgotten
        WHERE kind = 'conversation' AND name = sha256(convert_to($1, 'UTF8')))) * 1000000)::bigint";
const USERS: &str =
    "SELECT u.name, (extract(epoch FROM f.at) * 1000)::bigint FROM unnest($1::text[]) AS u(name)
    JOIN parlance.forgotten AS f ON f.kind = 'user' AND f.name = sha256(convert_to(u.name, 'UTF8'))";

/// What of a conversation may come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Floor {
    /// Nothing that is older, in microseconds.
    from: Option<i64>,
    /// When it was forgotten, in microseconds.
    forgotten: Option<i64>,
}

fn micros(at: Time) -> i64 {
    i64::try_from(at.millis().saturating_mul(1_000)).unwrap_or(i64::MAX)
}

impl Floor {
    /// As it is now, for a transaction that excludes whoever forgets.
    pub async fn of(
        step: &Transaction<'_>,
        id: &ConversationId,
        policies: &Policies,
    ) -> Result<Self, Refused> {
        let row = step.query_one(OF_CONVERSATION, &[&id.as_str()]).await?;
        let known = Known { now: row.try_get(0)?, created: row.try_get(1)? };
        let (removed, forgotten): (Option<i64>, Option<i64>) = (row.try_get(2)?, row.try_get(3)?);
        let after = forgotten.map(|at| at.saturating_add(1));
        Ok(Self { from: removed.max(after).max(policies.cut(id.as_str(), known)), forgotten })
    }

    pub fn admits(&self, at: Time) -> bool {
        self.from.is_none_or(|from| micros(at) >= from)
    }

    /// Whether it was forgotten in its life that began then.
    pub fn is_forgotten(&self, created: Time) -> bool {
        self.forgotten.is_some_and(|at| micros(created) <= at)
    }
}

/// Users who were forgotten, and when.
#[derive(Debug, Default)]
pub struct Forgotten(BTreeMap<UserId, Time>);

impl Forgotten {
    /// Those among these.
    pub async fn among(step: &Transaction<'_>, users: BTreeSet<&UserId>) -> Result<Self, Refused> {
        let names: Vec<&str> = users.iter().map(|user| user.as_str()).collect();
        let mut found = BTreeMap::new();
        for row in step.query(USERS, &[&names]).await? {
            let (name, at): (&str, i64) = (row.try_get(0)?, row.try_get(1)?);
            if let Ok(user) = UserId::parse(name) {
                found.insert(user, Time(u64::try_from(at).unwrap_or_default()));
            }
        }
        Ok(Self(found))
    }

    /// When one was.
    pub fn at(&self, user: &UserId) -> Option<Time> {
        self.0.get(user).copied()
    }

    /// An entry without what was forgotten.
    pub fn unsaid(&self, mut entry: Entry) -> Entry {
        for (user, _) in self.0.iter().filter(|(_, at)| entry.at <= **at) {
            entry.record = match entry.record {
                Record::Message(message) if message.author.id == *user => Record::Message(emptied(message)),
                record => without(&record, user).unwrap_or(record),
            };
        }
        entry
    }
}

/// As [`crate::forget`] leaves one.
fn emptied(message: Message) -> Message {
    Message {
        author: Author::bare(message.author.id),
        body: "".into(),
        metadata: None,
        extra: None,
        ..message
    }
}

/// Whom an entry names.
pub fn named(entry: &Entry) -> Vec<&UserId> {
    match &entry.record {
        Record::Message(message) => vec![&message.author.id],
        Record::Reaction { author, .. } => vec![&author.id],
        Record::Members { added, removed, by } => added.iter().chain(removed).chain(by).collect(),
        Record::Title { by, .. } => by.iter().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use parlance_model::MessageId;

    use super::*;

    fn user(id: &str) -> UserId {
        UserId::parse(id).unwrap()
    }

    fn entry(at: u64, record: Record) -> Entry {
        let id = MessageId::new(9, 3).unwrap();
        Entry { seq: 3, epoch: 1, at: Time(at), prev_at: Time(0), id, record }
    }

    fn message(by: &str) -> Record {
        let author = Author { name: Some("Zoë".into()), ..Author::bare(user(by)) };
        let (client_id, body) = (Some("c-1".into()), "hush".into());
        Record::Message(Message { author, client_id, body, metadata: None, extra: None, trace: None })
    }

    #[test]
    fn what_is_older_than_anything_that_went_does_not_come() {
        let floor = Floor { from: Some(2_000_001), forgotten: Some(5_000) };
        assert_eq!([1_999, 2_000, 2_001].map(|at| floor.admits(Time(at))), [false, false, true]);
        assert!(floor.is_forgotten(Time(5)) && !floor.is_forgotten(Time(6)), "it was made again");
        assert!(Floor::default().admits(Time(0)) && !Floor::default().is_forgotten(Time(0)));
    }

    #[test]
    fn nothing_is_said_of_who_was_forgotten_up_to_then() {
        let forgotten = Forgotten(BTreeMap::from([(user("zoe"), Time(10))]));
        let Record::Message(emptied) = forgotten.unsaid(entry(10, message("zoe"))).record else { panic!() };
        assert_eq!((&*emptied.body, emptied.author), ("", Author::bare(user("zoe"))));
        assert_eq!(emptied.client_id.as_deref(), Some("c-1"), "it is still the same message");
        for kept in [entry(11, message("zoe")), entry(10, message("bob"))] {
            assert_eq!(forgotten.unsaid(kept.clone()), kept);
        }
        let came =
            Record::Members { added: vec![user("bob"), user("zoe")], removed: vec![], by: Some(user("zoe")) };
        assert_eq!(named(&entry(1, came.clone())).len(), 3);
        let less = Record::Members { added: vec![user("bob")], removed: vec![], by: None };
        assert_eq!(forgotten.unsaid(entry(1, came)).record, less);
    }
}
