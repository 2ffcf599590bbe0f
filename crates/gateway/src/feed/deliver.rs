//! From judged publications to the hub: gap repair, what an entry does to the node, integers, fan-out.

use parlance_backplane::{Range, RoomChanged, Signal};
use parlance_hub::{Announce, Fanout, Listener, Notice};
use parlance_model::{
    ConversationId, Entry, Event, LogKey, MessageRef, Record, Resync, RoomEvent, Topic, UserId,
};
use parlance_wire::Dialect;
use rustc_hash::FxHashMap;

use super::{Feed, track::Judgement};
use crate::config::PresenceScope;
use crate::events;
use crate::node::Node;
use crate::session::Own;

/// Entries read at once when a gap is filled.
const REPAIR_PAGE: usize = 500;

/// Something to hand to the hub.
pub(super) enum Ready {
    /// A log entry, in order.
    Entry { topic: Topic, entry: Entry, event: Option<Event> },
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

impl Feed {
    pub(super) async fn judge(&mut self, topic: &Topic, entry: Entry, ready: &mut Vec<Ready>) {
        let Some(track) = self.open.get_mut(topic) else { return };
        match track.judge(&entry) {
            Judgement::Drop => {}
            Judgement::Deliver => self.accept(topic, entry, ready).await,
            Judgement::Gap => {
                self.node.metrics.feed_gaps.inc();
                self.repair(topic, ready).await;
            }
        }
    }

    /// Reads everything after the topic's position from the log. What cannot be read any more is told.
    pub(super) async fn repair(&mut self, topic: &Topic, ready: &mut Vec<Ready>) {
        loop {
            let Some((key, after, epoch)) =
                self.open.get(topic).and_then(|t| Some((t.key.clone()?, t.seq, t.epoch)))
            else {
                return;
            };
            let range = Range::After { seq: after, limit: REPAIR_PAGE };
            let page = match self.node.backplane.log.range(&key, range).await {
                Ok(page) => page,
                Err(fault) => {
                    // The next publication or head check comes here again.
                    tracing::warn!(%fault, ?topic, "gap repair");
                    return;
                }
            };
            self.node.metrics.feed_repairs.inc();
            let lost_to = page.first.saturating_sub(1);
            let number = if page.epoch == epoch { None } else { self.number_of(&key).await };
            if let Some(track) = self.open.get_mut(topic) {
                track.epoch = page.epoch;
                track.number = number.unwrap_or(track.number);
                self.node.hub.set_number(topic, track.number);
            }
            // With the number that it has from here on.
            if (lost_to > after || page.epoch != epoch) && page.head > after {
                self.tell_lost(topic, &key, (after + 1, lost_to.max(after + 1)), ready);
            }
            let more = page.more && !page.entries.is_empty();
            for entry in page.entries {
                self.accept(topic, entry, ready).await;
            }
            if !more {
                return;
            }
        }
    }

    /// The integer id of a conversation: another one after it was deleted and created again.
    async fn number_of(&self, key: &LogKey) -> Option<u32> {
        let LogKey::Conversation(id) = key else { return None };
        self.node.backplane.conversations.get(id).await.ok().flatten().map(|c| c.number())
    }

    fn tell_lost(&self, topic: &Topic, key: &LogKey, range: (u64, u64), ready: &mut Vec<Ready>) {
        if let LogKey::Conversation(id) = key {
            let event = Event::Resync(Resync {
                conversation: id.clone(),
                number: self.node.hub.number(topic),
                from: range.0,
                to: range.1,
                at: self.node.clock.now(),
            });
            ready.push(Ready::Event { topic: topic.clone(), event, to: To::All });
        }
    }

    /// Takes the next entry of a topic.
    async fn accept(&mut self, topic: &Topic, entry: Entry, ready: &mut Vec<Ready>) {
        let Some(track) = self.open.get_mut(topic) else { return };
        track.advance(&entry);
        let Some(key) = track.key.clone() else { return };
        let number = track.number;
        let event = match (&key, &entry.record) {
            (LogKey::Conversation(id), Record::Members { .. } | Record::Title { .. }) => {
                match self.node.backplane.conversations.get(id).await {
                    Ok(conversation) => conversation.map(|c| events::of_change(&c, &entry)),
                    Err(fault) => {
                        tracing::warn!(%fault, conversation = %id, "reading a changed conversation");
                        None
                    }
                }
            }
            _ => {
                let message = self.reacted_to(topic, &key, &entry).await;
                events::of_entry(&key, number, &entry, false).map(|e| events::about(e, message.as_ref()))
            }
        };
        ready.push(Ready::Entry { topic: topic.clone(), entry, event });
    }

    /// The message a reaction is to.
    async fn reacted_to(&self, topic: &Topic, key: &LogKey, entry: &Entry) -> Option<MessageRef> {
        let (LogKey::Conversation(id), Some(target)) = (key, events::reacts_to(entry)) else { return None };
        self.messages(topic, id, target.saturating_sub(1), target).await.pop()
    }

