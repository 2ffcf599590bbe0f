//! Whose presence this node's listeners were told of, and whose is to be asked for because word of it may be lost. Pure.
//!
//! What is published is right: it comes in order, or its loss is told. An answer counts only where nothing was
//! published since the question.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use parlance_model::{Status, Time, Topic, UserId};
use rustc_hash::FxHashMap;

/// Users who went and are remembered, so that a return nobody heard of is found.
const GONE: usize = 4096;
/// Users asked for at once.
const BATCH: usize = 256;
/// How long an offline nobody published is doubted: after an outage of the engine every node takes its leases again
/// first.
const DOUBT: Duration = Duration::from_secs(2);
/// The same where the engine does not even know that the user ever was there: it may have been emptied.
const DEEP_DOUBT: Duration = Duration::from_secs(15);
/// Before a question that failed is put again.
const PAUSE: Duration = Duration::from_secs(1);

/// One user as listeners of a topic know it.
#[derive(Debug, Default)]
struct Seen {
    /// `None`: not known yet, and nobody was told.
    status: Option<Status>,
    /// When, in the order of everything that was heard.
    stamp: u64,
    /// An offline that was found is believed from then on.
    doubted: Option<Time>,
}

/// What the engine says of a user.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// The status.
    pub status: Status,
    /// Whether the engine remembers the user at all.
    pub remembered: bool,
}

/// Users to ask for together.
#[derive(Debug)]
pub struct Question {
    /// Whom.
    pub users: Vec<UserId>,
    stamp: u64,
}

/// A status nobody published: to be told on the topic.
#[derive(Debug, PartialEq, Eq)]
pub struct Missed {
    /// Where.
    pub topic: Topic,
    /// What listeners there know.
    pub before: Status,
}

/// What listeners know of presence.
#[derive(Debug, Default)]
pub struct Known {
    /// By the topic of one user.
    watched: FxHashMap<UserId, Seen>,
    /// By the topic of everybody: who is there, and who went last.
    everybody: FxHashMap<UserId, Seen>,
    gone: VecDeque<(UserId, u64)>,
    stamp: u64,
    asking: VecDeque<UserId>,
    later: BTreeSet<(Time, UserId)>,
    /// Somebody listens to everybody's.
    for_all: bool,
    under_way: bool,
    pause: Option<Time>,
}

impl Known {
    /// A status was published. Returns the one known before; `None`: nothing is known.
    pub fn heard(&mut self, topic: &Topic, user: &UserId, status: Status) -> Option<Status> {
        self.stamp += 1;
        let seen = Seen { status: Some(status), stamp: self.stamp, doubted: None };
        match topic {
            Topic::Presence(_) => self.watched.insert(user.clone(), seen)?.status,
            _ => {
                let before = self.everybody.insert(user.clone(), seen);
                if !status.is_online() {
                    self.remember_gone(user);
                }
                before?.status
            }
        }
    }

    /// Of those who went only the last ones are remembered.
    fn remember_gone(&mut self, user: &UserId) {
        self.gone.push_back((user.clone(), self.stamp));
        if self.gone.len() > GONE
            && let Some((oldest, stamp)) = self.gone.pop_front()
            && self.everybody.get(&oldest).is_some_and(|seen| seen.stamp == stamp)
        {
            self.everybody.remove(&oldest);
        }
    }

    /// A topic is listened to from now on: where a user stands is to be found out.
    pub fn opened(&mut self, topic: &Topic) {
        self.for_all |= *topic == Topic::PresenceAll;
        if let Topic::Presence(user) = topic
            && !self.watched.contains_key(user)
        {
            self.watched.insert(user.clone(), Seen::default());
            self.asking.push_back(user.clone());
        }
    }

    /// Nobody listens to a topic any more.
    pub fn closed(&mut self, topic: &Topic) {
        match topic {
            Topic::Presence(user) => drop(self.watched.remove(user)),
            Topic::PresenceAll => {
                self.for_all = false;
                self.everybody = FxHashMap::default();
                self.gone = VecDeque::new();
            }
            _ => {}
        }
    }

    /// Publications were lost: everybody is asked for.
    pub fn lost(&mut self) {
        let mut all: Vec<UserId> = self.watched.keys().chain(self.everybody.keys()).cloned().collect();
        all.sort_unstable();
        all.dedup();
        self.asking = all.into();
        self.pause = None;
    }

