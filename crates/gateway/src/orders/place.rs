//! How far a node has read the log of orders, also when the log is not the one it has read: its end was lost, it
//! was made anew, or what came next is kept no more.
//!
//! Must not know: what an order says, how it is carried out.

use std::collections::VecDeque;

use parlance_backplane::{Fault, Log, Page, Range};
use parlance_model::{Entry, LogKey, Time};

/// Entries read at once, and remembered as read.
pub(super) const PAGE: usize = 100;

/// Which entry it was: another one may come to stand at its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    seq: u64,
    at: Time,
    epoch: u32,
}

/// How far a node has read.
#[derive(Default)]
pub struct Place {
    seq: u64,
    epoch: u32,
    /// The entry at `seq`, where it is known.
    last: Option<Mark>,
    read: VecDeque<Mark>,
    /// The newest time of what was read. By the log's clock: the node's own may be wrong.
    newest: Time,
    /// Orders may be gone that were never read.
    pub(super) doubtful: bool,
}

fn mark(entry: &Entry) -> Mark {
    Mark { seq: entry.seq, at: entry.at, epoch: entry.epoch }
}

impl Place {
    /// At the end of the log; what is there counts as read.
    pub(super) async fn at_end(log: &dyn Log, key: &LogKey) -> Result<Self, Fault> {
        let page = log.range(key, Range::Before { seq: u64::MAX, limit: PAGE }).await?;
        let mut place = Self::default();
        for entry in &page.entries {
            place.pass(entry);
        }
        (place.seq, place.epoch) = (page.head, page.epoch);
        Ok(place)
    }

    /// What comes next, and whether there is more. The entry that was read last is asked for again: only where it still
    /// stands is what follows it what comes next.
    pub(super) async fn next(&mut self, log: &dyn Log, key: &LogKey) -> Result<(Vec<Entry>, bool), Fault> {
        let range = Range::After { seq: self.seq.saturating_sub(1), limit: PAGE };
        let mut page = log.range(key, range).await?;
        if !self.continues(&page) {
            self.doubtful = true;
            self.go_back(log, key).await?;
            page = log.range(key, Range::After { seq: self.seq, limit: PAGE }).await?;
        }
        let more = page.more && !page.entries.is_empty();
        page.entries.retain(|entry| entry.seq > self.seq);
        Ok((page.entries, more))
    }

    /// The entry was read.
    pub(super) fn pass(&mut self, entry: &Entry) {
        let mark = mark(entry);
        (self.seq, self.epoch, self.last) = (entry.seq, entry.epoch, Some(mark));
        self.newest = self.newest.max(entry.at);
        if self.read.len() >= PAGE {
            self.read.pop_front();
        }
        self.read.push_back(mark);
    }

    /// Whether a page that begins with the entry read last is of the log that was read.
    fn continues(&self, page: &Page) -> bool {
        let same = page.epoch == self.epoch || self.seq == 0;
        same && match page.entries.first() {
            Some(entry) if entry.seq == self.seq => self.last.is_none_or(|last| last == mark(entry)),
            // What was read last is kept no more.
            Some(entry) if entry.seq == self.seq + 1 => self.last.is_none_or(|last| last.at == entry.prev_at),
            Some(_) => false,
            None => page.head == self.seq,
        }
    }

    /// Read already, or given before something that was: a disconnect of then must not meet who has come since.
    fn is_old(&self, entry: &Entry) -> bool {
        entry.at < self.newest || self.read.contains(&mark(entry))
    }

    /// Looks from the end of the log for what is old; what follows it was not read.
    async fn go_back(&mut self, log: &dyn Log, key: &LogKey) -> Result<(), Fault> {
        let mut below = u64::MAX;
        loop {
            let page = log.range(key, Range::Before { seq: below, limit: PAGE }).await?;
            if let Some(old) = page.entries.iter().rev().find(|entry| self.is_old(entry)) {
                (self.seq, self.epoch, self.last) = (old.seq, page.epoch, Some(mark(old)));
                return Ok(());
            }
            match page.entries.first() {
                Some(first) if page.more => below = first.seq,
                first => {
                    let seq = first.map_or(page.head, |first| first.seq.saturating_sub(1));
                    (self.seq, self.epoch, self.last) = (seq, page.epoch, None);
                    return Ok(());
                }
            }
        }
    }
}
