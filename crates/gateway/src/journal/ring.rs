//! The newest of what was noted, in memory of a fixed bound.
//!
//! Owns: forgetting the oldest. Must not know: what is noted.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// The newest notes, oldest first.
pub(super) struct Ring<T> {
    notes: Mutex<VecDeque<T>>,
    most: usize,
}

impl<T> Ring<T> {
    /// Keeps so many; 0: none. Room is taken as it is needed.
    pub fn new(most: usize) -> Self {
        Self { notes: Mutex::default(), most }
    }

    /// Notes one more, with what else is to be done with the notes.
    pub fn push(&self, note: T) {
        if self.most == 0 {
            return;
        }
        let mut notes = self.notes.lock();
        // What is forgotten is freed after the lock.
        let _oldest = if notes.len() >= self.most { notes.pop_front() } else { None };
        notes.push_back(note);
        drop(notes);
    }

    /// The newest notes that fit, oldest first; `limit` at most.
    pub fn pick<U>(&self, limit: usize, fits: impl FnMut(&T) -> Option<U>) -> Vec<U> {
        let notes = self.notes.lock();
        let mut picked: Vec<U> = notes.iter().rev().filter_map(fits).take(limit).collect();
        drop(notes);
        picked.reverse();
        picked
    }

    /// Goes over the newest notes, newest first, until `more` says that it is enough.
    pub fn touch_newest(&self, mut more: impl FnMut(&mut T) -> bool) {
        for note in self.notes.lock().iter_mut().rev() {
            if !more(note) {
                break;
            }
        }
    }

    /// Something of the oldest note.
    pub fn oldest<U>(&self, of: impl FnOnce(&T) -> U) -> Option<U> {
        self.notes.lock().front().map(of)
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        self.notes.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten() {
        let ring = Ring::new(3);
        (0..5).for_each(|n| ring.push(n));
        assert_eq!(ring.pick(9, |n| Some(*n)), [2, 3, 4]);
        assert_eq!(ring.pick(2, |n| Some(*n)), [3, 4]);
        assert_eq!((ring.oldest(|n| *n), ring.len()), (Some(2), 3));
    }

    #[test]
    fn without_room_nothing_is_noted() {
        let ring = Ring::new(0);
        ring.push(1);
        assert_eq!(ring.len(), 0);
    }
}
