//! Who is present in which conversation, in memory.
//!
//! Owns: the entries and what is published of them. Must not know: leases; they call in here under their
//! own lock, so that a lease and its entries end in one step.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use async_trait::async_trait;
use parlance_model::{Author, ConnectionId, ConversationId, Time, Topic, UserId};

use super::Node;
use super::bus::Hub;
use crate::{Entering, Fault, Leaving, Publication, RoomChanged, Rooms};

/// A user's connections in one conversation: whether each asked for it.
type Entries = BTreeMap<ConnectionId, bool>;

/// All rooms.
#[derive(Default)]
pub struct Book {
    rooms: HashMap<ConversationId, BTreeMap<UserId, Entries>>,
    guests: HashMap<ConnectionId, Guest>,
}

/// A connection that is in some conversation.
struct Guest {
    author: Author,
    rooms: BTreeSet<ConversationId>,
}

/// Who is out of a conversation by a change of it.
#[derive(Debug, Clone)]
pub struct Evicted {
    /// Where.
    pub conversation: ConversationId,
    /// Who; `None`: everybody.
    pub users: Option<Vec<UserId>>,
}

/// When, and where to publish.
#[derive(Clone, Copy)]
pub struct Instant<'a> {
    /// Now.
    pub now: Time,
    /// Where to publish.
    pub hub: &'a Hub,
}

impl Instant<'_> {
    fn tell(self, conversation: &ConversationId, author: Author, change: Flags) {
        if !change.flipped && !change.explicit {
            return;
        }
        let Flags { present, flipped, explicit } = change;
        let conversation = conversation.clone();
        let topic = Topic::Conversation(conversation.clone());
        let changed = RoomChanged { conversation, author, present, flipped, explicit, at: self.now };
        self.hub.publish(topic, Publication::Room(changed));
    }
}

#[derive(Clone, Copy)]
struct Flags {
    present: bool,
    flipped: bool,
    explicit: bool,
}

impl Book {
    /// The caller has seen that the connection holds a lease.
    pub fn enter(&mut self, entering: &Entering, instant: Instant<'_>) {
        let Entering { conversations, author, connection, explicit } = entering;
        for conversation in conversations {
            let room = self.rooms.entry(conversation.clone()).or_default();
            let entries = room.entry(author.id.clone()).or_default();
            let flipped = entries.is_empty();
            let before = entries.insert(connection.clone(), *explicit);
            if before == Some(true) {
                // What was asked for once stays asked for.
                entries.insert(connection.clone(), true);
                continue;
            }
            let fresh = || Guest { author: author.clone(), rooms: BTreeSet::new() };
            let guest = self.guests.entry(connection.clone()).or_insert_with(fresh);
            guest.rooms.insert(conversation.clone());
            guest.author.clone_from(author);
            instant.tell(conversation, author.clone(), Flags { present: true, flipped, explicit: *explicit });
        }
    }

    fn leave(&mut self, leaving: &Leaving, instant: Instant<'_>) {
        let Leaving { conversations, author, connection, explicit } = leaving;
        for conversation in conversations {
            if let Some(flipped) = self.remove(conversation, &author.id, connection) {
                let flags = Flags { present: false, flipped, explicit: *explicit };
                instant.tell(conversation, author.clone(), flags);
                self.forget(connection, conversation);
            }
        }
    }

    /// Takes a connection out of everything: its lease ended.
    pub fn end(&mut self, connection: &ConnectionId, instant: Instant<'_>) {
        let Some(Guest { author, rooms }) = self.guests.remove(connection) else { return };
        for conversation in &rooms {
            if let Some(flipped) = self.remove(conversation, &author.id, connection) {
                instant.tell(
                    conversation,
                    author.clone(),
                    Flags { present: false, flipped, explicit: false },
                );
            }
        }
    }

    /// Takes users out of a conversation.
    pub fn evict(&mut self, evicted: &Evicted, instant: Instant<'_>) {
        let Evicted { conversation, users } = evicted;
        let Some(room) = self.rooms.get_mut(conversation) else { return };
        let gone: Vec<Entries> = match users {
            Some(users) => users.iter().filter_map(|user| room.remove(user)).collect(),
            None => std::mem::take(room).into_values().collect(),
        };
        if room.is_empty() {
            self.rooms.remove(conversation);
        }
        for entries in gone {
            let last = entries.keys().next_back();
            let author = last.and_then(|last| self.guests.get(last)).map(|guest| guest.author.clone());
            if let Some(author) = author {
                let flags = Flags { present: false, flipped: true, explicit: false };
                instant.tell(conversation, author, flags);
            }
            for connection in entries.keys() {
                self.forget(connection, conversation);
            }
        }
    }

    /// Removes one entry: whether it was the user's last one; `None` when there was none.
    fn remove(
        &mut self,
        conversation: &ConversationId,
        user: &UserId,
        connection: &ConnectionId,
    ) -> Option<bool> {
        let room = self.rooms.get_mut(conversation)?;
        let entries = room.get_mut(user)?;
        entries.remove(connection)?;
        let flipped = entries.is_empty();
        if flipped {
            room.remove(user);
        }
        if room.is_empty() {
            self.rooms.remove(conversation);
        }
        Some(flipped)
    }

    /// Forgets on the connection's side that it is in a conversation.
    fn forget(&mut self, connection: &ConnectionId, conversation: &ConversationId) {
        let Some(guest) = self.guests.get_mut(connection) else { return };
        guest.rooms.remove(conversation);
        if guest.rooms.is_empty() {
            self.guests.remove(connection);
        }
    }

    fn present(&self, conversation: &ConversationId) -> Vec<UserId> {
        self.rooms.get(conversation).map(|room| room.keys().cloned().collect()).unwrap_or_default()
    }
}

#[async_trait]
impl Rooms for Node {
    async fn enter(&self, entering: Entering) -> Result<(), Fault> {
        let mut leases = self.engine.leases.lock();
        let instant = Instant { now: self.engine.now(), hub: &self.engine.hub };
        if leases.holds(&entering.author.id, &entering.connection) {
            leases.rooms.enter(&entering, instant);
        }
        Ok(())
    }

    async fn leave(&self, leaving: Leaving) -> Result<(), Fault> {
        let mut leases = self.engine.leases.lock();
        let instant = Instant { now: self.engine.now(), hub: &self.engine.hub };
        leases.rooms.leave(&leaving, instant);
        Ok(())
    }

    async fn present(&self, conversation: &ConversationId) -> Result<Vec<UserId>, Fault> {
        Ok(self.engine.leases.lock().rooms.present(conversation))
    }
}
