//! What is to be done for one topic, one thing after the other: it may wait for the backplane without anybody else
//! waiting for it.
//!
//! Owns: the order of one topic's work, and trying again. Must not know: other topics, which of them go first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parlance_backplane::{Fault, Outline, Publication};
use parlance_model::{ConversationId, Entry, LogKey, MessageRef, Record, Time, Topic, UserId};
use tokio::sync::Semaphore;

use super::deliver::Ready;
use super::track::{Judgement, Track};
use crate::events;
use crate::node::Node;
use crate::trace::Mark;
use parlance_hub::Notice;

/// Entries whose integers are assigned together at most.
const BATCH: usize = 256;
/// What is assigned together is delivered when all of it is: that should take no longer.
const TOGETHER: Duration = Duration::from_millis(100);
/// Before a fault is tried again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// Logs read at once to fill gaps; and those that could not be read at the first attempt.
const REPAIRS: (usize, usize) = (32, 4);

/// One thing to do.
#[derive(Debug)]
pub(super) enum Todo {
    /// A publication was heard.
    Heard(Publication),
    /// The log may be further than what was heard.
    Behind,
    /// It is: more was heard than could be kept.
    Overrun,
    /// The log is not what was heard.
    Differs,
    /// Cursors moved without a word, or back.
    Cursors,
    /// Who is present may be others than was heard; `sure`: the engine knows everybody who is.
    Rooms { sure: bool },
}

/// How many logs may be read at once.
pub(super) struct Readers {
    first: Semaphore,
    again: Semaphore,
}

impl Default for Readers {
    fn default() -> Self {
        Self { first: Semaphore::new(REPAIRS.0), again: Semaphore::new(REPAIRS.1) }
    }
}

/// A topic's track while something is done for it.
pub(super) struct Job {
    pub node: Arc<Node>,
    pub topic: Topic,
    pub track: Box<Track>,
    pub todo: VecDeque<Todo>,
    pub readers: Arc<Readers>,
    /// Judged, and to be handed to the hub next.
    pub ready: Vec<Ready>,
    /// When this was taken up.
    pub heard: Time,
    /// The same, for traces.
    pub mark: Mark,
    /// When the newest of them came into its log, where that tells how late this node is: it was heard just as it came.
    pub came: Option<Time>,
}

impl Job {
    /// Does everything; what is left when the node halts is left. Returns the track.
    pub async fn run(mut self) -> (Topic, Box<Track>) {
        if self.work().await.is_none() {
            tracing::debug!(topic = ?self.topic, "left undone: the node halts");
        }
        (self.topic, self.track)
    }

    async fn work(&mut self) -> Option<()> {
        while let Some(todo) = self.todo.pop_front() {
            match todo {
                Todo::Heard(Publication::Entry(entry)) => self.judge(entry).await?,
                Todo::Heard(Publication::Cursor(change)) => self.cursor_moved(change).await?,
                Todo::Heard(Publication::Room(change)) => self.room_changed(change),
                Todo::Heard(_) => {}
                Todo::Behind => self.repair().await?,
                Todo::Overrun => {
                    self.repair().await?;
                    self.came = self.newest();
                }
                Todo::Differs => {
                    self.fence().await?;
                    self.repair().await?;
                }
                Todo::Cursors => self.reread_cursors().await?,
                Todo::Rooms { sure } => self.reread_room(sure).await?,
            }
            if self.ready.len() >= self.batch() {
                self.flush().await?;
            }
        }
        self.flush().await
    }

    /// Entries to deliver together: what takes long is not made longer by waiting for others.
    fn batch(&self) -> usize {
        let each = self.track.each.as_micros().max(1);
        usize::try_from(TOGETHER.as_micros() / each).unwrap_or(BATCH).clamp(1, BATCH)
    }

    /// When the newest entry that is ready came into its log.
    fn newest(&self) -> Option<Time> {
        self.ready.iter().rev().find_map(|item| match item {
            Ready::Entry { entry, .. } => Some(entry.at),
            Ready::Event { .. } => None,
        })
    }

    async fn judge(&mut self, entry: Entry) -> Option<()> {
        match self.track.judge(&entry) {
            Judgement::Drop => Some(()),
            Judgement::Deliver => {
                let at = entry.at;
                self.accept(entry).await?;
                self.came = Some(at);
                Some(())
            }
            Judgement::Gap => {
                self.node.metrics.feed.chain_gaps.inc();
                self.repair().await
            }
        }
    }

