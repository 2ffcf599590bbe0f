//! One event's encodings, made on first need, at most once per accent and style.

use parlance_model::Event;
use parlance_wire::{Accent, Encoded, Style, encode};
use smallvec::SmallVec;

/// Encodes an event at most once per accent and style.
pub struct Memo<'a> {
    event: &'a Event,
    /// Few: a room rarely hears more than a handful of accents.
    made: SmallVec<[(Accent, &'a Style, Option<Encoded>); 4]>,
}

impl<'a> Memo<'a> {
    /// A memo of one event.
    pub fn new(event: &'a Event) -> Self {
        Self { event, made: SmallVec::new() }
    }

    /// The event in an accent and style; `None` where the accent has no word for it.
    pub fn get(&mut self, accent: Accent, style: &'a Style) -> Option<&Encoded> {
        let known = self.made.iter().position(|(a, s, _)| *a == accent && *s == style);
        let index = known.unwrap_or_else(|| {
            self.made.push((accent, style, encode(accent, style, self.event)));
            self.made.len() - 1
        });
        self.made.get(index)?.2.as_ref()
    }
}
