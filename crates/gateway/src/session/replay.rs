//! Joining a topic: enter its room, read the log until it has been caught up with, go live. The log is the
//! buffer: nothing is held back per connection while it reads.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use parlance_backplane::{Fault, Outline, Page, Place, Range, Seen};
use parlance_hub::Notice;
use parlance_model::{ConversationId, Entry, Event, LogKey, MessageRef, Record, Resync, Role, Topic};

use parlance_wire::{Dialect, Encoded};
use rustc_hash::FxHashMap;

use super::attach::hears_contacts;
use super::link::Link;
use crate::node::Node;
use crate::{commands, events};

/// Entries read at once.
const PAGE: usize = 100;
/// Logs of one connection read beside each other.
const AT_ONCE: usize = 8;

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
/// The backplane's fault; what could be joined whole is, the rest is left.
pub(crate) async fn join(
    node: &Arc<Node>,
    link: &Arc<Link>,
    topics: Vec<(Topic, Start, Role)>,
) -> Result<(), Fault> {
    join_with(node, link, topics, FxHashMap::default()).await
}

/// What is read of a log at once.
pub(super) async fn page(node: &Node, key: &LogKey, after: u64) -> Result<Page, Fault> {
    node.backplane.log.range(key, Range::After { seq: after, limit: PAGE }).await
}

/// As [`join`], with pages that were read ahead.
pub(super) async fn join_with(
    node: &Arc<Node>,
    link: &Arc<Link>,
    topics: Vec<(Topic, Start, Role)>,
    mut pages: FxHashMap<Topic, Page>,
) -> Result<(), Fault> {
    let (mut fresh, unheard) = enter(node, link, topics);
    if fresh.is_empty() {
        return Ok(());
    }
    let mut all: Vec<Result<(), Fault>> = Vec::new();
    match open_each(node, unheard).await {
        Ok(failed) => {
            for (topic, fault) in failed {
                leave(node, link, &topic);
                fresh.retain(|(fresh, ..)| *fresh != topic);
                all.push(Err(fault));
            }
        }
        Err(fault) => {
            for (topic, ..) in &fresh {
                leave(node, link, topic);
            }
            return Err(fault);
        }
    }
    let reading = begin(node, link, fresh);
    let mut read = |(topic, start, _): &(Topic, Start, Role)| {
        let (topic, start, ahead) = (topic.clone(), *start, pages.remove(topic));
        async move {
            let (Start::After { seq, queued }, Some(key)) = (start, LogKey::of_topic(&topic)) else {
                return Ok(());
            };
            let mut position = link.take_unfinished(&topic).map_or(seq, |read| read.max(seq));
            let replay = Replay { node, link, topic: &topic, key: &key, queued };
            let read = replay.run(&mut position, ahead).await;
            if read.is_err() {
                // Not half joined: a seat that reads for ever would hear nothing and could not be taken again.
                leave(node, link, &topic);
                // Another attempt follows, of the same connection: what it was told it is not told again.
                link.unfinished(topic, position);
            }
            read
        }
    };
    // The user's own feed last: it tells of what stands in the others. To the end also where one fails: what could be
    // joined is.
    let (feeds, rooms): (Vec<_>, Vec<_>) =
        reading.iter().partition(|(topic, ..)| matches!(topic, Topic::User(_)));
    for topics in [rooms, feeds] {
        // Most often there is nothing but the feed.
        if let [one] = topics[..] {
            all.push(Box::pin(read(one)).await);
            continue;
        }
        let reads: Vec<_> = topics.into_iter().map(&mut read).collect();
        all.extend(stream::iter(reads).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await);
    }
    all.into_iter().collect()
}

/// What needs no reading goes live first: it must not wait for a long backlog of something else. Returns what is to be read.
fn begin(node: &Node, link: &Link, fresh: Vec<(Topic, Start, Role)>) -> Vec<(Topic, Start, Role)> {
    let number = link.listener.number;
    let (reading, live): (Vec<_>, Vec<_>) = fresh.into_iter().partition(|(topic, start, _)| {
        matches!(start, Start::After { .. }) && LogKey::of_topic(topic).is_some()
    });
    for (topic, _, role) in &live {
        node.hub.go_live_now(topic, number);
        note(node, link, topic, (*role, node.hub.began(topic, number).unwrap_or_default()));
    }
    for (topic, start, role) in &reading {
        if let Start::After { seq, .. } = start {
            note(node, link, topic, (*role, *seq));
        }
    }
    reading
}

/// Enters the rooms of topics: those that are to be joined, and which of them this node may not hear yet. What was entered
/// at admission is heard since then.
fn enter(
    node: &Node,
    link: &Link,
    topics: Vec<(Topic, Start, Role)>,
) -> (Vec<(Topic, Start, Role)>, Vec<Topic>) {
    // The user's own feed was entered at admission; nothing but attaching joins it.
    let entered =
        |topic: &Topic| matches!(topic, Topic::User(_)) && node.hub.is_reading(topic, link.listener.number);
    let (mut fresh, mut unheard) = (Vec::with_capacity(topics.len()), Vec::new());
    for (topic, start, role) in topics {
        if node.hub.enter(&topic, &link.listener, role) {
            unheard.push(topic.clone());
        } else if !entered(&topic) {
            continue;
        }
        link.entered(topic.clone());
        fresh.push((topic, start, role));
    }
    (fresh, unheard)
}

