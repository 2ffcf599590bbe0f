//! This node's own typing deadlines: a stop reaches clients in time even when no word of it arrives. Pure.

use std::time::Duration;

use parlance_backplane::TypingChanged;
use parlance_model::{
    ConversationId, Time, Topic, UserId,
    typing::{Transition, Typist},
};
use rustc_hash::FxHashMap;

/// Who types where, as far as this node told its clients.
#[derive(Debug, Default)]
pub struct TypingTable {
    typists: FxHashMap<(Topic, ConversationId, UserId), (Typist, TypingChanged)>,
}

impl TypingTable {
    /// Takes a publication; returns what is to be told.
    pub fn heard(
        &mut self,
        topic: &Topic,
        change: TypingChanged,
        now: Time,
        ttl: Duration,
    ) -> Option<TypingChanged> {
        let key = (topic.clone(), change.conversation.clone(), change.author.id.clone());
        if !change.on {
            let (mut typist, told) = self.typists.remove(&key)?;
            // Whoever was told of the start is told of the stop.
            return (typist.stop() == Transition::Stop).then_some(TypingChanged { to: told.to, ..change });
        }
        let entry = self.typists.entry(key).or_insert_with(|| (Typist::default(), change.clone()));
        if entry.0.heartbeat(now, ttl) == Transition::Start {
            entry.1 = change.clone();
            return Some(change);
        }
        let before = std::mem::take(&mut entry.1.to);
        if before.is_empty() {
            return None;
        }
        // A heartbeat that names others: they hear a start, and later the stop with the rest.
        let fresh: Vec<UserId> = change.to.iter().filter(|u| !before.contains(u)).cloned().collect();
        let everybody = change.to.is_empty();
        entry.1.to = if everybody { Vec::new() } else { before.into_iter().chain(fresh.clone()).collect() };
        (everybody || !fresh.is_empty()).then_some(TypingChanged { to: fresh, ..change })
    }

    /// Time passes: the stops that are due, each with its topic.
    pub fn expire(&mut self, now: Time) -> Vec<(Topic, TypingChanged)> {
        let mut due = Vec::new();
        self.typists.retain(|(topic, _, _), (typist, change)| {
            if typist.expire(now) == Transition::Nothing {
                return true;
            }
            due.push((topic.clone(), TypingChanged { on: false, at: now, ..change.clone() }));
            false
        });
        due
    }

    /// Whether nobody types.
    pub fn is_empty(&self) -> bool {
        self.typists.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parlance_model::Author;

    const TTL: Duration = Duration::from_secs(4);

    fn change(on: bool) -> TypingChanged {
        TypingChanged {
            conversation: ConversationId::parse("c").unwrap(),
            author: Author::bare(UserId::parse("a").unwrap()),
            on,
            to: Vec::new(),
            until: Time(0),
            at: Time(0),
        }
    }

    fn topic() -> Topic {
        Topic::Conversation(ConversationId::parse("c").unwrap())
    }

    #[test]
    fn silence_stops_once_and_a_late_stop_is_not_told_again() {
        let mut table = TypingTable::default();
        assert!(table.heard(&topic(), change(true), Time(0), TTL).is_some());
        assert!(table.heard(&topic(), change(true), Time(3_000), TTL).is_none(), "a heartbeat");
        assert!(table.expire(Time(6_999)).is_empty());
        let due = table.expire(Time(7_000));
        assert_eq!(due.len(), 1);
        assert!(!due[0].1.on);
        assert!(table.heard(&topic(), change(false), Time(7_100), TTL).is_none());
        assert!(table.is_empty());
    }

    #[test]
    fn whoever_was_told_of_a_start_is_told_of_the_stop() {
        let user = |name: &str| UserId::parse(name).unwrap();
        let to =
            |names: &[&str], on| TypingChanged { to: names.iter().map(|n| user(n)).collect(), ..change(on) };
        let mut table = TypingTable::default();
        assert_eq!(table.heard(&topic(), to(&["x"], true), Time(0), TTL).unwrap().to, [user("x")]);
        assert_eq!(table.heard(&topic(), to(&["y"], true), Time(1_000), TTL).unwrap().to, [user("y")]);
        assert!(table.heard(&topic(), to(&["x", "y"], true), Time(2_000), TTL).is_none());
        assert_eq!(
            table.heard(&topic(), to(&["y"], false), Time(3_000), TTL).unwrap().to,
            [user("x"), user("y")]
        );
    }

    #[test]
    fn a_stop_without_a_start_is_not_told() {
        assert!(TypingTable::default().heard(&topic(), change(false), Time(0), TTL).is_none());
    }
}
