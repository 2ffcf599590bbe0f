//! How far a client has come, for the rig to look at while the load runs.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use super::catchup::Item;

/// What the rig may look at while the load runs.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<State>>);

/// What is looked at.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) pending: BTreeSet<String>,
    pub(super) shown: BTreeMap<String, HashSet<String>>,
    pub(super) connected: bool,
    pub(super) acked: usize,
}

impl Progress {
    /// Looks at it, or changes it.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Messages that are neither acknowledged nor given up.
    pub fn pending(&self) -> usize {
        self.with(|state| state.pending.len())
    }

    /// Messages that were acknowledged.
    pub fn acked(&self) -> usize {
        self.with(|state| state.acked)
    }

    /// Whether the server has let it in.
    pub fn is_connected(&self) -> bool {
        self.with(|state| state.connected)
    }

    /// Whether it has shown all of these.
    pub fn has_shown<'a>(&self, conversation: &str, items: impl IntoIterator<Item = &'a Item>) -> bool {
        self.with(|state| {
            let shown = state.shown.get(conversation);
            items.into_iter().all(|item| shown.is_some_and(|shown| shown.contains(&item.body)))
        })
    }

    /// How many messages it has shown.
    pub fn shown(&self) -> usize {
        self.with(|state| state.shown.values().map(HashSet::len).sum())
    }
}
