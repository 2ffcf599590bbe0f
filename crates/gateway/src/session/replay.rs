//! Joining a topic: enter its room, read the log until it has been caught up with, go live. The log is the
//! buffer: nothing is held back per connection while it reads.

use std::sync::Arc;

use parlance_backplane::{Fault, Range};
use parlance_model::{ConversationId, Entry, Event, LogKey, Record, Resync, Topic};

use super::link::Link;
use crate::events;
use crate::node::Node;

/// Entries read at once.
const PAGE: usize = 100;

/// From where a joining connection hears a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// From now on.
    Now,
    /// Everything after this sequence.
    After {
        /// The last sequence it has.
        seq: u64,
        /// Marked as queued while the user was away.
        queued: bool,
    },
}

/// Joins topics. Those joined already are left as they are.
///
/// # Errors
/// The backplane's fault; what was not joined whole is left.
pub(crate) async fn join(
    node: &Arc<Node>,
    link: &Arc<Link>,
    topics: Vec<(Topic, Start)>,
) -> Result<(), Fault> {
    let number = link.listener.number;
    // The user's own feed was entered at admission; nothing but attaching joins it.
    let entered = |topic: &Topic| matches!(topic, Topic::User(_)) && node.hub.is_reading(topic, number);
    let fresh: Vec<(Topic, Start)> = topics
        .into_iter()
        .filter(|(topic, _)| node.hub.enter(topic, &link.listener) || entered(topic))
        .collect();
    for (topic, _) in &fresh {
        link.entered(topic.clone());
    }
    let opened = node.feed.open(fresh.iter().map(|(t, _)| t.clone()).collect()).await;
    if let Err(fault) = opened {
        for (topic, _) in &fresh {
            leave(node, link, topic);
        }
        return Err(fault);
    }
    // What needs no reading goes live first: it must not wait for a long backlog of something else.
    let (reading, live): (Vec<_>, Vec<_>) = fresh.into_iter().partition(|(topic, start)| {
        matches!(start, Start::After { .. }) && LogKey::of_topic(topic).is_some()
    });
    for (topic, _) in &live {
        node.hub.go_live_now(topic, number);
    }
    for (index, (topic, start)) in reading.iter().enumerate() {
        let (Start::After { seq, queued }, Some(key)) = (*start, LogKey::of_topic(topic)) else { continue };
        if let Err(fault) = (Replay { node, link, topic, key: &key, queued }).run(seq).await {
            // Not half joined: a seat that reads for ever would hear nothing and could not be taken again.
            for (topic, _) in reading.iter().skip(index) {
                leave(node, link, topic);
            }
            return Err(fault);
        }
    }
    Ok(())
}

/// Leaves a topic.
pub(crate) fn leave(node: &Node, link: &Link, topic: &Topic) {
    node.hub.leave(topic, link.listener.number);
    link.left(topic);
}

struct Replay<'a> {
    node: &'a Arc<Node>,
    link: &'a Arc<Link>,
    topic: &'a Topic,
    key: &'a LogKey,
    queued: bool,
}

impl Replay<'_> {
    async fn run(&self, from: u64) -> Result<(), Fault> {
        let mut position = from;
        let mut number = None;
        loop {
            let Err(room) = self.node.hub.go_live(self.topic, self.link.listener.number, position) else {
                return Ok(());
            };
            let page =
                self.node.backplane.log.range(self.key, Range::After { seq: position, limit: PAGE }).await?;
            if page.first > position + 1 && page.head > position {
                self.tell_lost(position + 1, page.first - 1);
                position = page.first - 1;
            }
            if page.entries.is_empty() {
                // Nothing is left to read up to where the room stands.
                position = position.max(room);
                continue;
            }
            let number = match number {
                Some(number) => number,
                None => *number.insert(self.number().await?),
            };
            // The user may have been removed while the page was read.
            if !self.node.hub.is_in(self.topic, self.link.listener.number) {
                return Ok(());
            }
            self.send(&page.entries, number).await?;
            position = page.entries.last().map_or(position, |e| e.seq);
            if self.link.listener.outbox.is_overflown() {
                return Ok(());
            }
        }
    }

    async fn number(&self) -> Result<u32, Fault> {
        let LogKey::Conversation(id) = self.key else { return Ok(0) };
        Ok(self.node.backplane.conversations.get(id).await?.map_or(0, |c| c.number()))
    }

    async fn send(&self, entries: &[Entry], number: u32) -> Result<(), Fault> {
        let listener = &self.link.listener;
        let accent = listener.accent();
        let mut pieces = Vec::with_capacity(entries.len());
        let mut pointers = Vec::new();
        for entry in entries.iter().filter(|e| self.is_theirs(e)) {
            let event = events::of_entry(self.key, number, entry, self.queued);
            if let Some(piece) = event.and_then(|e| parlance_wire::encode(accent, &e)) {
                if piece.is_open() {
                    pointers.push((listener.user.clone(), self.key.clone(), entry.seq));
                }
                pieces.push(piece);
            }
        }
        let mut integers = self.node.backplane.sequences.assign(&pointers).await?.into_iter();
        for piece in pieces {
            listener.outbox.half_empty().await;
            let sealed =
                if piece.is_open() { piece.seal(integers.next().unwrap_or_default()) } else { piece };
            listener.push(&sealed);
        }
        Ok(())
    }

    /// Own messages are not told where the dialect tells recipients only.
    fn is_theirs(&self, entry: &Entry) -> bool {
        match &entry.record {
            Record::Message(message) => {
                message.author.id != self.link.listener.user
                    || self.link.listener.accent().echoes_own_messages()
            }
            _ => true,
        }
    }

    fn tell_lost(&self, from: u64, to: u64) {
        let LogKey::Conversation(id) = self.key else { return };
        let event = resync(id, (from, to), self.node);
        if let Some(piece) = parlance_wire::encode(self.link.listener.accent(), &event) {
            self.link.listener.push(&piece);
        }
    }
}

fn resync(id: &ConversationId, range: (u64, u64), node: &Node) -> Event {
    Event::Resync(Resync { conversation: id.clone(), from: range.0, to: range.1, at: node.clock.now() })
}