    /// Asks the backplane until it answers; `None`: the node halts. Only this topic waits.
    pub async fn insist<T, F>(&self, what: &str, ask: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let mut pause = PAUSE.0;
        loop {
            let fault = match ask().await {
                Ok(answer) => return Some(answer),
                Err(fault) => fault,
            };
            tracing::warn!(%fault, topic = ?self.topic, "{what}; trying again");
            self.rest(&mut pause).await?;
        }
    }

    /// The same for reading a log: few at once, and those that fail do not take the place of others.
    pub async fn insist_reading<T, F>(&self, what: &str, ask: impl Fn() -> F) -> Option<T>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let (mut pause, mut readers) = (PAUSE.0, &self.readers.first);
        loop {
            // Never closed.
            let place = readers.acquire().await.ok()?;
            let answer = ask().await;
            drop(place);
            match answer {
                Ok(answer) => return Some(answer),
                Err(fault) => tracing::warn!(%fault, topic = ?self.topic, "{what}; trying again"),
            }
            self.rest(&mut pause).await?;
            readers = &self.readers.again;
        }
    }

    async fn rest(&self, pause: &mut Duration) -> Option<()> {
        tokio::select! {
            biased;
            () = self.node.halt.cancelled() => return None,
            () = tokio::time::sleep(*pause) => {}
        }
        *pause = (*pause * 2).min(PAUSE.1);
        Some(())
    }

    /// Takes the next entry.
    pub async fn accept(&mut self, entry: Entry) -> Option<()> {
        let key = self.track.key.clone()?;
        let event = match (&key, &entry.record) {
            (LogKey::Conversation(_), Record::Members { .. } | Record::Title { .. }) => {
                return self.accept_change(&key, entry).await;
            }
            (LogKey::Conversation(_), Record::Lost { .. }) => {
                // Members may have been lost too. Who is one is not known before somebody says so.
                match self.outline(&key).await? {
                    Some(outline) => self.evict_strangers(&outline.conversation.id).await?,
                    None => self.track.lost = true,
                }
                events::of_entry(&key, self.track.number, &entry, false)
            }
            _ => {
                let message = self.reacted_to(&entry).await?;
                let event = events::of_entry(&key, self.track.number, &entry, false);
                event.map(|e| events::about(e, message.as_ref()))
            }
        };
        self.track.advance(&entry);
        self.ready.push(Ready::Entry { entry, event, change: None });
        Some(())
    }

    /// A change of members or title, told with the conversation as it is by now.
    async fn accept_change(&mut self, key: &LogKey, entry: Entry) -> Option<()> {
        let change = self.outline(key).await?;
        if std::mem::take(&mut self.track.lost)
            && let Some(outline) = &change
        {
            self.evict_strangers(&outline.conversation.id).await?;
        }
        let event = change.as_ref().and_then(|outline| events::of_change(outline, &entry));
        self.track.advance(&entry);
        self.ready.push(Ready::Entry { entry, event, change: change.map(Box::new) });
        Some(())
    }

    /// The conversation as it is now; `Some(None)`: there is none.
    pub async fn outline(&self, key: &LogKey) -> Option<Option<Outline>> {
        let LogKey::Conversation(id) = key else { return Some(None) };
        self.insist("reading a changed conversation", || self.node.backplane.members.outline(id)).await
    }

    /// After a loss: whoever is in the room and no member any more is out.
    async fn evict_strangers(&self, id: &ConversationId) -> Option<()> {
        let listeners = self.node.hub.listeners(&self.topic);
        let users: Vec<UserId> = listeners.iter().map(|listener| listener.user.clone()).collect();
        let members = &self.node.backplane.members;
        let joined = self.insist("reading who is a member", || members.joined(id, &users)).await?;
        for (listener, joined) in listeners.into_iter().zip(joined) {
            if joined.is_none() {
                self.node.hub.leave(&self.topic, listener.number);
                listener.notify(Notice::Removed(id.clone()));
            }
        }
        Some(())
    }

    /// The message a reaction is to.
    async fn reacted_to(&self, entry: &Entry) -> Option<Option<MessageRef>> {
        let Some(target) = events::reacts_to(entry) else { return Some(None) };
        Some(self.messages(target.saturating_sub(1), target).await?.pop())
    }
}
