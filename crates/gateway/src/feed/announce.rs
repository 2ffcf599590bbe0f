//! When a presence transition is told: at once, or held back for a while so that a quick return is not
//! announced. Pure.

use std::time::Duration;

use parlance_backplane::{PresenceCause, PresenceChanged};
use parlance_model::{Time, Topic, UserId};
use rustc_hash::FxHashMap;

/// One announcement: to the topic's listeners of one background delay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Where.
    pub topic: Topic,
    /// To listeners with this delay (milliseconds).
    pub background_ms: u64,
    /// What.
    pub change: PresenceChanged,
}

/// Held-back offlines.
#[derive(Debug, Default)]
pub struct Announcer {
    held: FxHashMap<(Topic, UserId, u64), (Time, PresenceChanged)>,
}

impl Announcer {
    /// Takes a raw transition for listeners with a delay of `background_ms`; returns what is told now.
    pub fn heard(
        &mut self,
        topic: &Topic,
        background_ms: u64,
        change: &PresenceChanged,
        now: Time,
    ) -> Option<Announcement> {
        let tell = Announcement { topic: topic.clone(), background_ms, change: change.clone() };
        if background_ms == 0 {
            return Some(tell);
        }
        let key = (topic.clone(), change.user.clone(), background_ms);
        let was_held = self.held.remove(&key).is_some();
        if !change.status.is_online() && change.cause != PresenceCause::Expired {
            // Whoever was told nothing of the last return needs nothing but one offline.
            self.held.insert(key, (now + Duration::from_millis(background_ms), change.clone()));
            return None;
        }
        let flipped = change.status.is_online() != change.before.is_online();
        let swallowed = was_held && change.status.is_online();
        (flipped && !swallowed).then_some(tell)
    }

    /// Time passes: the announcements that are due.
    pub fn due(&mut self, now: Time) -> Vec<Announcement> {
        let mut due = Vec::new();
        self.held.retain(|(topic, _, background_ms), (at, change)| {
            if *at > now {
                return true;
            }
            due.push(Announcement {
                topic: topic.clone(),
                background_ms: *background_ms,
                change: change.clone(),
            });
            false
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_model::Status;

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
        assert!(a.heard(&Topic::PresenceAll, 5000, &online(), Time(0)).is_some());
        assert!(a.heard(&Topic::PresenceAll, 5000, &offline(PresenceCause::Closed), Time(100)).is_none());
        assert!(a.due(Time(5_099)).is_empty());
        assert!(a.heard(&Topic::PresenceAll, 5000, &online(), Time(5_099)).is_none());
        assert!(a.due(Time(60_000)).is_empty());
    }

    #[test]
    fn an_absence_is_told_once_after_the_delay() {
        let mut a = Announcer::default();
        assert!(a.heard(&Topic::PresenceAll, 5000, &offline(PresenceCause::Said), Time(0)).is_none());
        assert_eq!(a.due(Time(5_000)).len(), 1);
        assert!(a.due(Time(10_000)).is_empty());
        assert!(a.heard(&Topic::PresenceAll, 5000, &online(), Time(11_000)).is_some());
    }

    #[test]
    fn an_expired_lease_and_no_delay_are_told_at_once() {
        let mut a = Announcer::default();
        assert!(a.heard(&Topic::PresenceAll, 5000, &offline(PresenceCause::Expired), Time(0)).is_some());
        assert!(a.heard(&Topic::PresenceAll, 0, &offline(PresenceCause::Closed), Time(0)).is_some());
    }

    #[test]
    fn away_and_busy_are_no_news_where_only_online_counts() {
        let mut a = Announcer::default();
        let away = change(Status::Online, Status::Away, PresenceCause::Said);
        assert!(a.heard(&Topic::PresenceAll, 5000, &away, Time(0)).is_none());
        assert!(a.heard(&Topic::PresenceAll, 0, &away, Time(0)).is_some());
    }
}
