//! Handing one event to a room: encoded once per accent, queued for each listener; and then writing, once for all that
//! was queued.
//!
//! Owns: who of a room gets what, and which outboxes are to be written. Must not know: sockets, tasks.

use std::sync::Arc;

use parlance_model::{Event, Topic, UserId};
use parlance_wire::Dialect;
use rustc_hash::FxHashMap;

use crate::{
    Hub, Memo, Outbox, Pushed,
    listener::{List, Listener},
    registry::{Seat, Standing, stands_for},
};

/// What came of handing an event to the listeners of one dialect.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Queued to so many listeners.
    pub delivered: usize,
    /// Dropped at so many full outboxes (passing events).
    pub dropped: usize,
}

/// Connections that are noted of those an event was queued to.
pub const NOTED: usize = 16;

/// Some of those whom an event was queued to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reached {
    first: [u64; NOTED],
    noted: u8,
}

impl Reached {
    /// The numbers of the first of them.
    pub fn named(&self) -> &[u64] {
        self.first.get(..usize::from(self.noted)).unwrap_or_default()
    }

    fn note(&mut self, listener: &Listener) {
        if let Some(place) = self.first.get_mut(usize::from(self.noted)) {
            *place = listener.number;
            self.noted += 1;
        }
    }
}

/// What came of handing an event to a room.
#[derive(Debug, Default)]
pub struct Fanout {
    /// In the order of [`Dialect::ALL`].
    pub heard: [Heard; Dialect::ALL.len()],
    /// So many listeners were too slow and are being closed; each counts again with what it is told meanwhile.
    pub overflowed: usize,
    /// Listeners whose user needs an integer that was not given (they went live meanwhile): still owed, until
    /// [`Hub::settled`].
    pub owed: Vec<Arc<Listener>>,
    /// Some of those it was queued to, for whoever asks afterwards.
    pub reached: Reached,
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
    /// user has no integer comes back in `owed`. `to` is told whether the event is the listener's own.
    pub fn deliver_entry(&self, entry: &Entry<'_>, to: impl Fn(&Listener, bool) -> bool) -> Fanout {
        let Entry { topic, seq, event, integers } = *entry;
        let mut fanout = Fanout::default();
        let Some(mut room) = self.rooms.get_mut(topic) else { return fanout };
        if seq <= room.last {
            return fanout;
        }
        room.last = seq;
        let Some(event) = event else { return fanout };
        let list = {
            let mut told = Told::new(event, integers);
            for seat in room.seats.values().filter(|seat| lacks(seat, seq)) {
                let own = told.is_of(seat);
                if to(&seat.listener, own) {
                    fanout.push(&mut told, seat, own);
                }
            }
            told.list
        };
        for listener in &fanout.owed {
            if let Some(seat) = room.seats.get_mut(&listener.number) {
                seat.owes = Some(seq);
            }
        }
        self.list(list);
        fanout
    }

    /// Hands an event that is in no log to the live listeners of a room; [`Self::take_listed`] follows.
    pub fn deliver(&self, topic: &Topic, event: &Event, to: impl Fn(&Listener) -> bool) -> Fanout {
        let mut fanout = Fanout::default();
        let Some(room) = self.rooms.get(topic) else { return fanout };
        let integers = FxHashMap::default();
        let mut told = Told::new(event, &integers);
        for seat in room.seats.values() {
            if seat.standing != Standing::Reading && to(&seat.listener) {
                let own = told.is_of(seat);
                fanout.push(&mut told, seat, own);
            }
        }
        self.list(told.list);
        fanout
    }

    pub(crate) fn list(&self, mut list: List) {
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
    /// Who did it, and what stands for that user.
    author: Option<(&'a UserId, u64)>,
    integers: &'a FxHashMap<UserId, u64>,
    list: List,
}

impl<'a> Told<'a> {
    fn new(event: &'a Event, integers: &'a FxHashMap<UserId, u64>) -> Self {
        let author = event.author().map(|author| (author, stands_for(author)));
        Self { memo: Memo::new(event), event, author, integers, list: List::new() }
    }

    fn is_of(&self, seat: &Seat) -> bool {
        self.author.is_some_and(|(author, who)| seat.is_of(author, who))
    }
}

fn lacks(seat: &Seat, seq: u64) -> bool {
    matches!(seat.standing, Standing::Live { after } if seq > after)
}

impl Fanout {
    /// One of [`Self::owed`] was given what it was owed.
    pub fn paid(&mut self, listener: &Listener) {
        self.count(listener, Pushed::Queued, 1);
    }

    fn push<'a>(&mut self, told: &mut Told<'a>, seat: &'a Seat, own: bool) {
        let Told { memo, event, integers, list, .. } = told;
        let listener = &seat.listener;
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
        self.count(listener, pushed, 1);
    }

    /// Queued to so many listeners.
    pub fn delivered(&self) -> usize {
        self.heard.iter().map(|heard| heard.delivered).sum()
    }

    /// Dropped at so many full outboxes.
    pub fn dropped(&self) -> usize {
        self.heard.iter().map(|heard| heard.dropped).sum()
    }

    /// Counts a piece of so many events.
    pub(crate) fn count(&mut self, listener: &Listener, pushed: Pushed, events: usize) {
        let Some(heard) = self.heard.get_mut(listener.accent().dialect() as usize) else { return };
        match pushed {
            Pushed::Queued => {
                heard.delivered += events;
                self.reached.note(listener);
            }
            Pushed::Dropped => heard.dropped += events,
            Pushed::Overflow => self.overflowed += 1,
        }
    }
}
