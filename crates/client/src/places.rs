//! The conversations of a dialect that gives them numbers of its own (lingochat): by which name the
//! application knows each, and how far each was heard. Pure.
//!
//! Owns: numbers, and what waits while a conversation is caught up. Must not know: JSON, connections.

use std::collections::BTreeMap;

use crate::update::Message;

/// Messages held back of a conversation that is being caught up; more are told out of turn.
const HELD: usize = 1024;

/// One conversation.
#[derive(Debug, Default)]
struct Place {
    /// Its number, once heard; never asked for.
    number: Option<String>,
    /// The newest message heard, or the time of opening before there is one.
    last: String,
    /// What was missed is asked for.
    behind: bool,
    held: Vec<Message>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Places(BTreeMap<String, Place>);

impl Places {
    /// The application opens a conversation; `now` stands for the newest message until there is one.
    pub(crate) fn open(&mut self, name: &str, now: &str) {
        let number = is_number(name).then(|| name.to_owned());
        let place = self.0.entry(name.to_owned()).or_default();
        if place.last.is_empty() {
            *place = Place { number, last: now.to_owned(), ..Place::default() };
        }
    }

    /// The application leaves it.
    pub(crate) fn close(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Where a message of ours was said: that tells the number.
    pub(crate) fn learn(&mut self, number: &str, name: &str) {
        if let Some(place) = self.0.get_mut(name) {
            place.number = Some(number.to_owned());
        }
    }

    /// What the application calls it. Messages come only from conversations that were opened: a number that is
    /// new belongs to the one whose number is not known, if there is only one.
    pub(crate) fn name(&mut self, heard: &str) -> String {
        if self.0.contains_key(heard) {
            return heard.to_owned();
        }
        if let Some((name, _)) = self.0.iter().find(|(_, place)| place.number.as_deref() == Some(heard)) {
            return name.clone();
        }
        let mut unknown = self.0.iter_mut().filter(|(_, place)| place.number.is_none());
        if let (Some((name, place)), None, true) = (unknown.next(), unknown.next(), is_number(heard)) {
            place.number = Some(heard.to_owned());
            return name.clone();
        }
        heard.to_owned()
    }

    /// A message came. It is given back unless it has to wait for older ones.
    pub(crate) fn heard(&mut self, message: Message) -> Option<Message> {
        let Some(place) = self.0.get_mut(&message.conversation) else { return Some(message) };
        if place.behind && place.held.len() < HELD {
            place.held.push(message);
            return None;
        }
        place.last.clone_from(&message.id);
        Some(message)
    }

    /// A message that was missed; it is not held back.
    pub(crate) fn caught_up(&mut self, message: &Message) {
        if let Some(place) = self.0.get_mut(&message.conversation) {
            place.last.clone_from(&message.id);
        }
    }

    /// A new connection: the conversations to be caught up, and from where. After a recovery only those that
    /// were not finished.
    pub(crate) fn reconnected(&mut self, recovered: bool) -> Vec<(String, String)> {
        let behind = self.0.iter_mut().filter(|(_, place)| place.behind || !recovered);
        behind
            .map(|(name, place)| {
                place.behind = true;
                place.held.clear();
                (name.clone(), place.last.clone())
            })
            .collect()
    }

    /// From where to go on.
    pub(crate) fn last(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|place| place.last.as_str())
    }

    /// A conversation has been caught up, as far as it can be: what waited.
    pub(crate) fn release(&mut self, name: &str) -> Vec<Message> {
        let Some(place) = self.0.get_mut(name) else { return Vec::new() };
        place.behind = false;
        if let Some(newest) = place.held.last() {
            place.last.clone_from(&newest.id);
        }
        std::mem::take(&mut place.held)
    }

    /// All of them: the server has had its time.
    pub(crate) fn release_all(&mut self) -> Vec<Message> {
        let names: Vec<String> = self.0.keys().cloned().collect();
        names.iter().flat_map(|name| self.release(name)).collect()
    }
}

fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(conversation: &str, id: &str) -> Message {
        Message {
            conversation: conversation.into(),
            id: id.into(),
            client_id: None,
            from: "bob".into(),
            body: String::new(),
            at: None,
            queued: false,
            seq: None,
            local_id: None,
            metadata: None,
        }
    }

    #[test]
    fn a_number_is_known_by_the_name_it_was_opened_with() {
        let mut places = Places::default();
        places.open("demo", "now");
        places.open("7", "now");
        assert_eq!(places.name("7"), "7");
        assert_eq!(places.name("12"), "demo", "the only one without a number");
        assert_eq!(places.name("12"), "demo");
        assert_eq!(places.name("13"), "13", "nobody is left");
        assert_eq!(places.name("elsewhere"), "elsewhere");
    }

    #[test]
    fn of_two_names_an_own_message_tells() {
        let mut places = Places::default();
        places.open("a", "now");
        places.open("b", "now");
        assert_eq!(places.name("12"), "12", "either");
        places.learn("12", "b");
        assert_eq!((places.name("12"), places.name("13")), ("b".into(), "a".into()));
    }

    #[test]
    fn new_messages_wait_for_the_missed_ones() {
        let mut places = Places::default();
        places.open("7", "then");
        assert!(places.heard(message("7", "1")).is_some());
        assert_eq!(places.reconnected(true), []);
        assert_eq!(places.reconnected(false), [("7".into(), "1".into())]);
        assert!(places.heard(message("7", "5")).is_none());
        places.caught_up(&message("7", "3"));
        assert_eq!(places.last("7"), Some("3"));
        assert_eq!(places.release("7"), [message("7", "5")]);
        assert!(places.heard(message("7", "6")).is_some());
    }

    #[test]
    fn what_was_not_finished_is_begun_again_even_after_a_recovery() {
        let mut places = Places::default();
        places.open("7", "then");
        places.reconnected(false);
        assert!(places.heard(message("7", "5")).is_none());
        assert_eq!(places.reconnected(true), [("7".into(), "then".into())]);
        assert_eq!(places.release_all(), [], "it comes again");
    }
}
