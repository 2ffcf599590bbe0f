//! Presence told to very many: what happens within a moment is told together, so that a crowd that comes back at once does not
//! cost a write for each of them to each of them.
//!
//! Must not know: why somebody is told. Owns: how long that waits.

use std::collections::BTreeMap;

use parlance_hub::{Announce, Hub, Listener, Share};
use parlance_model::{Event, Topic, UserId};
use rustc_hash::FxHashSet;

use super::deliver::count;
use crate::node::Node;

/// A room with so many is told together.
const CROWD: usize = 500;
/// So many at once at most: a piece has to fit into everybody's outbox beside what else waits there.
const MOST: usize = 256;

/// What waits to be told to everybody's listeners, by when they hear of presence.
#[derive(Debug, Default)]
pub(super) struct Crowd(BTreeMap<Announce, Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    events: Vec<Event>,
    users: FxHashSet<UserId>,
}

impl Crowd {
    /// Keeps an event about a user for the next [`Self::tell`], where there are very many to tell; else it comes back. What
    /// follows something that waits waits behind it.
    pub(super) fn keep(&mut self, hub: &Hub, policy: Announce, user: &UserId, event: Event) -> Option<Event> {
        let crowded = || hub.count(&Topic::PresenceAll) >= CROWD;
        if !self.0.contains_key(&policy) && !crowded() {
            return Some(event);
        }
        let waiting = self.0.entry(policy).or_default();
        waiting.events.push(event);
        waiting.users.insert(user.clone());
        None
    }

    /// Whether no more may wait.
    pub(super) fn is_full(&self) -> bool {
        self.0.values().any(|waiting| waiting.events.len() >= MOST)
    }

    /// Tells what waits.
    pub(super) fn tell(&mut self, node: &Node) {
        for (policy, Waiting { events, users }) in std::mem::take(&mut self.0) {
            // Its own user's presence not everybody is told.
            let own = |listener: &Listener| {
                !listener.accent().hears_own_presence() && users.contains(&listener.user)
            };
            let share = |listener: &Listener| match listener.announce == policy {
                false => Share::Nothing,
                true if own(listener) => Share::Some,
                true => Share::All,
            };
            let hears = |listener: &Listener, event: &Event| match event {
                Event::Presence(presence) => presence.user != listener.user,
                _ => true,
            };
            let fanout = node.hub.deliver_together(&Topic::PresenceAll, &events, share, hears);
            count(node, &fanout);
        }
    }
}