async fn open_each(node: &Node, topics: Vec<Topic>) -> Result<Vec<(Topic, Fault)>, Fault> {
    if topics.is_empty() { Ok(Vec::new()) } else { node.feed.open_each(topics).await }
}

/// Notes from where on a conversation is heard, for a client that may recover.
fn note(node: &Node, link: &Link, topic: &Topic, (role, seq): (Role, u64)) {
    if let (Topic::Conversation(id), Some(recovery)) = (topic, link.recovery().as_mut()) {
        // The client may have taken another role while the topic was being opened for an invitation.
        let role = node.hub.role(topic, link.listener.number).unwrap_or(role);
        recovery.joined(node.hub.number(topic), id, role, seq);
    }
}

/// Whether nothing of a conversation's log is heard from where its members stand at first.
pub(super) fn is_deaf(dialect: Dialect, role: Role) -> bool {
    role == Role::Member && matches!(dialect, Dialect::Lingochat | Dialect::Chatgenius)
}

/// Changes how a conversation is heard, from the next event on. `false`: it is not heard at all.
pub(crate) fn change_role(node: &Node, link: &Link, id: &ConversationId, role: Role) -> bool {
    let (topic, number) = (Topic::Conversation(id.clone()), link.listener.number);
    // First: what comes in between is not heard from where the connection stands then.
    let position = node.hub.position(&topic, number);
    let Some(before) = node.hub.set_role(&topic, number, role) else { return false };
    if let Some(recovery) = link.recovery().as_mut() {
        let from = position.filter(|_| is_deaf(link.dialect, before));
        recovery.changed(node.hub.number(&topic), role, from);
    }
    true
}

/// Leaves a topic.
pub(crate) fn leave(node: &Node, link: &Link, topic: &Topic) {
    node.hub.leave(topic, link.listener.number);
    link.left(topic);
}

/// A conversation whose changes of members and title are told again.
struct Change {
    outline: Outline,
    /// The entry with which the user came.
    arrival: Option<u64>,
}

const fn is_change(entry: &Entry) -> bool {
    matches!(entry.record, Record::Members { .. } | Record::Title { .. })
}

struct Replay<'a> {
    node: &'a Arc<Node>,
    link: &'a Arc<Link>,
    topic: &'a Topic,
    key: &'a LogKey,
    queued: bool,
}

