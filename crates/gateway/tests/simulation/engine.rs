//! An engine whose every call goes through a node's fate.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use parlance_backplane::{
    Appended, Backplane, Belonging, Bus, Change, ChangeRefused, Changed, Conversations, CursorChanged,
    CursorSet, Cursors, Enlisted, Enlistment, Entering, Fault, Fenced, Fences, Find, Inbox, Leaving, Limits,
    Listed, LiveNode, Log, Members, Membership, NodeState, Nodes, Outline, Over, Overview, Overviews, Page,
    Place, Posted, Presence, Range, Reacted, Reactions, Refreshed, Rooms, Rule, Seen, Sequences, Shared,
    Signal, Standing, Swept, Touch, Touched, Typing, TypingOutcome, UserPresence, Verdict,
};
use parlance_model::{
    Author, ConnectionId, Conversation, ConversationId, Cursor, LogKey, Message, NodeId, ReceiptKind, Record,
    Time, Topic, UserId,
};

use super::bus;
use super::fate::Fate;

/// The engine as one node reaches it.
struct Far {
    inner: Backplane,
    fate: Arc<Fate>,
    inbox: Mutex<Option<Inbox>>,
}

/// The engine behind a node's fate. Its inbox has a task of its own.
pub fn through(inner: Backplane, fate: Arc<Fate>) -> Backplane {
    let inbox = inner.bus.inbox().map(|inbox| bus::pump(inbox, fate.clone()));
    let whole = inner.clone();
    let far = Arc::new(Far { inner, fate, inbox: Mutex::new(inbox) });
    Backplane {
        log: far.clone(),
        history: far.clone(),
        kept: far.clone(),
        reactions: far.clone(),
        conversations: far.clone(),
        members: far.clone(),
        overviews: far.clone(),
        fences: far.clone(),
        cursors: far.clone(),
        sequences: far.clone(),
        presence: far.clone(),
        rooms: far.clone(),
        typing: far.clone(),
        limits: far.clone(),
        bus: far.clone(),
        shared: far.clone(),
        nodes: far,
        ..whole
    }
}

impl Far {
    async fn through<T>(&self, call: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
        self.fate.before().await?;
        let answer = call.await;
        self.fate.after(answer).await
    }
}

/// Of a call that answers for each by itself: all of them, or as many times why not.
fn each<T>(answers: Result<Vec<Result<T, Fault>>, Fault>, count: usize) -> Vec<Result<T, Fault>> {
    answers.unwrap_or_else(|fault| (0..count).map(|_| Err(fault.clone())).collect())
}

macro_rules! through {
    ($of:ident, $call:expr) => {
        $of.through($call).await
    };
}

#[allow(clippy::too_many_arguments, reason = "a reaction has five parts, and `self` is counted too")]
#[async_trait]
impl Log for Far {
    async fn append(&self, conversation: &ConversationId, message: Message) -> Result<Appended, Fault> {
        through!(self, self.inner.log.append(conversation, message))
    }

    async fn react(
        &self,
        conversation: &ConversationId,
        author: Author,
        target: u64,
        kind: Arc<str>,
        added: bool,
    ) -> Result<Reacted, Fault> {
        through!(self, self.inner.log.react(conversation, author, target, kind, added))
    }

    async fn post(&self, key: &LogKey, record: Record, once: Option<&str>) -> Result<Posted, Fault> {
        through!(self, self.inner.log.post(key, record, once))
    }

    async fn range(&self, key: &LogKey, range: Range) -> Result<Page, Fault> {
        through!(self, self.inner.log.range(key, range))
    }

    async fn confirm(&self, conversation: &ConversationId, seq: u64) -> Result<(), Fault> {
        through!(self, self.inner.log.confirm(conversation, seq))
    }

    async fn find(&self, what: Find) -> Result<Option<(LogKey, u64)>, Fault> {
        through!(self, self.inner.log.find(what))
    }
}

#[async_trait]
impl Reactions for Far {
    async fn standing(&self, id: &ConversationId, first: u64, last: u64) -> Result<Vec<Standing>, Fault> {
        through!(self, self.inner.reactions.standing(id, first, last))
    }
}

