//! One event's encodings, made on first need, at most once per accent.

use parlance_model::Event;
use parlance_wire::{Accent, Encoded, encode};

/// Encodes an event at most once per accent.
pub struct Memo<'a> {
    event: &'a Event,
    slots: [Option<Option<Encoded>>; Accent::COUNT],
}

impl<'a> Memo<'a> {
    /// A memo of one event.
    pub const fn new(event: &'a Event) -> Self {
        Self { event, slots: [const { None }; Accent::COUNT] }
    }

    /// The event in an accent; `None` where the accent has no word for it.
    pub fn get(&mut self, accent: Accent) -> Option<&Encoded> {
        let event = self.event;
        self.slots.get_mut(accent.index())?.get_or_insert_with(|| encode(accent, event)).as_ref()
    }
}
