//! Comparing open topics with their logs: the last publication may be lost without a word, and so may what a log held.
//!
//! Owns: when that is done and what follows from it. Must not know: how a log is read.

use futures_util::FutureExt as _;
use parlance_backplane::{Fault, Place, SOON};
use parlance_model::{Head, LogKey, Topic};
use rustc_hash::{FxHashMap, FxHashSet};

use super::job::Todo;
use super::track::{Compared, Position};
use super::{Feed, Outcome, TICK};

/// Rounds from one comparison of a log to the next: when something was heard of it meanwhile, and when not. A publication
/// that is lost with its connection is looked for at once; this finds one that was lost without a word.
const LIVE: u64 = 2;
const QUIET: u64 = 5;
/// The same for a log whose group did not change, which tells as much: should that ever fail.
const SURE: u64 = 60;

/// Topics, where they stood when the question was put, and the answers.
pub(super) type Answers = Vec<(Topic, Position, Result<Place, Fault>)>;
/// Groups of logs with their stamps.
pub(super) type Stamps = Vec<(u32, Option<u64>)>;

/// When heads are asked for.
#[derive(Default)]
pub(super) struct Checks {
    under_way: bool,
    again: bool,
    round: u64,
    last: u64,
    /// Rounds until what may follow unstamped on what was heard has come: see [`Fences::stamps`](parlance_backplane::Fences::stamps).
    settling: u64,
    stamps: FxHashMap<u32, u64>,
}

/// What is known of one log's comparisons.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Look {
    /// The round in which what was heard last, or followed soon on it, is there; or in which the log was opened.
    heard: u64,
    /// The round in which it was compared last.
    compared: u64,
    /// Whose stamp tells whether anything happened while nothing is heard.
    group: Option<u32>,
}

impl Checks {
    /// Where a log stands is known from just now. Nothing can have followed soon where there is no entry.
    pub fn opened(&self, before: Look, group: Option<u32>, empty: bool) -> Look {
        let settled = if empty || group.is_none() { self.round } else { self.round + self.settling };
        Look { heard: settled.max(before.heard), compared: self.round, group }
    }

    /// Something was heard of a log.
    pub fn heard(&self, look: &mut Look) {
        look.heard = self.round + self.settling.max(1);
    }

    /// Whether it is time for the next round, with `every` so many ticks between two comparisons of a live log.
    pub fn is_due(&mut self, ticks: u64, every: u64) -> bool {
        let pause = every.div_ceil(LIVE);
        let soon = u64::try_from(SOON.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX);
        // The round that has begun is not a whole one any more.
        self.settling = soon.div_ceil(pause.max(1)) + 1;
        if ticks < self.last + pause {
            return false;
        }
        self.last = ticks;
        self.round += 1;
        true
    }

    /// Takes up stamps, and says which groups changed, or may have.
    fn changed(&mut self, stamps: Stamps) -> FxHashSet<u32> {
        let changed = |(group, stamp): (u32, Option<u64>)| {
            let before = match stamp {
                Some(stamp) => self.stamps.insert(group, stamp),
                None => self.stamps.remove(&group),
            };
            (stamp.is_none() || before != stamp).then_some(group)
        };
        stamps.into_iter().filter_map(changed).collect()
    }
}

impl Look {
    /// Whether a log is to be compared in a round.
    const fn is_due(&self, round: u64) -> bool {
        let pause = match (self.heard > self.compared, self.group) {
            (true, _) => LIVE,
            (false, None) => QUIET,
            (false, Some(_)) => SURE,
        };
        round >= self.compared + pause
    }

    /// Whether its group's stamp is asked for in a round: each in its turn.
    fn asks(&self, round: u64) -> Option<u32> {
        self.group.filter(|group| (u64::from(*group) + round).is_multiple_of(QUIET))
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
        let groups: FxHashSet<u32> = match all {
            true => FxHashSet::default(),
            false => self.open.values().filter_map(|slot| slot.look.asks(round)).collect(),
        };
        if groups.is_empty() {
            return self.ask_heads(|look| all || look.is_due(round));
        }
        self.checks.under_way = true;
        let node = self.node.clone();
        let ask = async move {
            let groups: Vec<u32> = groups.into_iter().collect();
            let stamps = node.backplane.fences.stamps(&groups).await;
            Outcome::Stamped(groups.into_iter().zip(stamps).collect())
        };
        self.under_way.push(ask.boxed());
    }