#[async_trait]
impl Conversations for Far {
    async fn change(&self, change: Change) -> Result<Result<Changed, ChangeRefused>, Fault> {
        through!(self, self.inner.conversations.change(change))
    }

    async fn get(&self, id: &ConversationId) -> Result<Option<Conversation>, Fault> {
        through!(self, self.inner.conversations.get(id))
    }

    async fn of_user(&self, user: &UserId) -> Result<Vec<Membership>, Fault> {
        through!(self, self.inner.conversations.of_user(user))
    }

    async fn listed(&self, from: Option<&str>, most: usize) -> Result<Listed, Fault> {
        through!(self, self.inner.conversations.listed(from, most))
    }

    async fn delete(&self, id: &ConversationId) -> Result<bool, Fault> {
        through!(self, self.inner.conversations.delete(id))
    }
}

#[async_trait]
impl Members for Far {
    async fn enlist(&self, call: Enlistment) -> Result<Option<Enlisted>, Fault> {
        through!(self, self.inner.members.enlist(call))
    }

    async fn joined(&self, id: &ConversationId, users: &[UserId]) -> Result<Vec<Option<u64>>, Fault> {
        through!(self, self.inner.members.joined(id, users))
    }

    async fn outline(&self, id: &ConversationId) -> Result<Option<Outline>, Fault> {
        through!(self, self.inner.members.outline(id))
    }
}

#[async_trait]
impl Overviews for Far {
    async fn belonging(
        &self,
        user: &UserId,
        after: Option<&ConversationId>,
        limit: usize,
    ) -> Result<Belonging, Fault> {
        through!(self, self.inner.overviews.belonging(user, after, limit))
    }

    async fn overviews(&self, user: &UserId, ids: &[ConversationId]) -> Vec<Result<Option<Overview>, Fault>> {
        let overviews = async { Ok(self.inner.overviews.overviews(user, ids).await) };
        each(self.through(overviews).await, ids.len())
    }
}

#[async_trait]
impl Fences for Far {
    async fn heads(&self, logs: &[LogKey]) -> Vec<Result<Place, Fault>> {
        let heads = async { Ok(self.inner.fences.heads(logs).await) };
        each(self.through(heads).await, logs.len())
    }

    async fn fence(&self, log: &LogKey, seen: Seen) -> Result<Fenced, Fault> {
        through!(self, self.inner.fences.fence(log, seen))
    }
}

#[async_trait]
impl Cursors for Far {
    async fn advance(
        &self,
        conversation: &ConversationId,
        user: &UserId,
        kind: ReceiptKind,
        seq: u64,
    ) -> Result<Option<CursorChanged>, Fault> {
        through!(self, self.inner.cursors.advance(conversation, user, kind, seq))
    }

    async fn cursors(&self, conversation: &ConversationId) -> Result<(u64, Vec<Cursor>), Fault> {
        through!(self, self.inner.cursors.cursors(conversation))
    }

    async fn standing(&self, conversations: &[ConversationId]) -> Vec<Result<CursorSet, Fault>> {
        let standing = async { Ok(self.inner.cursors.standing(conversations).await) };
        each(self.through(standing).await, conversations.len())
    }
}

#[async_trait]
impl Sequences for Far {
    async fn assign(&self, pointers: &[(UserId, LogKey, u64)]) -> Result<Vec<u64>, Fault> {
        through!(self, self.inner.sequences.assign(pointers))
    }

    async fn pointers(
        &self,
        user: &UserId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<(u64, LogKey, u64)>, Fault> {
        through!(self, self.inner.sequences.pointers(user, after, limit))
    }

    async fn marks(&self, user: &UserId) -> Result<Vec<(LogKey, u64)>, Fault> {
        through!(self, self.inner.sequences.marks(user))
    }
}

#[async_trait]
impl Presence for Far {
    async fn touch(&self, touch: Touch) -> Result<Touched, Fault> {
        through!(self, self.inner.presence.touch(touch))
    }

    async fn refresh(&self, touches: &[Touch]) -> Result<Refreshed, Fault> {
        through!(self, self.inner.presence.refresh(touches))
    }

