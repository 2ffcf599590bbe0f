//! How long what is kept. Pure.

const DAY: i64 = 24 * 60 * 60 * 1_000_000;

/// Of some conversations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// An id, or the beginning of some with `*` behind it.
    pub conversations: String,
    /// 0: for ever.
    pub days: u64,
}

impl Rule {
    fn is_about(&self, conversation: &str) -> bool {
        match self.conversations.strip_suffix('*') {
            Some(beginning) => conversation.starts_with(beginning),
            None => conversation == self.conversations,
        }
    }
}

/// How long what is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policies {
    /// Of the conversations of no rule; 0: for ever.
    pub days: u64,
    /// Of a conversation that was deleted, from then on; 0: as if it had not been.
    pub deleted_days: u64,
    /// The first that is about a conversation counts.
    pub rules: Vec<Rule>,
}

/// What is known of a conversation. Times are in microseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Known {
    pub now: i64,
    /// Its latest life began: what is older is of one that was deleted.
    pub created: Option<i64>,
}

impl Policies {
    /// Whether everything is kept.
    pub fn is_empty(&self) -> bool {
        self.days == 0 && self.deleted_days == 0 && self.rules.iter().all(|rule| rule.days == 0)
    }

    /// For how long a conversation is kept, in days; `None`: for ever.
    fn days_of(&self, conversation: &str) -> Option<u64> {
        let rule = self.rules.iter().find(|rule| rule.is_about(conversation));
        Some(rule.map_or(self.days, |rule| rule.days)).filter(|days| *days > 0)
    }

    /// Before when it goes.
    pub(crate) fn cut(&self, conversation: &str, known: Known) -> Option<i64> {
        let aged = self.days_of(conversation).map(|days| before(known.now, days));
        let deleted =
            known.created.filter(|at| self.deleted_days > 0 && *at < before(known.now, self.deleted_days));
        aged.max(deleted)
    }

    /// Before when a conversation has to have been deleted for all of it to go.
    pub(super) fn cut_of_deleted(&self, conversation: &str, now: i64) -> Option<i64> {
        let deleted = Some(self.deleted_days).filter(|days| *days > 0);
        let days = [deleted, self.days_of(conversation)].into_iter().flatten().min()?;
        Some(before(now, days))
    }
}

fn before(now: i64, days: u64) -> i64 {
    now.saturating_sub(i64::try_from(days).unwrap_or(i64::MAX).saturating_mul(DAY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(days: u64, deleted_days: u64, rules: &[(&str, u64)]) -> Policies {
        let rule = |(conversations, days): &(&str, u64)| Rule {
            conversations: (*conversations).to_owned(),
            days: *days,
        };
        Policies { days, deleted_days, rules: rules.iter().map(rule).collect() }
    }

    #[test]
    fn the_first_rule_counts_and_nothing_goes_without_one() {
        let some = policies(90, 0, &[("support-vip-*", 0), ("support-*", 30), ("room", 1)]);
        let days = |conversation| {
            some.cut(conversation, Known { now: 100 * DAY, created: None }).map(|cut| 100 - cut / DAY)
        };
        assert_eq!(days("support-1"), Some(30));
        assert_eq!(days("support-vip-1"), None);
        assert_eq!((days("room"), days("room-2")), (Some(1), Some(90)));
        assert!(Policies::default().is_empty() && !some.is_empty());
        assert!(policies(0, 0, &[("a", 0)]).is_empty());
        assert_eq!(Policies::default().cut("a", Known { now: 100 * DAY, created: Some(DAY) }), None);
    }

    #[test]
    fn what_was_deleted_goes_by_its_own_time_or_earlier() {
        let now = 100 * DAY;
        let some = policies(0, 10, &[("short", 3), ("long", 50)]);
        assert_eq!(some.cut_of_deleted("a", now), Some(90 * DAY));
        assert_eq!(some.cut_of_deleted("short", now), Some(97 * DAY));
        assert_eq!(some.cut_of_deleted("long", now), Some(90 * DAY));
        assert_eq!(policies(0, 0, &[]).cut_of_deleted("a", now), None);
        // Of the life before: ten days after the next one began.
        assert_eq!(some.cut("a", Known { now, created: Some(80 * DAY) }), Some(80 * DAY));
        assert_eq!(some.cut("a", Known { now, created: Some(95 * DAY) }), None);
        assert_eq!(some.cut("long", Known { now, created: Some(80 * DAY) }), Some(80 * DAY));
        assert_eq!(some.cut("long", Known { now, created: Some(20 * DAY) }), Some(50 * DAY));
    }
}