impl Replay<'_> {
    /// Reads on from `position`, which says how far it has come also when that fails.
    async fn run(&self, position: &mut u64, ahead: Option<Page>) -> Result<(), Fault> {
        let from = *position;
        // Only what was there then is certain: that it was nothing says nothing.
        let follows = |page: &Page| page.entries.first().is_some_and(|entry| entry.seq == from + 1);
        let mut ahead = ahead.filter(follows);
        let (mut change, mut contacts) = (None, false);
        if from > self.node.hub.last(self.topic) {
            self.compare(from).await?;
        }
        loop {
            let Err(room) = self.node.hub.go_live(self.topic, self.link.listener.number, *position) else {
                return Ok(());
            };
            let page = match ahead.take() {
                Some(page) => page,
                None => page(self.node, self.key, *position).await?,
            };
            // A loss tells of itself, and of nothing before it.
            let lost = match page.entries.first().map(|entry| &entry.record) {
                Some(Record::Lost { from, .. }) => (*from).min(page.first),
                _ => page.first,
            };
            if page.first > *position + 1 && page.head > *position {
                if lost > *position + 1 {
                    self.tell_lost(*position + 1, lost - 1);
                }
                *position = page.first - 1;
            }
            if page.entries.is_empty() {
                // Nothing is left to read up to where the room stands.
                *position = room.max(*position);
                continue;
            }
            if page.entries.iter().any(is_change) {
                // For each page: it may have changed again since the one before.
                change = self.change().await?;
                contacts = contacts || self.look_for_contacts(&page.entries, change.as_ref());
            }
            // The user may have been removed while the page was read.
            if !self.node.hub.is_in(self.topic, self.link.listener.number) {
                return Ok(());
            }
            self.send(&page.entries, change.as_ref()).await?;
            self.note(&page.entries);
            *position = page.entries.last().map_or(*position, |e| e.seq);
            if self.link.listener.outbox.is_overflown() {
                return Ok(());
            }
        }
    }

    /// A position that lies beyond what this node heard may be one that the log lost since it was kept. Then the loss
    /// is written down, and told with what is read.
    async fn compare(&self, seq: u64) -> Result<(), Fault> {
        let fences = &self.node.backplane.fences;
        let place = fences.heads(std::slice::from_ref(self.key)).await.into_iter().next().transpose()?;
        let head = match place {
            Some(Place::Log(head) | Place::Lost(head)) => head.seq,
            Some(Place::Nothing { .. }) => 0,
            Some(Place::Deleted(_)) | None => return Ok(()),
        };
        if head < seq {
            let seen =
                Seen { seq, at: None, epoch: 0, number: self.node.hub.number(self.topic), from: head + 1 };
            let fenced = fences.fence(self.key, seen).await?;
            tracing::error!(topic = ?self.topic, ?seen, ?fenced, "a position was kept that the log does not have");
        }
        Ok(())
    }

    async fn change(&self) -> Result<Option<Change>, Fault> {
        let LogKey::Conversation(id) = self.key else { return Ok(None) };
        let Some(outline) = self.node.backplane.members.outline(id).await? else { return Ok(None) };
        let joined = commands::conversations::joined(self.node, id, &self.link.listener.user).await?;
        Ok(Some(Change { outline, arrival: joined.map(|head| head + 1) }))
    }

    /// Who came between the look at the contacts and the room is a contact too: only those who were in the room were
    /// told. `true`: they are looked at again, after this.
    fn look_for_contacts(&self, entries: &[Entry], change: Option<&Change>) -> bool {
        let (LogKey::Conversation(id), Some(change)) = (self.key, change) else { return false };
        // The user's own arrival is why it is here.
        let comes = |entry: &&Entry| events::has_newcomers(entry) && change.arrival != Some(entry.seq);
        let Some(came) = entries.iter().find(comes) else { return false };
        let again = !change.outline.many && hears_contacts(self.link);
        if again {
            self.link.listener.notify(Notice::Invited { conversation: id.clone(), since: came.seq });
        }
        again
    }

    /// For whoever asks afterwards; what a connection never hears of from where it stands is no delivery.
    fn note(&self, entries: &[Entry]) {
        let role = self.node.hub.role(self.topic, self.link.listener.number).unwrap_or_default();
        if let ([first, ..], [.., last], false) = (entries, entries, is_deaf(self.link.dialect, role)) {
            self.node.journal.read(self.link, self.key, (first.seq, last.seq), self.node.clock.now());
        }
    }

    async fn send(&self, entries: &[Entry], change: Option<&Change>) -> Result<(), Fault> {
        let listener = &self.link.listener;
        let mut pieces = Vec::with_capacity(entries.len());
        let mut pointers = Vec::new();
        for entry in entries {
            let message = self.reacted_to(entry, entries).await?;
            if let Some(piece) = self.encode(entry, change, message.as_ref()) {
                if piece.is_open() {
                    pointers.push((listener.user.clone(), self.key.clone(), entry.seq));
                }
                pieces.push(piece);
            }
        }
        let mut integers = self.node.backplane.sequences.assign(&pointers).await?.into_iter();
        self.node.metrics.frames_out(self.link.dialect, pieces.len());
        for piece in pieces {
            listener.outbox.half_empty().await;
            let sealed =
                if piece.is_open() { piece.seal(integers.next().unwrap_or_default()) } else { piece };
            listener.push(&sealed);
        }
        Ok(())
    }

    /// The message a reaction is to: of the same page, else from the log.
    async fn reacted_to(&self, entry: &Entry, page: &[Entry]) -> Result<Option<MessageRef>, Fault> {
        let Some(target) = events::reacts_to(entry) else { return Ok(None) };
        if let Some(found) = page.iter().find(|e| e.seq == target) {
            return Ok(events::message_ref(found));
        }
        let range = Range::After { seq: target.saturating_sub(1), limit: 1 };
        let found = self.node.backplane.log.range(self.key, range).await?.entries;
        Ok(found.first().filter(|e| e.seq == target).and_then(events::message_ref))
    }

    /// The entry as the connection hears it from where it stands; `message`: the one it reacts to.
    fn encode(
        &self,
        entry: &Entry,
        change: Option<&Change>,
        message: Option<&MessageRef>,
    ) -> Option<Encoded> {
        let event = match (&entry.record, change) {
            (Record::Members { added, .. }, Some(change))
                if change.arrival == Some(entry.seq)
                    && !(events::is_told_by_name(&change.outline, entry)
                        && added.contains(&self.link.listener.user)) =>
            {
                events::of_arrival(&change.outline, entry, &self.link.listener.user)
            }
            (Record::Members { .. } | Record::Title { .. }, Some(change)) => {
                events::of_change(&change.outline, entry)?
            }
            _ => {
                let number = self.node.hub.number(self.topic);
                events::about(events::of_entry(self.key, number, entry, self.queued)?, message)
            }
        };
        let listener = &self.link.listener;
        let own = event.author() == Some(&listener.user);
        let role = self.node.hub.role(self.topic, listener.number).unwrap_or_default();
        let accent = listener.accent().placed(role, own, &event)?;
        parlance_wire::encode(accent, &listener.style, &event)
    }

    fn tell_lost(&self, from: u64, to: u64) {
        let LogKey::Conversation(id) = self.key else { return };
        let (number, at) = (self.node.hub.number(self.topic), self.node.clock.now());
        self.link.tell(&Event::Resync(Resync { conversation: id.clone(), number, from, to, at }));
    }
}
