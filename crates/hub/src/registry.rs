//! Rooms: which listeners are in which topic, and from which position on each of them is live.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use dashmap::DashMap;
use parking_lot::Mutex;
use parlance_model::{Role, Topic, UserId};
use rustc_hash::FxHashMap;

use crate::listener::{List, Listener};

/// Where a listener stands in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Entered, and still reading the log: gets nothing yet.
    Reading,
    /// Gets every entry after this sequence.
    Live {
        /// The last sequence it has.
        after: u64,
    },
}

#[derive(Debug)]
pub(crate) struct Seat {
    pub listener: Arc<Listener>,
    pub standing: Standing,
    pub role: Role,
    /// The entry that it is still owed: it was not handed to it, nor anything behind it.
    pub owes: Option<u64>,
    /// What stands for the user: most seats are told from the author's without looking at their listeners.
    who: u64,
}

/// What stands for a user; others may have the same.
pub(crate) fn stands_for(user: &UserId) -> u64 {
    rustc_hash::FxBuildHasher.hash_one(user)
}

impl Seat {
    /// Whether it is this user's, for whom that stands.
    pub fn is_of(&self, user: &UserId, who: u64) -> bool {
        self.who == who && self.listener.user == *user
    }

    fn is_sequenced(&self) -> bool {
        self.listener.accent().is_sequenced()
    }
}

#[derive(Debug, Default)]
pub(crate) struct Room {
    pub seats: FxHashMap<u64, Seat>,
    /// How many of them are of accents with integers of each recipient's own; a connection never becomes one, nor ceases to be.
    sequenced: usize,
    /// The last sequence handed to this room.
    pub last: u64,
    /// The conversation's integer id, once known.
    pub number: u32,
}

impl Room {
    fn seat(&mut self, seat: Seat) {
        self.sequenced += usize::from(seat.is_sequenced());
        self.seats.insert(seat.listener.number, seat);
    }

    fn unseat(&mut self, number: u64) -> Option<Seat> {
        let seat = self.seats.remove(&number)?;
        self.sequenced -= usize::from(seat.is_sequenced());
        Some(seat)
    }
}

/// The registry. Guards of its map never leave this crate, and nothing awaits while one is held.
#[derive(Debug, Default)]
pub struct Hub {
    pub(crate) rooms: DashMap<Topic, Room, rustc_hash::FxBuildHasher>,
    /// Outboxes that something was delivered to, and that are to be written.
    pub(crate) listed: Mutex<List>,
}

impl Hub {
    /// An empty registry.
    pub fn new() -> Self {
        Self::default()
    }

    /// Enters a room without hearing anything yet. `false` when the listener was there already; its role stays.
    pub fn enter(&self, topic: &Topic, listener: &Arc<Listener>, role: Role) -> bool {
        let mut room = self.rooms.entry(topic.clone()).or_default();
        if room.seats.contains_key(&listener.number) {
            return false;
        }
        let who = stands_for(&listener.user);
        room.seat(Seat { listener: listener.clone(), standing: Standing::Reading, role, owes: None, who });
        true
    }

    /// Changes how a listener hears a room, from the next event on. Returns the role before; `None` when it is
    /// not in the room.
    pub fn set_role(&self, topic: &Topic, number: u64, role: Role) -> Option<Role> {
        let mut room = self.rooms.get_mut(topic)?;
        let seat = room.seats.get_mut(&number)?;
        Some(std::mem::replace(&mut seat.role, role))
    }

    /// How a listener hears a room; `None` when it is not in it.
    pub fn role(&self, topic: &Topic, number: u64) -> Option<Role> {
        self.rooms.get(topic)?.seats.get(&number).map(|seat| seat.role)
    }

    /// The sequence after which a live listener began to hear a room; `None` while it still reads.
    pub fn began(&self, topic: &Topic, number: u64) -> Option<u64> {
        match self.rooms.get(topic)?.seats.get(&number)?.standing {
            Standing::Live { after } => Some(after),
            Standing::Reading => None,
        }
    }

    /// Goes live for a listener that has everything up to `position`: it then hears every entry after it,
    /// exactly once. Fails with the room's last sequence when the room is further: read the log up to there
    /// and try again. A listener that left meanwhile is fine.
    ///
    /// # Errors
    /// The sequence that was handed to the room last.
    pub fn go_live(&self, topic: &Topic, number: u64, position: u64) -> Result<(), u64> {
        let Some(mut room) = self.rooms.get_mut(topic) else { return Ok(()) };
        let last = room.last;
        // Whoever was evicted meanwhile has nothing more to read.
        let Some(seat) = room.seats.get_mut(&number) else { return Ok(()) };
        if last > position {
            return Err(last);
        }
        seat.standing = Standing::Live { after: position };
        Ok(())
    }

