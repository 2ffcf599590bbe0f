//! Handing one event to a room: encoded once per accent, pushed to each listener's outbox.

use std::sync::Arc;

use parlance_model::{Event, Topic, UserId};
use rustc_hash::FxHashMap;

use crate::{
    Hub, Memo, Pushed,
    listener::Listener,
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
    /// Hands a log entry's event to those of a room who do not have it yet. A listener whose user has no
    /// integer comes back in `owed`.
    pub fn deliver_entry(&self, entry: &Entry<'_>, to: impl Fn(&Listener) -> bool) -> Fanout {
        let Entry { topic, seq, event, integers } = *entry;
        let mut fanout = Fanout::default();
        let Some(mut room) = self.rooms.get_mut(topic) else { return fanout };
        if seq <= room.last {
            return fanout;
        }
        room.last = seq;
        let Some(event) = event else { return fanout };
        let mut memo = Memo::new(event);
        for seat in room.seats.values() {
            if lacks(seat, seq) && to(&seat.listener) {
                fanout.push(&mut memo, seat, event, integers);
            }
        }
        fanout
    }

    /// Hands an event that is in no log to the live listeners of a room.
    pub fn deliver(&self, topic: &Topic, event: &Event, to: impl Fn(&Listener) -> bool) -> Fanout {
        let mut fanout = Fanout::default();
        let Some(room) = self.rooms.get(topic) else { return fanout };
        let mut memo = Memo::new(event);
        let integers = FxHashMap::default();
        for seat in room.seats.values() {
            if seat.standing != Standing::Reading && to(&seat.listener) {
                fanout.push(&mut memo, seat, event, &integers);
            }
        }
        fanout
    }
}

fn lacks(seat: &Seat, seq: u64) -> bool {
    matches!(seat.standing, Standing::Live { after } if seq > after)
}

impl Fanout {
    fn push<'a>(
        &mut self,
        memo: &mut Memo<'a>,
        seat: &'a Seat,
        event: &Event,
        integers: &FxHashMap<UserId, u64>,
    ) {
        let listener = &seat.listener;
        let own = event.author() == Some(&listener.user);
        let Some(accent) = listener.accent().placed(seat.role, own, event) else { return };
        let Some(piece) = memo.get(accent, &listener.style) else { return };
        let pushed = if piece.is_open() {
            let Some(integer) = integers.get(&listener.user) else {
                self.owed.push(listener.clone());
                return;
            };
            listener.push(&piece.seal(*integer))
        } else if let Event::Receipt(receipt) = event {
            listener.push_receipt(receipt, piece)
        } else {
            listener.push(piece)
        };
        match pushed {
            Pushed::Queued => self.delivered += 1,
            Pushed::Dropped => self.dropped += 1,
            Pushed::Overflow => self.overflowed += 1,
        }
    }
}