    pub(super) async fn heard_signal(&mut self, topic: &Topic, signal: Signal, ready: &mut Vec<Ready>) {
        match signal {
            Signal::Typing(change) => self.heard_typing(topic, change, ready),
            Signal::Disconnect { reason, reconnect } => {
                let code = if reconnect { 1012 } else { 1008 };
                for listener in self.node.hub.listeners(topic) {
                    listener.notify(Notice::Close { code, reason: reason.clone() });
                }
            }
            Signal::Maintenance | Signal::Orders => self.node.orders.look(),
        }
    }

    pub(super) fn heard_room(&self, topic: &Topic, change: RoomChanged, ready: &mut Vec<Ready>) {
        let event = Event::Room(RoomEvent {
            number: self.node.hub.number(topic),
            conversation: change.conversation,
            author: change.author,
            present: change.present,
            flipped: change.flipped,
            explicit: change.explicit,
            at: change.at,
        });
        ready.push(Ready::Event { topic: topic.clone(), event, to: To::All });
    }

    /// Hands everything to the hub, in order. Integers for sequenced accents are assigned in one call first.
    pub(super) async fn deliver(&mut self, ready: Vec<Ready>) {
        let integers = self.integers(&ready).await;
        for (index, item) in ready.into_iter().enumerate() {
            match item {
                Ready::Entry { topic, entry, event } => {
                    let empty = FxHashMap::default();
                    let own = integers.get(&index).unwrap_or(&empty);
                    self.deliver_entry(&topic, &entry, event.as_ref(), own).await;
                }
                Ready::Event { topic, event, to } => {
                    let node = &self.node;
                    let fanout = node.hub.deliver(&topic, &event, |l| to.includes(l, node));
                    self.count(&fanout);
                }
            }
        }
    }

    /// For each entry, the integer of each user who hears it in a sequenced accent.
    async fn integers(&self, ready: &[Ready]) -> FxHashMap<usize, FxHashMap<UserId, u64>> {
        let mut places = Vec::new();
        let mut pointers = Vec::new();
        for (index, item) in ready.iter().enumerate() {
            let Ready::Entry { topic, entry, event: Some(_) } = item else { continue };
            let Some(key) = LogKey::of_topic(topic) else { continue };
            for user in self.node.hub.sequenced_users(topic) {
                places.push((index, user.clone()));
                pointers.push((user, key.clone(), entry.seq));
            }
        }
        let mut integers: FxHashMap<usize, FxHashMap<UserId, u64>> = FxHashMap::default();
        let assigned = self.assign(&pointers).await;
        for ((index, user), integer) in places.into_iter().zip(assigned) {
            integers.entry(index).or_default().insert(user, integer);
        }
        integers
    }

    /// Assigns integers, trying again until the backplane does it: an event must not be shown without its
    /// integer, nor passed over.
    async fn assign(&self, pointers: &[(UserId, LogKey, u64)]) -> Vec<u64> {
        if pointers.is_empty() {
            return Vec::new();
        }
        loop {
            match self.node.backplane.sequences.assign(pointers).await {
                Ok(integers) => return integers,
                Err(fault) if self.node.halt.is_cancelled() => {
                    tracing::warn!(%fault, "assigning integers");
                    return Vec::new();
                }
                Err(fault) => {
                    tracing::warn!(%fault, "assigning integers; trying again");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn deliver_entry(
        &self,
        topic: &Topic,
        entry: &Entry,
        event: Option<&Event>,
        integers: &FxHashMap<UserId, u64>,
    ) {
        // Whoever did it knows.
        let hears = |l: &Listener| match (&entry.record, topic) {
            (Record::Message(message), Topic::Conversation(id)) if message.author.id == l.user => {
                let sent = message.client_id.clone().map(|client_id| Own::Send(id.clone(), client_id));
                !sent.is_some_and(|own| does_itself(&self.node, l, &own))
            }
            (Record::NotificationRead { id }, _) => !does_itself(&self.node, l, &Own::Read(id.clone())),
            _ => true,
        };
        let told = parlance_hub::Entry { topic, seq: entry.seq, event, integers };
        let mut fanout = self.node.hub.deliver_entry(&told, hears);
        self.count(&fanout);
        for listener in std::mem::take(&mut fanout.owed) {
            let Some(key) = LogKey::of_topic(topic) else { continue };
            let own = self.assign(&[(listener.user.clone(), key, entry.seq)]).await;
            let piece = event.and_then(|e| parlance_wire::encode(listener.accent(), &listener.style, e));
            if let (Some(integer), Some(piece)) = (own.first(), piece) {
                listener.push(&piece.seal(*integer));
            }
        }
        self.apply(topic, entry);
    }

    /// What an entry does to this node, after it was told.
    fn apply(&self, topic: &Topic, entry: &Entry) {
        match (&entry.record, topic) {
            (Record::Members { added, removed, .. }, Topic::Conversation(id)) => {
                if !added.is_empty() {
                    self.tell_contacts(topic, id, entry.seq);
                }
                for user in removed {
                    for listener in self.node.hub.evict(topic, user) {
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

    fn count(&self, fanout: &Fanout) {
        self.node.metrics.count_fanout(fanout.delivered, fanout.dropped, fanout.overflowed);
    }
}
