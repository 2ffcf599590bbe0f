//! One open topic's position, and the rule by which a publication is delivered, dropped or shows a gap.
//! Pure.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::time::Duration;

use crate::brake::Lag;
use parlance_backplane::Seen;
use parlance_model::{Entry, Head, LogKey, MessageRef, Time, UserId, delivery::Marks};
use rustc_hash::{FxHashMap, FxHashSet};

/// Entries whose message is remembered, so that a receipt soon after needs no look into the log.
const RECENT: usize = 64;

/// What to do with a published entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It is the next one.
    Deliver,
    /// It was delivered before, or comes from a past that was fenced off.
    Drop,
    /// Something before it is missing: read the log.
    Gap,
}

/// Where an open topic stands.
#[derive(Debug)]
pub struct Track {
    /// Its log; `None` for topics without one.
    pub key: Option<LogKey>,
    /// The conversation's integer id.
    pub number: u32,
    /// The last sequence delivered.
    pub seq: u64,
    /// That entry's time.
    pub at: Time,
    /// The log's epoch.
    pub epoch: u32,
    /// The cursor version delivered.
    pub cursor_version: u64,
    /// The cursors delivered.
    pub marks: FxHashMap<UserId, Marks>,
    recent: VecDeque<(u64, Time, Option<MessageRef>)>,
    /// Who is present in the room, as was told; `None`: not known, or nobody is told.
    pub present: Option<FxHashSet<UserId>>,
    /// The conversation was lost, and nobody said yet who is a member.
    pub lost: bool,
    /// How late this node delivers it.
    pub lag: Lag,
    /// And how long one entry took.
    pub each: Duration,
}

/// Where a track stood when a log's head was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The last sequence delivered.
    pub seq: u64,
    at: Time,
    epoch: u32,
    cursors: u64,
}

/// What a head says of a position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// Everything was delivered.
    Same,
    /// There is more.
    Behind,
    /// What was delivered is not there.
    Differs,
}

impl Position {
    /// Compares with a head that was asked for after the position was taken.
    pub fn compare(&self, head: &Head) -> Compared {
        let same = head.epoch == self.epoch && (head.at == self.at || self.at == Time::default());
        match head.seq.cmp(&self.seq) {
            Ordering::Greater => Compared::Behind,
            Ordering::Equal if same || self.seq == 0 => Compared::Same,
            // A fence elsewhere, perhaps, or a loss: whoever compares with the log finds out.
            _ => Compared::Differs,
        }
    }

    /// What it means that there is no log (any more), in a store of this epoch.
    pub fn compare_nothing(&self, epoch: u32) -> Compared {
        let other = self.epoch != 0 && epoch != self.epoch;
        if self.seq > 0 || other { Compared::Differs } else { Compared::Same }
    }

    /// Whether moves of cursors that were heard are not known there.
    pub const fn cursors_went_back(&self, head: &Head) -> bool {
        head.cursor_version < self.cursors
    }
}

impl Track {
    /// A track that stands at a log's head.
    pub fn new(key: Option<LogKey>, number: u32) -> Self {
        Self {
            key,
            number,
            seq: 0,
            at: Time::default(),
            epoch: 0,
            cursor_version: 0,
            marks: FxHashMap::default(),
            recent: VecDeque::new(),
            present: None,
            lost: false,
            lag: Lag::default(),
            each: Duration::ZERO,
        }
    }

    /// Judges a published entry by its chain: sequence, the time of the entry before it, epoch.
    pub fn judge(&self, entry: &Entry) -> Judgement {
        if entry.epoch == self.epoch && entry.seq <= self.seq {
            return Judgement::Drop;
        }
        if entry.epoch < self.epoch {
            return Judgement::Drop;
        }
        let next = entry.epoch == self.epoch && entry.seq == self.seq + 1;
        if next && (self.seq == 0 || entry.prev_at == self.at) { Judgement::Deliver } else { Judgement::Gap }
    }

    /// Moves on over an entry.
    pub fn advance(&mut self, entry: &Entry) {
        let dense = entry.seq == self.seq + 1;
        self.seq = entry.seq;
        self.at = entry.at;
        self.epoch = entry.epoch;
        if !dense {
            self.recent.clear();
        }
        if matches!(self.key, Some(LogKey::Conversation(_))) {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back((entry.seq, entry.at, crate::events::message_ref(entry)));
        }
    }

    /// Stands where the log ends, without having heard anything of it.
    pub const fn begin_at(&mut self, head: Head) {
        (self.seq, self.at, self.epoch) = (head.seq, head.at, head.epoch);
    }

    /// Moves on to the end of a log that holds nothing more.
    pub fn stand_at(&mut self, head: u64, epoch: u32) {
        if head > self.seq {
            (self.seq, self.at) = (head, Time::default());
            self.recent.clear();
        }
        if head == self.seq {
            self.epoch = epoch;
        }
    }

    /// Where it stands.
    pub const fn position(&self) -> Position {
        Position { seq: self.seq, at: self.at, epoch: self.epoch, cursors: self.cursor_version }
    }

    /// What was heard, for comparing it with the log.
    pub fn seen(&self) -> Seen {
        let at = (self.at != Time::default()).then_some(self.at);
        Seen { seq: self.seq, at, epoch: self.epoch, number: self.number, from: self.seq + 1 }
    }

