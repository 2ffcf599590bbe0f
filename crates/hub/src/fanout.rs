//! Handing one event to a room: encoded once per accent, queued for each listener; and then writing, once for all that
//! was queued.
//!
//! Owns: who of a room gets what, and which outboxes are to be written. Must not know: sockets, tasks.

use std::sync::Arc;

use parlance_model::{Event, Topic, UserId};
use rustc_hash::FxHashMap;

use crate::{
    Hub, Memo, Outbox, Pushed,
    listener::{List, Listener},
    registry::{Seat, Standing},
};

/// What came of handing an event to a room.
#[derive(Debug, Default)]
pub struct Fanout {
    /// Queued to so many listeners.
    pub delivered: usize,
    /// Dropped at so many full outboxes (passing events).
    pub dropped: usize,
    /// So many listeners were too slow and are being closed.
    pub overflowed: usize,
    /// Listeners whose user needs an integer that was not given (they went live meanwhile): still owed.
    pub owed: Vec<Arc<Listener>>,
}

/// A log entry for a room.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Which room.
    pub topic: &'a Topic,
    /// Its sequence.
    pub seq: u64,
    /// What it is told as; `None` moves the room on without a word.
    pub event: Option<&'a Event>,
    /// The integer of each user in [`Hub::sequenced_users`].
    pub integers: &'a FxHashMap<UserId, u64>,
}

impl Hub {
    /// The outboxes that something was delivered to since this was asked last, each once: [`Outbox::deliver`] writes them.
    /// To be asked after everything that there was to deliver, so that each connection is written to once.
    pub fn take_listed(&self) -> Vec<Arc<Outbox>> {
        std::mem::take(&mut *self.listed.lock())
    }

    /// Hands a log entry's event to those of a room who do not have it yet; [`Self::take_listed`] follows. A listener whose
    /// user has no integer comes back in `owed`.
    pub fn deliver_entry(&self, entry: &Entry<'_>, to: impl Fn(&Listener) -> bool) -> Fanout {
        let Entry { topic, seq, event, integers } = *entry;
        let mut fanout = Fanout::default();
        let Some(mut room) = self.rooms.get_mut(topic) else { return fanout };
        if seq <= room.last {
            return fanout;
        }
        room.last = seq;
        let Some(event) = event else { return fanout };
        let mut told = Told { memo: Memo::new(event), event, integers, list: List::new() };
        for seat in room.seats.values() {
            if lacks(seat, seq) && to(&seat.listener) {
                fanout.push(&mut told, seat);
            }
        }
        self.list(told.list);
        fanout
    }

    /// Hands an event that is in no log to the live listeners of a room; [`Self::take_listed`] follows.
    pub fn deliver(&self, topic: &Topic, event: &Event, to: impl Fn(&Listener) -> bool) -> Fanout {
        let mut fanout = Fanout::default();
        let Some(room) = self.rooms.get(topic) else { return fanout };
        let integers = FxHashMap::default();
        let mut told = Told { memo: Memo::new(event), event, integers: &integers, list: List::new() };
        for seat in room.seats.values() {
            if seat.standing != Standing::Reading && to(&seat.listener) {
                fanout.push(&mut told, seat);
            }
        }
        self.list(told.list);
        fanout
    }

    fn list(&self, mut list: List) {
        let mut listed = self.listed.lock();
        if listed.is_empty() {
            *listed = list;
        } else {
            listed.append(&mut list);
        }
    }
}

/// What a room is told.
struct Told<'a> {
    memo: Memo<'a>,
    event: &'a Event,
    integers: &'a FxHashMap<UserId, u64>,
    list: List,
}

fn lacks(seat: &Seat, seq: u64) -> bool {
    matches!(seat.standing, Standing::Live { after } if seq > after)
}

impl Fanout {
    fn push<'a>(&mut self, told: &mut Told<'a>, seat: &'a Seat) {
        let Told { memo, event, integers, list } = told;
        let listener = &seat.listener;
        let own = event.author() == Some(&listener.user);
        let Some(accent) = listener.accent().placed(seat.role, own, event) else { return };
        let Some(piece) = memo.get(accent, &listener.style) else { return };
        let pushed = if piece.is_open() {
            let Some(integer) = integers.get(&listener.user) else {
                self.owed.push(listener.clone());
                return;
            };
            listener.push_listed(&piece.seal(*integer), list)
        } else {
            listener.tell(event, piece, list)
        };
        match pushed {
            Pushed::Queued => self.delivered += 1,
            Pushed::Dropped => self.dropped += 1,
            Pushed::Overflow => self.overflowed += 1,
        }
    }
}
