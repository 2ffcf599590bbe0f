//! One connection that reads, and what it asks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parlance_backplane::{Fault, Standing, record};
use parlance_model::{Author, ConversationId, Entry, Message, MessageId, RawJson, Record, Time, UserId};
use parlance_postgres::{Refused, Session};
use tokio_postgres::{Row, Statement};

use super::life::Life;
use super::merge::Archived;

/// Nothing is changed by reading, and what nobody waits for any more ends by itself.
const SETTINGS: &str = "SET default_transaction_read_only = on; SET statement_timeout = 5000";
/// More losses than these, and more ends of lives, are not looked at; what lies before them does not count then.
const BREAKS: i64 = 100;

const COLUMNS: &str =
    "seq, epoch, message_number, message_offset, sent_at AS at, prev_at, record, sender, sender_name,
    sender_username, sender_picture, client_id, body, metadata::text AS metadata, extra::text AS extra";
const NO_COLUMNS: &str = "seq, epoch, message_number, message_offset, at, prev_at, record, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL";
/// Which life: the conversation, its floor, its epochs.
const OF_LIFE: &str = "conversation = $1 AND seq > $2 AND epoch BETWEEN $3 AND $4 AND prev_at IS NOT NULL";

fn stretch(order: &str) -> String {
    let part = |columns: &str, table: &str| {
        format!(
            "(SELECT {columns} FROM parlance.{table} WHERE {OF_LIFE} AND seq > $5 AND seq < $6
            ORDER BY seq {order} LIMIT $7)"
        )
    };
    format!(
        "{} UNION ALL {} ORDER BY seq {order} LIMIT $7",
        part(COLUMNS, "messages"),
        part(NO_COLUMNS, "entries")
    )
}

fn oldest() -> String {
    let part =
        |table: &str| format!("(SELECT seq FROM parlance.{table} WHERE {OF_LIFE} ORDER BY seq LIMIT 1)");
    format!("SELECT min(seq) FROM ({} UNION ALL {}) AS both_of_them", part("messages"), part("entries"))
}

/// The earliest at or after a time.
fn since() -> String {
    let part = |table: &str, at: &str| {
        format!(
            "(SELECT seq FROM parlance.{table} WHERE {OF_LIFE} AND {at} >= $5 ORDER BY {at}, seq LIMIT 1)"
        )
    };
    format!(
        "SELECT min(seq) FROM ({} UNION ALL {}) AS both_of_them",
        part("messages", "sent_at"),
        part("entries", "at")
    )
}

const BROKEN: &str =
    "SELECT seq, epoch, message_number, message_offset, at, prev_at, record FROM parlance.entries
    WHERE conversation = $1 AND kind IN ('deleted', 'lost') ORDER BY epoch DESC, seq DESC LIMIT $2";

const REACTED: &str = "SELECT target_seq, kind, user_id, seq, at, epoch FROM parlance.reaction_states
    WHERE conversation = $1 AND seq > $2 AND epoch BETWEEN $3 AND $4 AND stands AND target_seq BETWEEN $5 AND $6
    ORDER BY target_seq, seq";

/// Part of a log, between two sequences that do not belong to it.
#[derive(Debug, Clone, Copy)]
pub struct Stretch {
    /// Above this.
    pub above: u64,
    /// Below this.
    pub below: u64,
    /// Entries at most.
    pub most: usize,
    /// The newest instead of the oldest.
    pub backwards: bool,
}

/// A connection that reads.
pub struct Reader {
    session: Session,
    breaks: Statement,
    forwards: Statement,
    backwards: Statement,
    oldest: Statement,
    since: Statement,
    reacted: Statement,
}

impl Reader {
    /// Connects.
    ///
    /// # Errors
    /// [`Refused::Away`], also where the tables are not there yet.
    pub async fn connect(address: &str) -> Result<Self, Refused> {
        let session = Session::connect(address, "parlance-archive-read").await?;
        session.batch_execute(SETTINGS).await?;
        Ok(Self {
            breaks: session.prepare(BROKEN).await?,
            forwards: session.prepare(&stretch("")).await?,
            backwards: session.prepare(&stretch("DESC")).await?,
            oldest: session.prepare(&oldest()).await?,
            since: session.prepare(&since()).await?,
            reacted: session.prepare(REACTED).await?,
            session,
        })
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.session.is_closed()
    }

    /// What of the archived log is that of a conversation whose log is in this epoch.
    pub async fn life(&self, id: &ConversationId, epoch: u32) -> Result<Life, Refused> {
        let rows = self.session.query(&self.breaks, &[&id.as_str(), &BREAKS]).await?;
        let breaks = rows.iter().map(other).collect::<Result<Vec<_>, _>>()?;
        Ok(Life::of(epoch, &breaks))
    }

    /// Entries of a life, with whether there may be more, and which is its first.
    pub async fn stretch(
        &self,
        id: &ConversationId,
        life: &Life,
        mut stretch: Stretch,
    ) -> Result<Archived, Refused> {
        loop {
            let (rows, oldest) = tokio::try_join!(self.rows(id, life, stretch), self.oldest(id, life))?;
            let mut entries = rows.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
            let last = entries.last().map(|entry| entry.seq);
            let cut = rows.len() == limit(stretch.most);
            if cut && entries.first().map(|entry| entry.seq) != last {
                // There may be another one in the same place.
                entries.retain(|entry| Some(entry.seq) != last);
            }
            let reached = entries.last().map(|entry| entry.seq);
            let entries = life.entries(entries);
            match reached {
                // All of it is what the log lost.
                Some(seq) if cut && entries.is_empty() && stretch.backwards => stretch.below = seq,
                Some(seq) if cut && entries.is_empty() => stretch.above = seq,
                _ => return Ok(Archived { entries, cut, oldest }),
            }
        }
    }