    /// Whether the entry after the last one has another one before it than was heard.
    pub fn is_followed_otherwise(&self, next: &Entry) -> bool {
        let known = self.seq > 0 && self.at != Time::default();
        known && next.seq == self.seq + 1 && next.prev_at != self.at
    }

    /// The oldest sequence of which it is known which entry was heard.
    pub fn oldest_known(&self) -> Option<u64> {
        self.recent.front().map(|(seq, ..)| *seq)
    }

    /// Whether this very entry was heard, as far as is remembered.
    pub fn heard(&self, entry: &Entry) -> bool {
        self.recent.iter().any(|(seq, at, _)| (*seq, *at) == (entry.seq, entry.at))
    }

    /// The messages of sequences `from+1..=to`, when all of them are remembered.
    pub fn remembered(&self, from: u64, to: u64) -> Option<Vec<MessageRef>> {
        let (first, last) = (self.recent.front()?.0, self.recent.back()?.0);
        if from + 1 < first || to > last || last - first + 1 != self.recent.len() as u64 {
            return None;
        }
        let inside = self.recent.iter().filter(|(seq, ..)| *seq > from && *seq <= to);
        Some(inside.filter_map(|(.., message)| message.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_model::{Author, ConversationId, Message, MessageId, Record};
    use proptest::prelude::*;

    fn entry(seq: u64, epoch: u32) -> Entry {
        Entry {
            seq,
            epoch,
            at: Time(seq * 10),
            prev_at: Time((seq - 1) * 10),
            id: MessageId::new(1, u32::try_from(seq).unwrap()).unwrap(),
            record: Record::Message(Message {
                author: Author::bare(UserId::parse("a").unwrap()),
                client_id: None,
                body: "x".into(),
                metadata: None,
                extra: None,
                trace: None,
            }),
        }
    }

    fn track() -> Track {
        Track::new(Some(LogKey::Conversation(ConversationId::parse("c").unwrap())), 1)
    }

    proptest! {
        /// Whatever is lost, doubled or reordered on the bus, and however gaps are repaired from the log:
        /// what is delivered is every sequence once, in order.
        #[test]
        fn delivery_is_dense_whatever_the_bus_does(bus in prop::collection::vec(1u64..40, 0..120)) {
            let (mut track, mut delivered) = (track(), Vec::new());
            for seq in bus {
                let published = entry(seq, 0);
                match track.judge(&published) {
                    Judgement::Deliver => {
                        track.advance(&published);
                        delivered.push(seq);
                    }
                    Judgement::Drop => {}
                    Judgement::Gap => {
                        for missing in track.seq + 1..=seq {
                            track.advance(&entry(missing, 0));
                            delivered.push(missing);
                        }
                    }
                }
            }
            let expected: Vec<u64> = (1..=delivered.len() as u64).collect();
            prop_assert_eq!(delivered, expected);
        }
    }

    #[test]
    fn a_late_publish_of_another_past_is_not_taken() {
        let mut track = track();
        track.advance(&entry(1, 0));
        let mut zombie = entry(2, 0);
        zombie.prev_at = Time(7);
        assert_eq!(track.judge(&zombie), Judgement::Gap, "the log decides");
        track.advance(&entry(9, 1));
        assert_eq!(track.judge(&entry(10, 0)), Judgement::Drop);
        assert_eq!(track.judge(&entry(10, 1)), Judgement::Deliver);
        assert_eq!(track.judge(&entry(10, 2)), Judgement::Gap);
    }

    #[test]
    fn a_head_tells_what_is_missing_from_what_was_lost() {
        let mut track = track();
        for seq in 1..=9 {
            track.advance(&entry(seq, 3));
        }
        let head = |seq, at, epoch| Head { seq, at: Time(at), epoch, since: 1, ..Head::default() };
        let here = track.position();
        for (head, expected) in [
            (head(9, 90, 3), Compared::Same),
            (head(10, 100, 3), Compared::Behind),
            (head(8, 80, 3), Compared::Differs),
            (head(9, 91, 3), Compared::Differs),
            (head(9, 90, 4), Compared::Differs),
            (head(2000, 91, 4), Compared::Behind),
        ] {
            assert_eq!(here.compare(&head), expected, "{head:?}");
        }
        assert_eq!(here.compare_nothing(3), Compared::Differs);
        let mut empty = Track::new(None, 0);
        empty.epoch = 3;
        assert_eq!(empty.position().compare_nothing(3), Compared::Same);
        assert_eq!(empty.position().compare_nothing(4), Compared::Differs);
        let mut other = entry(10, 3);
        assert!(!track.is_followed_otherwise(&other));
        other.prev_at = Time(91);
        assert!(track.is_followed_otherwise(&other));
        assert!(track.heard(&entry(9, 3)) && !track.heard(&entry(10, 3)));
    }

    #[test]
    fn receipts_find_recent_messages() {
        let mut track = track();
        for seq in 1..=100 {
            track.advance(&entry(seq, 0));
        }
        assert_eq!(track.remembered(97, 100).unwrap().len(), 3);
        assert_eq!(track.remembered(20, 30), None, "forgotten");
        assert_eq!(track.remembered(99, 101), None, "not yet delivered");
    }
}
