//! One conversation: its log from the first entry that is kept, and then what stands beside it.

use parlance_backplane::Range;
use parlance_model::{Conversation, ConversationId, Entry, LogKey, Record};
use parlance_postgres::Refused;
use tokio::time::Instant;

use super::write::{Place, Standing};
use super::{Progress, Trouble, Walk, rest};

/// Entries that are read at once, unless `archive.batch` is less: they may be large.
const PAGE: usize = 200;
/// Bytes that are written at once, about: a transaction has to be through in time. One entry may be more.
const BYTES: usize = 2 * 1024 * 1024;
/// Places in a log of which it is asked at once whether all are there.
const STRETCH: u64 = 10_000;
/// Members, or cursors, in one transaction.
const STANDING: usize = 1_000;

/// How much of an entry counts.
fn size(entry: &Entry) -> usize {
    let Record::Message(message) = &entry.record else { return 0 };
    let others = [&message.metadata, &message.extra].into_iter().flatten().map(|json| json.as_str().len());
    message.body.len() + others.sum::<usize>()
}

/// A page in pieces that are not too large.
fn cut(page: &[Entry]) -> Vec<&[Entry]> {
    let (mut pieces, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (index, entry) in page.iter().enumerate() {
        let more = size(entry);
        if bytes + more > BYTES && index > from {
            pieces.extend(page.get(from..index));
            (from, bytes) = (index, 0);
        }
        bytes += more;
    }
    pieces.extend(page.get(from..));
    pieces
}

impl Walk<'_> {
    /// Whether there is such a conversation.
    pub(super) async fn conversation(&mut self, id: &ConversationId) -> Result<bool, Trouble> {
        self.at = ("outline", 0);
        let Some(outline) = self.from.members.outline(id).await? else { return Ok(false) };
        let head = outline.conversation.head;
        let epoch = self.log(id, head.seq).await?.unwrap_or(head.epoch);
        self.at = ("standing", 0);
        // Members and cursors of now, and only if it was not deleted meanwhile.
        if let Some(conversation) = self.from.conversations.get(id).await? {
            self.standing(&conversation, epoch).await?;
        }
        Ok(true)
    }

    /// The log up to where it stood at first: the rest is written as it comes. Returns the epoch of its first entry.
    async fn log(&mut self, id: &ConversationId, head: u64) -> Result<Option<u32>, Trouble> {
        self.at = ("log", 0);
        let key = LogKey::Conversation(id.clone());
        let first = self.from.kept.range(&key, Range::After { seq: 0, limit: 1 }).await?;
        let Some(first) = first.entries.first() else { return Ok(None) };
        let (epoch, mut after, mut bound) = (first.epoch, first.seq.saturating_sub(1), None);
        while after < head {
            let began = Instant::now();
            let end = head.min(after.saturating_add(STRETCH));
            let is_there = self.store().await?.has_all(id, (after, end), epoch).await;
            if self.known(is_there)? {
                after = end;
                rest(began).await;
                continue;
            }
            while after < end {
                self.at.1 = after;
                let began = Instant::now();
                let limit = self.plan.batch.clamp(1, PAGE);
                let mut page = self.from.kept.range(&key, Range::After { seq: after, limit }).await?.entries;
                page.retain(|entry| entry.seq <= head);
                // The rest of it went meanwhile.
                let Some(last) = page.last() else { return Ok(Some(epoch)) };
                after = last.seq;
                rest(began).await;
                for some in cut(&page) {
                    let began = Instant::now();
                    self.entries(id, some, &mut bound).await?;
                    rest(began).await;
                }
            }
        }
        Ok(Some(epoch))
    }

    /// Writes some; those that PostgreSQL does not take are left out.
    async fn entries(
        &mut self,
        id: &ConversationId,
        all: &[Entry],
        bound: &mut Option<u64>,
    ) -> Result<(), Trouble> {
        let (part, policies) = (self.from.trail.part_of(id), (self.plan.policies)());
        let place = Place { id, part, policies: &policies };
        let mut left = vec![all];
        while let Some(some) = left.pop() {
            let written = self.store().await?.fill(place, some, bound).await;
            match written {
                Ok(count) => Progress::add(&self.progress.entries, count),
                Err(Refused::Content(_)) if some.len() > 1 => {
                    let (one, other) = some.split_at(some.len() / 2);
                    left.extend([other, one]);
                }
                Err(Refused::Content(why)) => {
                    let seq = some.first().map(|entry| entry.seq);
                    tracing::error!(conversation = %id, seq, why, "PostgreSQL refuses an entry for what is in it");
                    Progress::add(&self.progress.refused, 1);
                }
                Err(away) => return self.known(Err(away)),
            }
        }
        Ok(())
    }

    async fn standing(&mut self, conversation: &Conversation, epoch: u32) -> Result<(), Trouble> {
        let id = &conversation.id;
        let (_, cursors) = self.from.cursors.cursors(id).await?;
        let part = self.from.trail.part_of(id);
        let (mut members, mut cursors) = (conversation.members.chunks(STANDING), cursors.chunks(STANDING));
        let mut first = true;
        loop {
            let (began, some, others) = (Instant::now(), members.next(), cursors.next());
            if !first && some.is_none() && others.is_none() {
                return Ok(());
            }
            first = false;
            let (members, cursors) = (some.unwrap_or_default(), others.unwrap_or_default());
            let standing = Standing { conversation, epoch, members, cursors };
            let written = self.store().await?.stand(part, &standing).await;
            self.known(written)?;
            rest(began).await;
        }
    }

    /// A connection that gave no answer is not used again.
    fn known<T>(&mut self, answer: Result<T, Refused>) -> Result<T, Trouble> {
        if matches!(answer, Err(Refused::Away(_))) {
            self.store = None;
        }
        Ok(answer?)
    }
}

#[cfg(test)]
mod tests {
    use parlance_model::{Author, Message, MessageId, Time, UserId};

    use super::*;

    fn entry(seq: u32, bytes: usize) -> Entry {
        let (author, body) = (Author::bare(UserId::parse("zoe").unwrap()), "x".repeat(bytes).into());
        let message = Message { author, client_id: None, body, metadata: None, extra: None, trace: None };
        let (id, record) = (MessageId::new(9, seq).unwrap(), Record::Message(message));
        Entry { seq: seq.into(), epoch: 1, at: Time(seq.into()), prev_at: Time(0), id, record }
    }

    #[test]
    fn a_page_is_cut_by_what_is_in_it() {
        let lengths = |sizes: &[usize]| {
            let page: Vec<Entry> = (1..).zip(sizes).map(|(seq, bytes)| entry(seq, *bytes)).collect();
            let pieces = cut(&page);
            assert_eq!(pieces.concat(), page, "all of it, in order");
            pieces.iter().map(|piece| piece.len()).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&[1; 200]), [200]);
        assert_eq!(lengths(&[BYTES / 2, BYTES / 2, 1, 1]), [2, 2]);
        assert_eq!(lengths(&[1, BYTES + 1, 1]), [1, 1, 1], "one that is too large goes alone");
    }
}