    /// Compares the logs of which something may have happened.
    pub(super) fn stamped(&mut self, stamps: Stamps) {
        self.checks.under_way = false;
        let (changed, round) = (self.checks.changed(stamps), self.checks.round);
        let all = std::mem::take(&mut self.checks.again);
        let is_changed = |look: &Look| look.group.is_some_and(|group| changed.contains(&group));
        if !changed.is_empty() {
            for slot in self.open.values_mut().filter(|slot| slot.track.is_none() && is_changed(&slot.look)) {
                // The next rounds look: what is being done need not find out.
                self.checks.heard(&mut slot.look);
            }
        }
        self.ask_heads(|look| all || look.is_due(round) || is_changed(look));
    }

    fn ask_heads(&mut self, is_due: impl Fn(&Look) -> bool) {
        let round = self.checks.round;
        let standing = |(topic, slot): (&Topic, &mut super::Slot)| {
            let track = slot.track.as_ref().filter(|_| is_due(&slot.look))?;
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
                Err(new) => {
                    // Its group's stamp says nothing of it.
                    if let Some(slot) = self.open.get_mut(&topic) {
                        self.checks.heard(&mut slot.look);
                    }
                    fault = Some(new);
                }
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
        if compared != Compared::Same {
            // More may follow soon.
            self.checks.heard(&mut slot.look);
        }
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

    /// The ticks of the first two minutes at which a log is compared that is heard of at these.
    fn compared(look: &mut Look, checks: &mut Checks, heard: &[u64]) -> Vec<u64> {
        let mut compared = Vec::new();
        for tick in 1..=1200 {
            if heard.contains(&tick) {
                checks.heard(look);
            }
            if checks.is_due(tick, 20) && look.is_due(checks.round) {
                look.compared = checks.round;
                compared.push(tick);
            }
        }
        compared
    }

    #[test]
    fn what_is_quiet_is_compared_less_often() {
        let mut checks = Checks::default();
        let mut look = checks.opened(Look::default(), None, false);
        let compared = compared(&mut look, &mut checks, &[65, 75]);
        assert_eq!(compared[..5], [50, 70, 90, 140, 190], "every 5 s, and 2 s after something was heard");
        assert_eq!(compared[compared.len() - 2..], [1140, 1190], "and so it stays");
    }

    #[test]
    fn what_has_a_stamp_is_compared_until_what_was_heard_has_settled() {
        let mut checks = Checks::default();
        let mut look = checks.opened(Look::default(), Some(7), true);
        assert_eq!(compared(&mut look, &mut checks, &[65, 95]), [70, 90, 110, 710]);
        let last_heard = 95;
        assert!(110 - last_heard >= u64::try_from(SOON.as_millis() / TICK.as_millis()).unwrap());
    }

    #[test]
    fn a_log_that_has_entries_is_looked_at_again_soon_after_it_was_opened() {
        let mut checks = Checks::default();
        assert!(checks.is_due(10, 20));
        let mut look = checks.opened(Look::default(), Some(7), false);
        assert_eq!(compared(&mut look, &mut checks, &[])[..2], [30, 630]);
        let asked = |look: &Look| (1..=10).filter(|round| look.asks(*round) == Some(7)).collect::<Vec<u64>>();
        assert_eq!(asked(&look), [3, 8], "every 5 s");
    }

    #[test]
    fn a_stamp_that_is_other_or_not_known_is_a_change() {
        let mut checks = Checks::default();
        let mut changed = |stamps: &[(u32, Option<u64>)]| {
            let mut changed: Vec<u32> = checks.changed(stamps.to_vec()).into_iter().collect();
            changed.sort_unstable();
            changed
        };
        assert_eq!(changed(&[(1, Some(5)), (2, Some(0))]), [1, 2], "not known before");
        assert_eq!(changed(&[(1, Some(5)), (2, Some(0))]), Vec::<u32>::new());
        assert_eq!(changed(&[(1, Some(6)), (2, None)]), [1, 2]);
        assert_eq!(changed(&[(1, Some(2)), (2, Some(0))]), [1, 2], "it was lost, and began anew");
        assert_eq!(changed(&[(1, Some(2))]), Vec::<u32>::new());
    }
}