    async fn linger(&self, touch: &Touch) -> Result<(), Fault> {
        through!(self, self.inner.presence.linger(touch))
    }

    async fn close(&self, user: &UserId, connection: &ConnectionId) -> Result<(), Fault> {
        through!(self, self.inner.presence.close(user, connection))
    }

    async fn sweep(&self) -> Result<Swept, Fault> {
        through!(self, self.inner.presence.sweep())
    }

    async fn status(&self, users: &[UserId]) -> Result<Vec<UserPresence>, Fault> {
        through!(self, self.inner.presence.status(users))
    }
}

#[async_trait]
impl Rooms for Far {
    async fn enter(&self, entering: Entering) -> Result<(), Fault> {
        through!(self, self.inner.rooms.enter(entering))
    }

    async fn leave(&self, leaving: Leaving) -> Result<(), Fault> {
        through!(self, self.inner.rooms.leave(leaving))
    }

    async fn present(&self, conversation: &ConversationId) -> Result<Vec<UserId>, Fault> {
        through!(self, self.inner.rooms.present(conversation))
    }
}

#[async_trait]
impl Typing for Far {
    async fn set(
        &self,
        conversation: &ConversationId,
        author: &Author,
        on: bool,
        to: &[UserId],
    ) -> Result<TypingOutcome, Fault> {
        through!(self, self.inner.typing.set(conversation, author, on, to))
    }
}

#[async_trait]
impl Limits for Far {
    async fn take(&self, user: &UserId, rule: &Rule) -> Result<Verdict, Fault> {
        through!(self, self.inner.limits.take(user, rule))
    }

    async fn give_back(&self, user: &UserId, rule: &Rule, stamp: u64) -> Result<(), Fault> {
        through!(self, self.inner.limits.give_back(user, rule, stamp))
    }

    async fn happened(&self, user: &UserId, rule: &Rule, stamp: u64, at: Time) -> Result<(), Fault> {
        through!(self, self.inner.limits.happened(user, rule, stamp, at))
    }
}

#[async_trait]
impl Bus for Far {
    async fn subscribe(&self, topics: &[Topic]) -> Result<(), Fault> {
        through!(self, self.inner.bus.subscribe(topics))
    }

    async fn unsubscribe(&self, topics: &[Topic]) -> Result<(), Fault> {
        through!(self, self.inner.bus.unsubscribe(topics))
    }

    async fn signal(&self, topic: &Topic, signal: Signal) -> Result<(), Fault> {
        through!(self, self.inner.bus.signal(topic, signal))
    }

    fn hears(&self) -> bool {
        !self.fate.is_cut() && self.inner.bus.hears()
    }

    fn inbox(&self) -> Option<Inbox> {
        self.inbox.lock().take()
    }
}

#[async_trait]
impl Shared for Far {
    async fn save(&self, key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), Fault> {
        through!(self, self.inner.shared.save(key, value, ttl))
    }

    async fn keep(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
        over: Over,
    ) -> Result<bool, Fault> {
        through!(self, self.inner.shared.keep(key, value, ttl, over))
    }

    async fn load(&self, key: &str) -> Result<Option<Vec<u8>>, Fault> {
        through!(self, self.inner.shared.load(key))
    }

    async fn load_or_save(
        &self,
        key: &str,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> Result<Option<Vec<u8>>, Fault> {
        through!(self, self.inner.shared.load_or_save(key, value, ttl))
    }

    async fn remove(&self, key: &str) -> Result<(), Fault> {
        through!(self, self.inner.shared.remove(key))
    }
}

#[async_trait]
impl Nodes for Far {
    async fn beat(&self, state: NodeState, ttl: Duration) -> Result<(), Fault> {
        through!(self, self.inner.nodes.beat(state, ttl))
    }

    async fn live(&self) -> Result<Vec<LiveNode>, Fault> {
        through!(self, self.inner.nodes.live())
    }

    async fn leave(&self, id: &NodeId) -> Result<(), Fault> {
        through!(self, self.inner.nodes.leave(id))
    }
}