    /// The next question, if it is time for one and none is under way.
    pub fn question(&mut self, now: Time) -> Option<Question> {
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            self.asking.extend(self.later.pop_first().map(|(_, user)| user));
        }
        let rests = self.pause.is_some_and(|until| until > now);
        if self.under_way || rests || self.asking.is_empty() {
            return None;
        }
        let batch = BATCH.min(self.asking.len());
        let users = self.asking.drain(..batch).collect();
        if self.asking.is_empty() {
            self.asking = VecDeque::new();
        }
        self.under_way = true;
        Some(Question { users, stamp: self.stamp })
    }

    /// A question could not be answered: it is put again, after the others.
    pub fn failed(&mut self, question: Question, now: Time) {
        self.under_way = false;
        self.pause = Some(now + PAUSE);
        self.asking.extend(question.users);
    }

    /// All of a question was answered.
    pub const fn answered(&mut self) {
        self.under_way = false;
    }

    /// What of an answer was missed.
    pub fn found(&mut self, question: &Question, user: &UserId, found: Found, now: Time) -> Vec<Missed> {
        let mut missed: Vec<Missed> = Vec::new();
        let mut doubted = None;
        for (topic, seen) in [
            (Topic::Presence(user.clone()), self.watched.get_mut(user)),
            (Topic::PresenceAll, self.everybody.get_mut(user)),
        ] {
            let Some(seen) = seen.filter(|seen| seen.stamp <= question.stamp) else { continue };
            let Some(before) = seen.status else {
                seen.status = Some(found.status);
                continue;
            };
            if before == found.status {
                seen.doubted = None;
                continue;
            }
            if !found.status.is_online() {
                let doubt = if found.remembered { DOUBT } else { DEEP_DOUBT };
                let until = *seen.doubted.get_or_insert_with(|| {
                    doubted = Some(now + doubt);
                    now + doubt
                });
                if until > now {
                    continue;
                }
            }
            missed.push(Missed { topic, before });
        }
        // Who listens to everybody is told there what was missed of one user, too.
        if let (true, Some(first)) = (self.for_all && !self.everybody.contains_key(user), missed.first()) {
            let before = first.before;
            missed.push(Missed { topic: Topic::PresenceAll, before });
        }
        self.later.extend(doubted.map(|until| (until, user.clone())));
        for missed in &missed {
            self.heard(&missed.topic, user, found.status);
        }
        missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time(1_000_000);
    const ALL: Topic = Topic::PresenceAll;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn is(status: Status) -> Found {
        Found { status, remembered: true }
    }

    fn ask(known: &mut Known, now: Time, name: &str, found: Found) -> Vec<Missed> {
        let Some(question) = known.question(now) else { return Vec::new() };
        assert_eq!(question.users, [user(name)]);
        known.answered();
        known.found(&question, &user(name), found, now)
    }

    #[test]
    fn a_missed_offline_is_told_once_and_at_the_second_look() {
        let mut known = Known::default();
        assert_eq!(known.heard(&ALL, &user("u"), Status::Online), None);
        known.lost();
        assert!(ask(&mut known, NOW, "u", is(Status::Offline)).is_empty(), "doubted");
        assert!(known.question(NOW + DOUBT - Duration::from_millis(1)).is_none());
        let missed = ask(&mut known, NOW + DOUBT, "u", is(Status::Offline));
        assert_eq!(missed, [Missed { topic: ALL, before: Status::Online }]);
        known.lost();
        assert!(ask(&mut known, NOW + DOUBT * 9, "u", is(Status::Offline)).is_empty(), "known by now");
        known.lost();
        let back = ask(&mut known, NOW + DOUBT * 9, "u", is(Status::Online));
        assert_eq!(back, [Missed { topic: ALL, before: Status::Offline }], "a return is not doubted");
    }

    #[test]
    fn an_emptied_engine_reports_nobody_away_before_the_leases_are_taken_again() {
        let mut known = Known::default();
        known.heard(&ALL, &user("u"), Status::Online);
        known.lost();
        let nothing = Found { status: Status::Offline, remembered: false };
        assert!(ask(&mut known, NOW, "u", nothing).is_empty());
        assert!(known.question(NOW + DOUBT).is_none());
        assert!(ask(&mut known, NOW + DEEP_DOUBT, "u", is(Status::Online)).is_empty());
        known.lost();
        assert!(ask(&mut known, NOW + DEEP_DOUBT, "u", nothing).is_empty(), "doubted anew");
    }

    #[test]
    fn what_was_published_after_the_question_stands() {
        let mut known = Known::default();
        known.heard(&ALL, &user("u"), Status::Offline);
        known.lost();
        let question = known.question(NOW).unwrap();
        assert_eq!(known.heard(&ALL, &user("u"), Status::Online), Some(Status::Offline));
        assert_eq!(known.heard(&ALL, &user("u"), Status::Offline), Some(Status::Online));
        assert!(known.found(&question, &user("u"), is(Status::Online), NOW).is_empty());
    }

    #[test]
    fn where_a_watched_user_stands_is_found_out_quietly_and_failures_are_tried_again() {
        let mut known = Known::default();
        let topic = Topic::Presence(user("u"));
        known.opened(&topic);
        let question = known.question(NOW).unwrap();
        assert!(known.question(NOW).is_none(), "one at a time");
        known.failed(question, NOW);
        assert!(known.question(NOW).is_none(), "later");
        assert!(ask(&mut known, NOW + PAUSE, "u", is(Status::Online)).is_empty());
        known.lost();
        assert!(ask(&mut known, NOW + PAUSE, "u", is(Status::Busy)).len() == 1);
        known.opened(&ALL);
        known.lost();
        let both = ask(&mut known, NOW + PAUSE, "u", is(Status::Online));
        assert_eq!(both.len(), 2, "who listens to everybody hears it there");
        known.closed(&topic);
        known.closed(&ALL);
        known.lost();
        assert!(known.question(NOW + PAUSE).is_none() && known.watched.is_empty());
    }

    #[test]
    fn of_those_who_went_the_last_ones_are_remembered() {
        let mut known = Known::default();
        for number in 0..GONE * 3 {
            known.heard(&ALL, &user(&format!("u{number}")), Status::Online);
            known.heard(&ALL, &user(&format!("u{number}")), Status::Offline);
        }
        known.heard(&ALL, &user("there"), Status::Online);
        assert_eq!((known.everybody.len(), known.gone.len()), (GONE + 1, GONE));
        known.closed(&ALL);
        assert!(known.everybody.is_empty() && known.gone.is_empty());
    }
}
