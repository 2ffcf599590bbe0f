//! The presence rule: what a user's status is, given the statuses of its live connections.

/// A presence status, of one connection or of a user.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord, Default)]
pub enum Status {
    /// Not there, or says so (an app in the background).
    Offline,
    /// Connected but idle.
    Away,
    /// There.
    #[default]
    Online,
    /// There, and does not want to be disturbed: outranks every other device's status.
    Busy,
}

impl Status {
    /// `offline`, `away`, `online` or `busy`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "offline",
            Self::Away => "away",
            Self::Online => "online",
            Self::Busy => "busy",
        }
    }

    /// Reads [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Offline, Self::Away, Self::Online, Self::Busy].into_iter().find(|s| s.as_str() == text)
    }

    /// Whether the user is there in any way.
    pub const fn is_online(self) -> bool {
        !matches!(self, Self::Offline)
    }
}

/// A user's status: the strongest of its live connections (busy > online > away), offline without any.
/// Independent of order and of how often a status occurs.
pub fn combined(connections: impl IntoIterator<Item = Status>) -> Status {
    connections.into_iter().max().unwrap_or(Status::Offline)
}

/// Whether going from `before` to `after` is worth telling.
pub fn transition(before: Status, after: Status) -> Option<Status> {
    (before != after).then_some(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn statuses() -> impl Strategy<Value = Vec<Status>> {
        prop::collection::vec(
            prop::sample::select(vec![Status::Offline, Status::Away, Status::Online, Status::Busy]),
            0..8,
        )
    }

    proptest! {
        #[test]
        fn offline_only_without_a_live_device(all in statuses()) {
            prop_assert_eq!(combined(all.clone()) == Status::Offline, !all.iter().any(|s| s.is_online()));
        }

        #[test]
        fn order_and_repetition_do_not_matter(mut all in statuses()) {
            let once = combined(all.clone());
            all.reverse();
            all.extend(all.clone());
            prop_assert_eq!(combined(all), once);
        }

        #[test]
        fn a_sequence_of_transitions_never_repeats_a_status(all in statuses()) {
            let (mut now, mut told) = (Status::Offline, Vec::new());
            for next in all {
                if let Some(tell) = transition(now, next) {
                    told.push(tell);
                }
                now = next;
            }
            prop_assert!(told.windows(2).all(|w| w[0] != w[1]));
            prop_assert_eq!(told.last().copied().unwrap_or(Status::Offline), now);
        }
    }

    #[test]
    fn words_read_back() {
        for s in [Status::Offline, Status::Away, Status::Online, Status::Busy] {
            assert_eq!(Status::parse(s.as_str()), Some(s));
        }
        assert_eq!(Status::parse("gone"), None);
    }
}
