//! When a presence transition is told: at once, held back for a while so that a quick return is not
//! announced, or at most once in a while. Pure.

use std::time::Duration;

use parlance_backplane::{PresenceCause, PresenceChanged};
use parlance_hub::Announce;
use parlance_model::{Time, Topic, UserId};
use rustc_hash::FxHashMap;

/// One announcement: to the topic's listeners of one policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Where.
    pub topic: Topic,
    /// To listeners with this policy.
    pub policy: Announce,
    /// What.
    pub change: PresenceChanged,
}

type Key = (Topic, UserId, Announce);

/// Held-back and throttled announcements.
#[derive(Debug, Default)]
pub struct Announcer {
    held: FxHashMap<Key, (Time, PresenceChanged)>,
    throttled: FxHashMap<Key, Throttle>,
}

/// A user who was announced a moment ago.
#[derive(Debug)]
struct Throttle {
    /// When the next word may be said.
    until: Time,
    /// What was said last.
    told: bool,
    /// What is to be said then, unless it is what was said last.
    waiting: Option<PresenceChanged>,
}

impl Announcer {
    /// Takes a raw transition for listeners of a policy; returns what is told now.
    pub fn heard(
        &mut self,
        topic: &Topic,
        policy: Announce,
        change: &PresenceChanged,
        now: Time,
    ) -> Option<Announcement> {
        let tell = Announcement { topic: topic.clone(), policy, change: change.clone() };
        let told = if policy.hold_ms == 0 { Some(tell) } else { self.hold(tell, now) };
        told.and_then(|tell| if policy.throttle_ms == 0 { Some(tell) } else { self.throttle(tell, now) })
    }

    fn hold(&mut self, tell: Announcement, now: Time) -> Option<Announcement> {
        let change = &tell.change;
        let key = (tell.topic.clone(), change.user.clone(), tell.policy);
        let was_held = self.held.remove(&key).is_some();
        if !change.status.is_online() && change.cause != PresenceCause::Expired {
            // Whoever was told nothing of the last return needs nothing but one offline.
            self.held.insert(key, (now + Duration::from_millis(tell.policy.hold_ms), change.clone()));
            return None;
        }
        let flipped = change.status.is_online() != change.before.is_online();
        let swallowed = was_held && change.status.is_online();
        (flipped && !swallowed).then_some(tell)
    }

    /// The first word at once; of those that follow within the time only the last, at its end, and only when it
    /// is another than the first.
    fn throttle(&mut self, tell: Announcement, now: Time) -> Option<Announcement> {
        let online = tell.change.status.is_online();
        let key = (tell.topic.clone(), tell.change.user.clone(), tell.policy);
        let until = now + Duration::from_millis(tell.policy.throttle_ms);
        match self.throttled.get_mut(&key) {
            Some(throttle) if throttle.until > now => {
                throttle.waiting = (throttle.told != online).then(|| tell.change.clone());
                None
            }
            _ if online == tell.change.before.is_online() => None,
            _ => {
                self.throttled.insert(key, Throttle { until, told: online, waiting: None });
                Some(tell)
            }
        }
    }

    /// Nobody hears of these topics any more. What was held back of them is old when somebody does again.
    pub fn forget(&mut self, closed: impl Fn(&Topic) -> bool) {
        self.held.retain(|(topic, ..), _| !closed(topic));
        self.throttled.retain(|(topic, ..), _| !closed(topic));
    }

