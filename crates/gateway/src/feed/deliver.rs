//! From judged publications to the hub: what an entry does to the node, integers, fan-out.

use std::collections::VecDeque;
use std::time::Duration;

use parlance_backplane::{Outline, RoomChanged};
use parlance_hub::{Announce, Fanout, Listener, Notice};
use parlance_model::{ConversationId, Entry, Event, LogKey, Record, Role, RoomEvent, Topic, UserId};
use parlance_wire::{Dialect, socialhub};
use rustc_hash::FxHashMap;

use super::job::Job;
use crate::config::PresenceScope;
use crate::events;
use crate::failpoints;
use crate::journal::Handed;
use crate::node::Node;
use crate::session::Own;
use crate::trace;

/// Something to hand to the hub.
pub(super) enum Ready {
    /// A log entry, in order; with a change of members or title, the conversation after it.
    Entry { entry: Entry, event: Option<Event>, change: Option<Box<Outline>> },
    /// An event that is in no log.
    Event { topic: Topic, event: Event, to: To },
}

/// Which listeners of the room.
#[derive(Clone)]
pub(super) enum To {
    /// All but the connection that did it; the user's others too where the dialect tells a user's other
    /// devices.
    Cursor { conversation: ConversationId, user: UserId, seq: u64 },
    /// Those of these users but never of the author; empty = all others. `implied`: only where the dialect
    /// implies subscriptions.
    Among { users: Vec<UserId>, author: UserId, implied: bool },
    /// Only this user's.
    Only(UserId),
    /// Those who hear of presence by this policy; sechat does not hear of its own user.
    Presence { announce: Announce, user: UserId, not: Vec<u64> },
    /// Everybody.
    All,
}

impl To {
    fn includes(&self, listener: &Listener, node: &Node) -> bool {
        match self {
            Self::Cursor { conversation, user, seq } => {
                listener.user != *user
                    || (listener.accent().hears_own_cursor()
                        && !does_itself(node, listener, &Own::Cursor(conversation.clone(), *seq)))
            }
            Self::Among { users, author, implied } => {
                listener.user != *author
                    && (users.is_empty() || users.contains(&listener.user))
                    && (!implied || listener.accent().dialect() == Dialect::Sechat)
            }
            Self::Only(user) => listener.user == *user,
            Self::Presence { announce, user, not } => {
                listener.announce == *announce
                    && (listener.user != *user || listener.accent().hears_own_presence())
                    && !not.contains(&listener.number)
            }
            Self::All => true,
        }
    }
}

/// Whether the connection itself brought it about.
fn does_itself(node: &Node, listener: &Listener, own: &Own) -> bool {
    let link = node.links.get(&listener.number);
    link.is_some_and(|link| link.takes(own))
}

/// Hands an event that is in no log to the hub.
pub(super) fn tell(node: &Node, topic: &Topic, event: &Event, to: &To) {
    let fanout = node.hub.deliver(topic, event, |l| to.includes(l, node));
    count(node, &fanout);
}

pub(super) fn count(node: &Node, fanout: &Fanout) {
    node.metrics.count_fanout(fanout);
}

/// Whoever came into a room or left it.
pub(super) fn room(node: &Node, topic: &Topic, change: RoomChanged) -> Event {
    Event::Room(RoomEvent {
        number: node.hub.number(topic),
        conversation: change.conversation,
        author: change.author,
        present: change.present,
        flipped: change.flipped,
        explicit: change.explicit,
        at: change.at,
    })
}

/// Whoever goes with very many others hears of itself.
fn tell_gone(listener: &Listener, event: &Event) {
    let accent = listener.accent().placed(Role::default(), false, event);
    let piece = accent.and_then(|accent| parlance_wire::encode(accent, &listener.style, event));
    if let Some(piece) = piece.filter(|piece| !piece.is_open()) {
        listener.push(&piece);
    }
}

impl Job {
    /// Hands everything to the hub, in order. Integers for sequenced accents are assigned in one call first. `None`: the
    /// node halts.
    pub(super) async fn flush(&mut self) -> Option<()> {
        let ready = std::mem::take(&mut self.ready);
        let (begun, count) = (self.node.brakes.uptime(), ready.len());
        let mut integers = self.integers(&ready).await?;
        let nobodys = FxHashMap::default();
        for item in ready {
            match item {
                Ready::Entry { entry, event, change } => {
                    let own = integers.pop_front_if(|(seq, _)| *seq == entry.seq);
                    let own = own.as_ref().map_or(&nobodys, |(_, own)| own);
                    self.deliver_entry(&entry, event.as_ref(), own).await?;
                    self.apply(&entry, change.as_deref());
                }
                Ready::Event { topic, event, to } => tell(&self.node, &topic, &event, &to),
            }
        }
        self.note(begun, count);
        Some(())
    }

    /// Notes how long that took, and how late what came just now is.
    fn note(&mut self, begun: Duration, count: usize) {
        let came = self.came.take();
        let (Topic::Conversation(id), true) = (&self.topic, count > 0) else { return };
        let now = self.node.brakes.uptime();
        self.track.each = now.saturating_sub(begun) / u32::try_from(count).unwrap_or(u32::MAX);
        if let Some(came) = came {
            let late = self.track.lag.note(now, came);
            self.node.brakes.delivered(id, late, self.track.each);
        }
    }