    async fn rows(&self, id: &ConversationId, life: &Life, stretch: Stretch) -> Result<Vec<Row>, Refused> {
        let Stretch { above, below, most, backwards } = stretch;
        let statement = if backwards { &self.backwards } else { &self.forwards };
        let (floor, first, last) = bounds(life);
        let (above, below) = (number(above), number(below));
        let limit = i64::try_from(limit(most)).unwrap_or(i64::MAX);
        let id = id.as_str();
        let rows =
            self.session.query(statement, &[&id, &floor, &first, &last, &above, &below, &limit]).await?;
        Ok(rows)
    }

    async fn oldest(&self, id: &ConversationId, life: &Life) -> Result<Option<u64>, Refused> {
        let (floor, first, last) = bounds(life);
        let row = self.session.query_one(&self.oldest, &[&id.as_str(), &floor, &first, &last]).await?;
        Ok(row.try_get::<_, Option<i64>>(0)?.map(i64::unsigned_abs))
    }

    /// The first entry of a life at or after a time.
    pub async fn since(&self, id: &ConversationId, life: &Life, at: Time) -> Result<Option<u64>, Refused> {
        let (floor, first, last) = bounds(life);
        // Beyond all that PostgreSQL takes for a time nothing is.
        let Some(at) = UNIX_EPOCH.checked_add(Duration::from_millis(at.millis().min(LATEST))) else {
            return Ok(None);
        };
        let row = self.session.query_one(&self.since, &[&id.as_str(), &floor, &first, &last, &at]).await?;
        Ok(row.try_get::<_, Option<i64>>(0)?.map(i64::unsigned_abs))
    }

    /// The reactions to these messages that stand.
    pub async fn reactions(
        &self,
        id: &ConversationId,
        life: &Life,
        (from, to): (u64, u64),
    ) -> Result<Vec<Standing>, Refused> {
        let (floor, first, last) = bounds(life);
        let (from, to) = (number(from), number(to));
        let rows =
            self.session.query(&self.reacted, &[&id.as_str(), &floor, &first, &last, &from, &to]).await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in &rows {
            // One that the log lost stands nowhere.
            if !life.has_lost(count(row, 3)?, small(row, 5)?) {
                found.push(standing(row)?);
            }
        }
        Ok(found)
    }
}

/// The year 9999.
const LATEST: u64 = 253_370_764_800_000;

/// One more than is asked for tells whether there is one; and there may be two in one place.
const fn limit(most: usize) -> usize {
    most.saturating_add(2)
}

fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

fn bounds(life: &Life) -> (i64, i64, i64) {
    (number(life.floor), i64::from(*life.epochs.start()), i64::from(*life.epochs.end()))
}

fn unreadable(why: &str) -> Refused {
    Refused::Content(format!("a row is not what was written: {why}"))
}

fn wrong(fault: Fault) -> Refused {
    unreadable(&fault.to_string())
}

fn time(row: &Row, column: usize) -> Result<Time, Refused> {
    let at: SystemTime = row.try_get(column)?;
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)))
}

fn count(row: &Row, column: usize) -> Result<u64, Refused> {
    Ok(row.try_get::<_, i64>(column)?.unsigned_abs())
}

fn small(row: &Row, column: usize) -> Result<u32, Refused> {
    u32::try_from(row.try_get::<_, i64>(column)?).map_err(|_| unreadable("a number is too large"))
}

/// An entry, with this record in it.
fn around(row: &Row, record: Record) -> Result<Entry, Refused> {
    let id = MessageId::new(small(row, 2)?, small(row, 3)?).ok_or_else(|| unreadable("an id"))?;
    let (seq, epoch) = (count(row, 0)?, small(row, 1)?);
    Ok(Entry { seq, epoch, at: time(row, 4)?, prev_at: time(row, 5)?, id, record })
}

/// One whose record is kept as it was.
fn other(row: &Row) -> Result<Entry, Refused> {
    around(row, record::decode_record(row.try_get(6)?).map_err(wrong)?)
}

fn entry(row: &Row) -> Result<Entry, Refused> {
    if row.try_get::<_, Option<&[u8]>>(6)?.is_some() {
        return other(row);
    }
    let text = |column: usize| -> Result<Option<std::sync::Arc<str>>, Refused> {
        Ok(row.try_get::<_, Option<&str>>(column)?.map(Into::into))
    };
    let json = |column: usize| -> Result<Option<RawJson>, Refused> {
        Ok(row.try_get::<_, Option<&str>>(column)?.map(RawJson::trusted))
    };
    let author = Author {
        id: UserId::parse(row.try_get(7)?).map_err(|_| unreadable("a user"))?,
        name: text(8)?,
        username: text(9)?,
        picture: text(10)?,
    };
    let body = text(12)?.ok_or_else(|| unreadable("a message without a body"))?;
    let message =
        Message { author, client_id: text(11)?, body, metadata: json(13)?, extra: json(14)?, trace: None };
    around(row, Record::Message(message))
}

fn standing(row: &Row) -> Result<Standing, Refused> {
    let user = UserId::parse(row.try_get(2)?).map_err(|_| unreadable("a user"))?;
    let kind = row.try_get::<_, &str>(1)?.into();
    Ok(Standing { target: count(row, 0)?, kind, user, seq: count(row, 3)?, at: time(row, 4)? })
}
