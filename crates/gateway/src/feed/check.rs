//! Comparing open topics with their logs: the last publication may be lost without a word, and so may what a log held.
//!
//! Owns: when that is done and what follows from it. Must not know: how a log is read.

use futures_util::FutureExt as _;
use parlance_backplane::{Fault, Place};
use parlance_model::{Head, LogKey, Topic};

use super::job::Todo;
use super::track::{Compared, Position};
use super::{Feed, Outcome};

/// Nothing was heard: logs are compared so much less often, in halves.
const STRETCHED: u64 = 5;

/// Topics, where they stood when the question was put, and the answers.
pub(super) type Answers = Vec<(Topic, Position, Result<Place, Fault>)>;

/// When heads are asked for.
#[derive(Default)]
pub(super) struct Checks {
    under_way: bool,
    again: bool,
    heard: bool,
    last: u64,
}

impl Checks {
    /// Something was appended somewhere.
    pub const fn heard(&mut self) {
        self.heard = true;
    }

    /// Whether it is time, with `every` so many ticks between two looks.
    pub const fn is_due(&mut self, ticks: u64, every: u64) -> bool {
        let every = if self.heard { every } else { every * STRETCHED / 2 };
        if ticks < self.last + every {
            return false;
        }
        self.last = ticks;
        self.heard = false;
        true
    }
}

impl Feed {
    /// Asks where the open logs stand; of those something is being done for, that finds out.
    pub(super) fn check(&mut self) {
        if self.checks.under_way {
            self.checks.again = true;
            return;
        }
        let standing = |(topic, slot): (&Topic, &super::Slot)| {
            let track = slot.track.as_ref()?;
            Some((topic.clone(), track.position(), track.key.clone()?))
        };
        let asked: Vec<(Topic, Position, LogKey)> = self.open.iter().filter_map(standing).collect();
        if asked.is_empty() {
            return;
        }
        self.checks.under_way = true;
        let node = self.node.clone();
        let ask = async move {
            let logs: Vec<LogKey> = asked.iter().map(|(.., key)| key.clone()).collect();
            let places = node.backplane.fences.heads(&logs).await;
            let answers = asked.into_iter().zip(places);
            Outcome::Checked(answers.map(|((topic, position, _), place)| (topic, position, place)).collect())
        };
        self.under_way.push(ask.boxed());
    }

    pub(super) fn checked(&mut self, answers: Answers) {
        self.checks.under_way = false;
        let mut fault = None;
        for (topic, position, place) in answers {
            match place {
                Ok(place) => self.compare(&topic, &position, place),
                Err(new) => fault = Some(new),
            }
        }
        if let Some(fault) = fault {
            tracing::warn!(%fault, "head check");
        }
        if std::mem::take(&mut self.checks.again) {
            self.check();
        }
    }

    fn compare(&mut self, topic: &Topic, position: &Position, place: Place) {
        let conversation = matches!(topic, Topic::Conversation(_));
        let (compared, cursors) = match place {
            Place::Nothing { epoch } => (position.compare_nothing(epoch), false),
            Place::Deleted(head) => {
                // The word of it was missed.
                self.node.evict_all(topic);
                (position.compare(&head), false)
            }
            Place::Log(head) | Place::Lost(head) => {
                (position.compare(&head), conversation && self.lacks_cursors(topic, position, &head))
            }
        };
        let Some(slot) = self.open.get_mut(topic) else { return };
        match compared {
            // It may have been heard since the question was put.
            Compared::Behind if slot.track.as_ref().is_some_and(|t| t.seq == position.seq) => {
                slot.push(Todo::Behind);
            }
            Compared::Same | Compared::Behind => {}
            Compared::Differs => slot.push(Todo::Differs),
        }
        if cursors {
            slot.push(Todo::Cursors);
        }
        self.work(topic);
    }

    /// Whether cursors moved without a word, or went back. While something is done for the topic the next look tells.
    fn lacks_cursors(&self, topic: &Topic, position: &Position, head: &Head) -> bool {
        let now = self.open.get(topic).and_then(|slot| slot.track.as_ref());
        now.is_some_and(|now| position.cursors_went_back(head) || head.cursor_version > now.cursor_version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_logs_are_compared_less_often() {
        let mut checks = Checks::default();
        let mut due = Vec::new();
        for tick in 1..=160 {
            if tick == 60 {
                checks.heard();
            }
            if checks.is_due(tick, 20) {
                due.push(tick);
            }
        }
        assert_eq!(due, [50, 70, 120], "every 5 s, and 2 s after something was heard");
    }
}