    /// For each entry that has any, the integer of each user who hears it in a sequenced accent, in order.
    async fn integers(&self, ready: &[Ready]) -> Option<VecDeque<(u64, FxHashMap<UserId, u64>)>> {
        let numbered = |item: &Ready| match item {
            Ready::Entry { entry, event: Some(event), .. } => {
                socialhub::is_numbered(event).then_some(entry.seq)
            }
            _ => None,
        };
        let seqs: Vec<u64> = ready.iter().filter_map(numbered).collect();
        let users = if seqs.is_empty() { Vec::new() } else { self.node.hub.sequenced_users(&self.topic) };
        let Some(key) = self.track.key.as_ref().filter(|_| !users.is_empty()) else {
            return Some(VecDeque::new());
        };
        let mut pointers = Vec::with_capacity(seqs.len() * users.len());
        for seq in &seqs {
            pointers.extend(users.iter().map(|user| (user.clone(), key.clone(), *seq)));
        }
        failpoints::linger("assigning", seqs.len()).await;
        let assigned = self.assign(&pointers).await?;
        let of_each = assigned
            .chunks(users.len())
            .map(|integers| users.iter().cloned().zip(integers.iter().copied()).collect());
        Some(seqs.into_iter().zip(of_each).collect())
    }

    /// Assigns integers, trying again until the backplane does it: an event must not be shown without its
    /// integer, nor passed over.
    async fn assign(&self, pointers: &[(UserId, LogKey, u64)]) -> Option<Vec<u64>> {
        if pointers.is_empty() {
            return Some(Vec::new());
        }
        self.insist("assigning integers", || self.node.backplane.sequences.assign(pointers)).await
    }

    async fn deliver_entry(
        &self,
        entry: &Entry,
        event: Option<&Event>,
        integers: &FxHashMap<UserId, u64>,
    ) -> Option<()> {
        let topic = &self.topic;
        // Whoever did it knows.
        let hears = |l: &Listener, own: bool| match (&entry.record, topic) {
            (Record::Message(message), Topic::Conversation(id)) if own => {
                let sent = message.client_id.clone().map(|client_id| Own::Send(id.clone(), client_id));
                !sent.is_some_and(|own| does_itself(&self.node, l, &own))
            }
            (Record::NotificationRead { id }, _) => !does_itself(&self.node, l, &Own::Read(id.clone())),
            _ => true,
        };
        let told = parlance_hub::Entry { topic, seq: entry.seq, event, integers };
        let mut fanout = self.node.hub.deliver_entry(&told, hears);
        count(&self.node, &fanout);
        self.node.metrics.delivery.told(entry.at, &fanout);
        for listener in std::mem::take(&mut fanout.owed) {
            let Some(key) = LogKey::of_topic(topic) else { continue };
            let own = self.assign(&[(listener.user.clone(), key, entry.seq)]).await?;
            let piece = event.and_then(|e| parlance_wire::encode(listener.accent(), &listener.style, e));
            if let (Some(integer), Some(piece)) = (own.first(), piece) {
                listener.push(&piece.seal(*integer));
                fanout.paid(&listener);
            }
            self.node.hub.settled(topic, listener.number);
        }
        self.remember(entry, &fanout);
        trace::delivered(&self.node, entry, &fanout, self.mark);
        Some(())
    }

    /// For whoever asks afterwards: what people sent, one note for all who heard it.
    fn remember(&self, entry: &Entry, fanout: &Fanout) {
        let asked = matches!(entry.record, Record::Message(_) | Record::Reaction { .. } | Record::App { .. });
        if let (Some(key), true) = (&self.track.key, asked) {
            let (seq, heard, told) = (entry.seq, self.heard, self.node.clock.now());
            self.node.journal.handed(&Handed { key, seq, heard, told, fanout });
        }
    }

    /// What an entry does to this node, after it was told.
    fn apply(&self, entry: &Entry, change: Option<&Outline>) {
        let topic = &self.topic;
        match (&entry.record, topic) {
            (Record::Members { removed, .. }, Topic::Conversation(id)) => {
                // Where there are many nobody is a contact for that.
                if events::has_newcomers(entry) && change.is_none_or(|outline| !outline.many) {
                    self.tell_contacts(topic, id, entry.seq);
                }
                for user in removed {
                    for listener in self.node.hub.evict(topic, user) {
                        if let Some(outline) =
                            change.filter(|outline| !events::is_told_by_name(outline, entry))
                        {
                            tell_gone(&listener, &events::of_departure(outline, entry, user));
                        }
                        listener.notify(Notice::Removed(id.clone()));
                    }
                }
            }
            (Record::Deleted, Topic::Conversation(_)) => self.node.evict_all(topic),
            (Record::Invited { conversation, since }, Topic::User(_)) => {
                for listener in self.node.hub.listeners(topic) {
                    listener.notify(Notice::Invited { conversation: conversation.clone(), since: *since });
                }
            }
            _ => {}
        }
    }

    /// Whoever hears of contacts only has new ones.
    fn tell_contacts(&self, topic: &Topic, id: &ConversationId, since: u64) {
        for listener in self.node.hub.listeners(topic) {
            let scope = self.node.links.get(&listener.number).map(|l| l.mount.presence_scope);
            if scope == Some(PresenceScope::Contacts) {
                listener.notify(Notice::Invited { conversation: id.clone(), since });
            }
        }
    }
}