    /// Goes live from wherever the room stands.
    pub fn go_live_now(&self, topic: &Topic, number: u64) {
        if let Some(mut room) = self.rooms.get_mut(topic) {
            let after = room.last;
            if let Some(seat) = room.seats.get_mut(&number) {
                seat.standing = Standing::Live { after };
            }
        }
    }

    /// Leaves a room.
    pub fn leave(&self, topic: &Topic, number: u64) {
        if let Some(mut room) = self.rooms.get_mut(topic) {
            room.unseat(number);
        }
    }

    /// Removes all of a user's listeners from a room and returns them.
    pub fn evict(&self, topic: &Topic, user: &UserId) -> Vec<Arc<Listener>> {
        let Some(mut room) = self.rooms.get_mut(topic) else { return Vec::new() };
        let gone: Vec<u64> =
            room.seats.values().filter(|s| s.listener.user == *user).map(|s| s.listener.number).collect();
        gone.into_iter().filter_map(|number| room.unseat(number)).map(|s| s.listener).collect()
    }

    /// Everybody in a room.
    pub fn listeners(&self, topic: &Topic) -> Vec<Arc<Listener>> {
        self.rooms
            .get(topic)
            .map(|room| room.seats.values().map(|s| s.listener.clone()).collect())
            .unwrap_or_default()
    }

    /// How many are in a room, and the numbers of some.
    pub fn glance(&self, topic: &Topic, some: usize) -> (usize, Vec<u64>) {
        let Some(room) = self.rooms.get(topic) else { return (0, Vec::new()) };
        (room.seats.len(), room.seats.keys().take(some).copied().collect())
    }

    /// Whether anybody is in a room.
    pub fn has_listeners(&self, topic: &Topic) -> bool {
        self.rooms.get(topic).is_some_and(|room| !room.seats.is_empty())
    }

    /// Whether a listener has entered a room and hears nothing yet.
    pub fn is_reading(&self, topic: &Topic, number: u64) -> bool {
        let Some(room) = self.rooms.get(topic) else { return false };
        room.seats.get(&number).is_some_and(|seat| seat.standing == Standing::Reading)
    }

    /// The last sequence handed to a room.
    pub fn last(&self, topic: &Topic) -> u64 {
        self.rooms.get(topic).map_or(0, |room| room.last)
    }

    /// Whether a listener is in a room.
    pub fn is_in(&self, topic: &Topic, number: u64) -> bool {
        self.rooms.get(topic).is_some_and(|room| room.seats.contains_key(&number))
    }

    /// The sequence up to which a live listener was handed a room's entries; `None` while it still reads.
    pub fn position(&self, topic: &Topic, number: u64) -> Option<u64> {
        let room = self.rooms.get(topic)?;
        let seat = room.seats.get(&number)?;
        let last = seat.owes.map_or(room.last, |owed| owed.saturating_sub(1));
        match seat.standing {
            Standing::Live { after } => Some(after.max(last)),
            Standing::Reading => None,
        }
    }

    /// What [`Fanout::owed`](crate::Fanout::owed) named was handed to a listener.
    pub fn settled(&self, topic: &Topic, number: u64) {
        if let Some(mut room) = self.rooms.get_mut(topic)
            && let Some(seat) = room.seats.get_mut(&number)
        {
            seat.owes = None;
        }
    }

    /// Users with a live listener in a room whose accent gives each of them an integer of their own. Those who
    /// still read are left out: what they read comes first, so it must get the smaller integers.
    pub fn sequenced_users(&self, topic: &Topic) -> Vec<UserId> {
        // Most rooms have none: nobody's listener is looked at then.
        let Some(room) = self.rooms.get(topic).filter(|room| room.sequenced > 0) else { return Vec::new() };
        let mut users: Vec<UserId> = room
            .seats
            .values()
            .filter(|s| s.standing != Standing::Reading && s.is_sequenced())
            .map(|s| s.listener.user.clone())
            .collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// Sets where a room stands when its feed opens.
    pub fn set_last(&self, topic: &Topic, seq: u64) {
        let mut room = self.rooms.entry(topic.clone()).or_default();
        room.last = room.last.max(seq);
    }

    /// Notes a conversation's integer id.
    pub fn set_number(&self, topic: &Topic, number: u32) {
        self.rooms.entry(topic.clone()).or_default().number = number;
    }

    /// The conversation's integer id; 0 while it is not known.
    pub fn number(&self, topic: &Topic) -> u32 {
        self.rooms.get(topic).map_or(0, |room| room.number)
    }

    /// Forgets a room if nobody is in it. `true` when it is gone.
    pub fn close_if_empty(&self, topic: &Topic) -> bool {
        self.rooms.remove_if(topic, |_, room| room.seats.is_empty());
        !self.rooms.contains_key(topic)
    }

    /// Gives back the room of rooms that are gone.
    pub fn shrink(&self) {
        self.rooms.shrink_to_fit();
    }

    /// Rooms that exist.
    pub fn rooms(&self) -> usize {
        self.rooms.len()
    }
}
