//! Comparing open topics with their logs: the last publication may be lost without a word, and so may what a log held.
//!
//! Owns: when that is done and what follows from it. Must not know: how a log is read.

use futures_util::FutureExt as _;
use parlance_backplane::{Fault, Place};
use parlance_model::{Head, LogKey, Topic};

use super::job::Todo;
use super::track::{Compared, Position};
use super::{Feed, Outcome};

/// Rounds from one comparison of a log to the next: when something was heard of it meanwhile, and when not. A publication
/// that is lost with its connection is looked for at once; this finds one that was lost without a word.
const LIVE: u64 = 2;
const QUIET: u64 = 5;

/// Topics, where they stood when the question was put, and the answers.
pub(super) type Answers = Vec<(Topic, Position, Result<Place, Fault>)>;

/// When heads are asked for.
#[derive(Default)]
pub(super) struct Checks {
    under_way: bool,
    again: bool,
    round: u64,
    last: u64,
}

/// What is known of one log's comparisons.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Look {
    /// The round in which something was heard last, or the log was opened.
    heard: u64,
    /// The round in which it was compared last.
    compared: u64,
}

impl Checks {
    /// Where a log stands is known from just now.
    pub const fn opened(&self) -> Look {
        Look { heard: self.round, compared: self.round }
    }

    /// Something was heard of a log.
    pub const fn heard(&self, look: &mut Look) {
        look.heard = self.round + 1;
    }

    /// Whether it is time for the next round, with `every` so many ticks between two comparisons of a live log.
    pub const fn is_due(&mut self, ticks: u64, every: u64) -> bool {
        if ticks < self.last + every.div_ceil(LIVE) {
            return false;
        }
        self.last = ticks;
        self.round += 1;
        true
    }
}

impl Look {
    /// Whether a log is to be compared in a round.
    const fn is_due(&self, round: u64) -> bool {
        let pause = if self.heard > self.compared { LIVE } else { QUIET };
        round >= self.compared + pause
    }
}

impl Feed {
    /// Asks where the open logs stand, of all or of those whose turn it is; of those something is being done for, that
    /// finds out.
    pub(super) fn check(&mut self, all: bool) {
        if self.checks.under_way {
            self.checks.again |= all;
            return;
        }
        let round = self.checks.round;
        let standing = |(topic, slot): (&Topic, &mut super::Slot)| {
            let track = slot.track.as_ref().filter(|_| all || slot.look.is_due(round))?;
            let asked = (topic.clone(), track.position(), track.key.clone()?);
            slot.look.compared = round;
            Some(asked)
        };
        let asked: Vec<(Topic, Position, LogKey)> = self.open.iter_mut().filter_map(standing).collect();
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
            self.check(true);
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
    fn what_is_quiet_is_compared_less_often() {
        let mut checks = Checks::default();
        let mut look = checks.opened();
        let mut compared = Vec::new();
        for tick in 1..=1200 {
            if tick == 65 || tick == 75 {
                checks.heard(&mut look);
            }
            if checks.is_due(tick, 20) && look.is_due(checks.round) {
                look.compared = checks.round;
                compared.push(tick);
            }
        }
        assert_eq!(compared[..5], [50, 70, 90, 140, 190], "every 5 s, and 2 s after something was heard");
        assert_eq!(compared[compared.len() - 2..], [1140, 1190], "and so it stays");
    }
}
