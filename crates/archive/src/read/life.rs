//! What of an archived log is the log that there is now. Pure.
//!
//! A conversation that was deleted and made again goes on in the sequence of its earlier life, in a later epoch; so does a log that lost
//! something, behind the record of that. Nobody is shown anything of an earlier life, whatever the archive knows or does not know yet
//! of its end: an entry counts only if the log's epoch comes from the entry's by losses that are written down.

use std::ops::RangeInclusive;

use parlance_model::{Entry, Record};

/// The life of a conversation that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// At or below this nothing counts.
    pub floor: u64,
    /// Its epochs.
    pub epochs: RangeInclusive<u32>,
    losses: Vec<Loss>,
}

/// Places that the log lost, and the epoch that began behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Loss {
    seq: u64,
    from: u64,
    to: u64,
    epoch: u32,
}

impl Loss {
    fn of(entry: &Entry) -> Option<Self> {
        let Record::Lost { from, to } = entry.record else { return None };
        Some(Self { seq: entry.seq, from, to, epoch: entry.epoch })
    }
}

/// The first epoch from which losses lead to this one.
fn reaches_back(epoch: u32, losses: &[Loss]) -> u32 {
    let mut first = epoch;
    while first > 0 && losses.iter().any(|loss| loss.epoch == first) {
        first -= 1;
    }
    first
}

impl Life {
    /// Of a log that is in this epoch; `breaks`: the ends of lives, and the losses, that are archived of it.
    pub fn of(epoch: u32, breaks: &[Entry]) -> Self {
        let all: Vec<Loss> = breaks.iter().filter_map(Loss::of).collect();
        // An end before the first of these epochs is of an earlier log, of which nothing counts by its epoch. Its place says nothing:
        // where an engine lost everything the log began again at its first.
        let first = reaches_back(epoch, &all);
        let ends =
            breaks.iter().filter(|entry| matches!(entry.record, Record::Deleted) && entry.epoch >= first);
        let floor = ends.map(|entry| entry.seq).max().unwrap_or(0);
        let mut losses: Vec<Loss> = all.into_iter().filter(|loss| loss.seq > floor).collect();
        let first = reaches_back(epoch, &losses);
        losses.retain(|loss| loss.epoch > first && loss.epoch <= epoch);
        Self { floor, epochs: first..=epoch, losses }
    }

    /// What counts of archived entries, in the order of the log; of several in one place the last that came there.
    pub fn entries(&self, mut all: Vec<Entry>) -> Vec<Entry> {
        all.sort_by_key(|entry| std::cmp::Reverse((entry.seq, entry.epoch, entry.at)));
        all.dedup_by_key(|entry| entry.seq);
        all.reverse();
        all.retain(|entry| self.counts(entry));
        all
    }

    /// Whether the log lost what was in that place in that epoch.
    pub fn has_lost(&self, seq: u64, epoch: u32) -> bool {
        self.losses.iter().any(|loss| (loss.from..=loss.to).contains(&seq) && epoch < loss.epoch)
    }

    fn counts(&self, entry: &Entry) -> bool {
        entry.seq > self.floor && self.epochs.contains(&entry.epoch) && !self.has_lost(entry.seq, entry.epoch)
    }

    /// Whether an entry comes right after another one: nothing between them is missing but what was lost.
    pub fn follows(&self, before: &Entry, entry: &Entry) -> bool {
        // What did not come after that is of another log.
        let chained = entry.prev_at == before.at || matches!(entry.record, Record::Lost { .. });
        chained && self.reaches(before.seq, entry.seq)
    }

    /// Whether nothing between two places is missing but what was lost.
    pub fn reaches(&self, before: u64, seq: u64) -> bool {
        before.saturating_add(1) == seq
            || self
                .losses
                .iter()
                .any(|loss| loss.from <= before.saturating_add(1) && loss.to.saturating_add(1) >= seq)
    }
}