    /// Time passes: the announcements that are due.
    pub fn due(&mut self, now: Time) -> Vec<Announcement> {
        let mut due = Vec::new();
        self.held.retain(|(topic, _, policy), (at, change)| {
            if *at > now {
                return true;
            }
            due.push(Announcement { topic: topic.clone(), policy: *policy, change: change.clone() });
            false
        });
        self.throttled.retain(|(topic, _, policy), throttle| {
            if throttle.until > now {
                return true;
            }
            let Some(change) = throttle.waiting.take() else { return false };
            throttle.told = change.status.is_online();
            throttle.until = now + Duration::from_millis(policy.throttle_ms);
            due.push(Announcement { topic: topic.clone(), policy: *policy, change });
            true
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_model::Status;

    const HOLD: Announce = Announce { hold_ms: 5_000, throttle_ms: 0 };
    const NOW: Announce = Announce { hold_ms: 0, throttle_ms: 0 };
    const THROTTLED: Announce = Announce { hold_ms: 0, throttle_ms: 2_000 };

    fn change(before: Status, status: Status, cause: PresenceCause) -> PresenceChanged {
        PresenceChanged {
            user: UserId::parse("u").unwrap(),
            status,
            before,
            last_seen: Time(0),
            at: Time(0),
            cause,
        }
    }

    fn offline(cause: PresenceCause) -> PresenceChanged {
        change(Status::Online, Status::Offline, cause)
    }

    fn online() -> PresenceChanged {
        change(Status::Offline, Status::Online, PresenceCause::Said)
    }

    #[test]
    fn a_flap_within_the_delay_is_swallowed() {
        let mut a = Announcer::default();
        assert!(a.heard(&Topic::PresenceAll, HOLD, &online(), Time(0)).is_some());
        assert!(a.heard(&Topic::PresenceAll, HOLD, &offline(PresenceCause::Closed), Time(100)).is_none());
        assert!(a.due(Time(5_099)).is_empty());
        assert!(a.heard(&Topic::PresenceAll, HOLD, &online(), Time(5_099)).is_none());
        assert!(a.due(Time(60_000)).is_empty());
    }

    #[test]
    fn an_absence_is_told_once_after_the_delay() {
        let mut a = Announcer::default();
        assert!(a.heard(&Topic::PresenceAll, HOLD, &offline(PresenceCause::Said), Time(0)).is_none());
        assert_eq!(a.due(Time(5_000)).len(), 1);
        assert!(a.due(Time(10_000)).is_empty());
        assert!(a.heard(&Topic::PresenceAll, HOLD, &online(), Time(11_000)).is_some());
    }

    #[test]
    fn what_is_held_back_is_forgotten_with_its_topic() {
        let mut a = Announcer::default();
        a.heard(&Topic::PresenceAll, HOLD, &offline(PresenceCause::Said), Time(0));
        a.heard(&Topic::PresenceAll, THROTTLED, &online(), Time(0));
        a.forget(|topic| *topic == Topic::Nodes);
        assert!(!a.held.is_empty() && !a.throttled.is_empty());
        a.forget(|topic| *topic == Topic::PresenceAll);
        assert!(a.held.is_empty() && a.throttled.is_empty() && a.due(Time(5_000)).is_empty());
    }

    #[test]
    fn an_expired_lease_and_no_delay_are_told_at_once() {
        let mut a = Announcer::default();
        assert!(a.heard(&Topic::PresenceAll, HOLD, &offline(PresenceCause::Expired), Time(0)).is_some());
        assert!(a.heard(&Topic::PresenceAll, NOW, &offline(PresenceCause::Closed), Time(0)).is_some());
    }

    #[test]
    fn away_and_busy_are_no_news_where_only_online_counts() {
        let mut a = Announcer::default();
        let away = change(Status::Online, Status::Away, PresenceCause::Said);
        assert!(a.heard(&Topic::PresenceAll, HOLD, &away, Time(0)).is_none());
        assert!(a.heard(&Topic::PresenceAll, NOW, &away, Time(0)).is_some());
    }

    #[test]
    fn a_throttled_user_is_told_first_and_last_but_not_in_between() {
        let mut a = Announcer::default();
        let off = offline(PresenceCause::Closed);
        let hear = |a: &mut Announcer, change: &PresenceChanged, at| {
            a.heard(&Topic::PresenceAll, THROTTLED, change, Time(at)).map(|t| t.change.status.is_online())
        };
        assert_eq!(hear(&mut a, &online(), 0), Some(true));
        assert_eq!(hear(&mut a, &off, 100), None);
        assert_eq!(hear(&mut a, &online(), 200), None);
        assert_eq!(hear(&mut a, &off, 300), None);
        assert!(a.due(Time(1_999)).is_empty());
        let due = a.due(Time(2_000));
        assert_eq!(due.iter().map(|t| t.change.status.is_online()).collect::<Vec<_>>(), [false]);
        assert_eq!(hear(&mut a, &online(), 2_100), None, "the trailing word begins a new time");
        assert_eq!(a.due(Time(4_000)).len(), 1);
        assert!(a.due(Time(6_000)).is_empty() && a.throttled.is_empty());
    }

    #[test]
    fn a_flap_that_ends_where_it_began_is_one_word() {
        let mut a = Announcer::default();
        assert!(a.heard(&Topic::PresenceAll, THROTTLED, &online(), Time(0)).is_some());
        assert!(a.heard(&Topic::PresenceAll, THROTTLED, &offline(PresenceCause::Closed), Time(1)).is_none());
        assert!(a.heard(&Topic::PresenceAll, THROTTLED, &online(), Time(2)).is_none());
        assert!(a.due(Time(2_002)).is_empty());
    }
}
