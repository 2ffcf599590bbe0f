//! Which messages were shown already: a bounded memory.

use std::collections::{HashSet, VecDeque};

/// A message by author, conversation and id: authors of some dialects make their ids themselves.
type Key = (String, String, String);

/// Remembers the last so many messages.
#[derive(Debug)]
pub(crate) struct Seen {
    keys: HashSet<Key>,
    order: VecDeque<Key>,
    capacity: usize,
}

impl Seen {
    /// Remembers up to `capacity`; the oldest is forgotten first.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { keys: HashSet::new(), order: VecDeque::new(), capacity: capacity.max(1) }
    }

    /// Whether this is the first time.
    pub(crate) fn is_new(&mut self, author: &str, conversation: &str, id: &str) -> bool {
        let key = (author.to_owned(), conversation.to_owned(), id.to_owned());
        if !self.keys.insert(key.clone()) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Seen;

    #[test]
    fn a_message_is_new_once_but_its_id_is_its_authors_own() {
        let mut seen = Seen::new(10);
        assert!(seen.is_new("alice", "c1", "m1"));
        assert!(!seen.is_new("alice", "c1", "m1"));
        assert!(seen.is_new("bob", "c1", "m1"));
        assert!(seen.is_new("alice", "c2", "m1"));
    }

    #[test]
    fn the_memory_is_bounded_and_forgets_the_oldest() {
        let mut seen = Seen::new(2);
        for id in ["1", "2", "3"] {
            assert!(seen.is_new("a", "c", id));
        }
        assert!(!seen.is_new("a", "c", "2"));
        assert!(seen.is_new("a", "c", "1"));
        assert_eq!(seen.keys.len(), 2);
    }
}
