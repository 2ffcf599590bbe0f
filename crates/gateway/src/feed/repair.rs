//! Reading on in a log that is further than what was heard of it, and fencing one that lost what was heard.
//!
//! Owns: how a page of a log continues a track. Must not know: who hears it.

use parlance_backplane::{Fenced, Page, Range, Seen};
use parlance_model::{Entry, Event, LogKey, Record, Resync};

use super::deliver::{Ready, To};
use super::job::Job;
use super::track::Track;

/// Entries read at once.
const PAGE: usize = 500;

const fn is_loss(entry: &Entry) -> bool {
    matches!(entry.record, Record::Lost { .. })
}

/// Whether a page that was read after the track's position can be of the log that was heard so far.
fn continues(track: &Track, page: &Page) -> bool {
    if page.head < track.seq || (page.head == 0 && track.epoch != 0 && page.epoch != track.epoch) {
        return false;
    }
    match page.entries.first() {
        Some(next) if is_loss(next) => true,
        Some(next) => !track.is_followed_otherwise(next),
        None => page.head > track.seq || page.epoch == track.epoch || track.seq == 0,
    }
}

impl Job {
    /// Reads everything after the topic's position from the log. What cannot be read any more is told.
    pub async fn repair(&mut self) -> Option<()> {
        let Some(key) = self.track.key.clone() else { return Some(()) };
        let mut compared = false;
        loop {
            let range = Range::After { seq: self.track.seq, limit: PAGE };
            let page =
                self.insist_reading("gap repair", || self.node.backplane.log.range(&key, range)).await?;
            self.node.metrics.feed.repairs.inc();
            self.node.metrics.feed.repaired_entries.inc_by(page.entries.len() as u64);
            if !compared && !continues(&self.track, &page) {
                self.fence().await?;
                compared = true;
                continue;
            }
            let more = page.more && !page.entries.is_empty();
            self.take(&key, page).await?;
            if !more {
                return Some(());
            }
            self.flush().await?;
        }
    }

    async fn take(&mut self, key: &LogKey, page: Page) -> Option<()> {
        if page.epoch != self.track.epoch {
            if let Some(outline) = self.outline(key).await? {
                self.track.number = outline.conversation.number();
            }
            self.node.hub.set_number(&self.topic, self.track.number);
        }
        let reaches = page.entries.first().map_or(page.head + 1, |entry| entry.seq);
        let told = page.entries.first().is_some_and(is_loss);
        if reaches > self.track.seq + 1 && !told {
            self.tell_lost(key, (self.track.seq + 1, reaches - 1));
        }
        if page.entries.is_empty() {
            self.track.stand_at(page.head, page.epoch);
        }
        for entry in page.entries {
            self.accept(entry).await?;
        }
        Some(())
    }

    fn tell_lost(&mut self, key: &LogKey, (from, to): (u64, u64)) {
        if let LogKey::Conversation(id) = key {
            let event = Event::Resync(Resync {
                conversation: id.clone(),
                number: self.track.number,
                from,
                to,
                at: self.node.clock.now(),
            });
            self.ready.push(Ready::Event { topic: self.topic.clone(), event, to: To::All });
        }
    }

    /// What was heard is not what stands in the log: makes sure that the loss stands in it.
    pub async fn fence(&mut self) -> Option<()> {
        let Some(key) = self.track.key.clone() else { return Some(()) };
        let seen = Seen { from: self.common(&key).await?, ..self.track.seen() };
        let fenced = self.insist_reading("fence", || self.node.backplane.fences.fence(&key, seen)).await?;
        if fenced != Fenced::There {
            tracing::error!(topic = ?self.topic, ?seen, ?fenced, "the log lost entries that were delivered");
            self.node.metrics.feed.losses.inc();
            self.node.carry_leases();
            // Moves were lost with it, or are told under versions that were heard already.
            self.todo.push_front(super::job::Todo::Cursors);
        }
        Some(())
    }

    /// The first sequence from which on the log is, or may be, another one than was heard.
    async fn common(&self, key: &LogKey) -> Option<u64> {
        let Some(oldest) = self.track.oldest_known() else { return Some(self.track.seq.max(1)) };
        let range = Range::After { seq: oldest.saturating_sub(1), limit: PAGE };
        let page = self.insist_reading("comparing", || self.node.backplane.log.range(key, range)).await?;
        if page.head == 0 {
            return Some(1);
        }
        let same = page.entries.iter().take_while(|entry| self.track.heard(entry)).last();
        Some(same.map_or(oldest, |entry| entry.seq + 1))
    }
}
