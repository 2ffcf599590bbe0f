//! Telling a large room many passing events at once: encoded together once per accent, one piece for each listener.
//!
//! Owns: who gets the piece that is the same for nearly everybody. Must not know: what the events mean.

use parlance_model::{Event, Role, Topic};
use parlance_wire::{Accent, Class, Encoded, Style, encode};
use smallvec::SmallVec;

use crate::listener::List;
use crate::registry::{Seat, Standing};
use crate::{Fanout, Hub, Listener};

/// What of several events a listener is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All of them.
    All,
    /// None.
    Nothing,
    /// Some: it is asked of each.
    Some,
}

/// What a crowd is told.
struct Told<'a> {
    events: &'a [Event],
    /// Few: a room rarely hears more than a handful of accents.
    made: SmallVec<[(Accent, &'a Style, Role, Made); 2]>,
}

/// In an accent and style: one by one where the accent has a word, and together where that is one piece.
struct Made {
    each: Vec<Option<Encoded>>,
    /// With how many events are in it.
    together: Option<(Encoded, usize)>,
}

impl<'a> Told<'a> {
    fn get(&mut self, seat: &'a Seat) -> Option<&Made> {
        let (accent, style, role) = (seat.listener.accent(), &seat.listener.style, seat.role);
        let known = self.made.iter().position(|(a, s, r, _)| (*a, *r) == (accent, role) && *s == style);
        let index = known.unwrap_or_else(|| {
            let placed = |event: &Event| encode(accent.placed(role, false, event)?, style, event);
            self.made.push((accent, style, role, Made::of(self.events, placed)));
            self.made.len() - 1
        });
        self.made.get(index).map(|(.., made)| made)
    }
}

impl Made {
    fn of(events: &[Event], encoded: impl Fn(&Event) -> Option<Encoded>) -> Self {
        let each: Vec<_> = events.iter().map(encoded).collect();
        let said: Vec<Encoded> = each.iter().flatten().cloned().collect();
        let together = Encoded::together(&said, Class::Passing).filter(|_| !said.is_empty());
        Self { each, together: together.map(|piece| (piece, said.len())) }
    }
}

impl Hub {
    /// How many are in a room.
    pub fn count(&self, topic: &Topic) -> usize {
        self.rooms.get(topic).map_or(0, |room| room.seats.len())
    }

    /// Hands passing events that are in no log and nobody's own to the live listeners of a room, to most of them as one piece.
    /// [`Self::take_listed`] follows.
    pub fn deliver_together(
        &self,
        topic: &Topic,
        events: &[Event],
        share: impl Fn(&Listener) -> Share,
        hears: impl Fn(&Listener, &Event) -> bool,
    ) -> Fanout {
        let mut fanout = Fanout::default();
        let Some(room) = self.rooms.get(topic) else { return fanout };
        let (mut told, mut list) = (Told { events, made: SmallVec::new() }, List::new());
        for seat in room.seats.values().filter(|seat| seat.standing != Standing::Reading) {
            let listener = &seat.listener;
            let share = share(listener);
            if share == Share::Nothing {
                continue;
            }
            let Some(made) = told.get(seat) else { continue };
            if let (Share::All, Some((piece, events))) = (share, &made.together) {
                fanout.count(listener, listener.push_listed(piece, &mut list), *events);
                continue;
            }
            for (event, piece) in events.iter().zip(&made.each) {
                let Some(piece) = piece.as_ref().filter(|_| share == Share::All || hears(listener, event))
                else {
                    continue;
                };
                fanout.count(listener, listener.push_listed(piece, &mut list), 1);
            }
        }
        self.list(list);
        fanout
    }
}
