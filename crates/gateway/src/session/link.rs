//! An authenticated connection as the rest of the node sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use parlance_backplane::{Membership, Rule, Touch};
use parlance_hub::Listener;
use parlance_model::{Author, Channel, ConnectionId, ConversationId, Event, Identity, Status, Time, Topic};
use parlance_wire::Dialect;

use super::admission::Port;
use super::ahead::Ahead;
use super::recovery::Recovery;
use crate::config::{Mount, OnExpiry};
use crate::trace::Parent;

/// An authenticated connection.
pub struct Link {
    /// The hub's view of it.
    pub listener: Arc<Listener>,
    /// Its id.
    pub connection: ConnectionId,
    /// Where it came in.
    pub mount: Arc<Mount>,
    /// The mount's dialect.
    pub dialect: Dialect,
    /// The mount's name, as leases carry it.
    pub mount_name: Arc<str>,
    /// Messages allowed; `None` = unlimited.
    pub rate: Option<Rule>,
    /// Milliseconds of the last received byte.
    pub heard: Arc<AtomicU64>,
    /// The trace its handshake was part of.
    pub(crate) parent: Parent,
    /// The last byte that the backplane knows of.
    carried: AtomicU64,
    /// The head of the user's own feed when the connection was let in.
    came_at: AtomicU64,
    /// When it was let in.
    pub opened_at: Time,
    attached: AtomicBool,
    /// Its node told it to come back elsewhere.
    away: AtomicBool,
    identity: Mutex<Arc<Identity>>,
    /// When what vouches for its token was asked last.
    asked: AtomicU64,
    /// The token's end that the client was warned of.
    warned: AtomicU64,
    state: Mutex<State>,
    /// What a Socket.IO client can recover from; gone once another connection took it over.
    recovery: Mutex<Option<Box<Recovery>>>,
    /// What was read while it was let in; for attaching, which follows at once.
    ahead: Mutex<Option<Box<Ahead>>>,
}

/// Something the connection itself does, of which it is not to be told when it comes round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Own {
    /// Marks a notification, or all, as read.
    Read(Option<Arc<str>>),
    /// Sends a message with this client id.
    Send(ConversationId, Arc<str>),
    /// Moves its user's cursor to this sequence.
    Cursor(ConversationId, u64),
}

#[derive(Default)]
struct State {
    /// Rooms entered.
    topics: Vec<Topic>,
    /// How far logs were read whose reading broke off.
    unfinished: Vec<(Topic, u64)>,
    /// Channels subscribed by the client itself.
    channels: Vec<Channel>,
    /// The last position of each restorable channel that surely reached the client.
    confirmed: Vec<(Channel, u64)>,
    /// The last status the client set.
    status: Option<Status>,
    /// What this connection did and was not passed over for yet.
    own: Vec<Own>,
}

/// More of them outstanding: the oldest are told to the connection itself too.
const MAX_OWN: usize = 16;

/// A message is in the log a moment after it was counted, and what counts is when it is there: its entry stays that
/// moment longer. Short, because it is taken from the limit: what takes longer is corrected when it is known.
fn held(window: Duration) -> Duration {
    window + (window / 200).min(Duration::from_millis(50))
}

impl Link {
    /// A link of a fresh connection.
    pub(super) fn new(
        listener: Arc<Listener>,
        connection: ConnectionId,
        mount: Arc<Mount>,
        identity: Arc<Identity>,
        port: &Port,
    ) -> Self {
        let heard = port.heart.clone();
        let rate = (mount.messages.limit > 0).then(|| Rule {
            name: format!("{}:send", mount.dialect).into(),
            limit: mount.messages.limit,
            window: held(Duration::from_millis(mount.messages.window_ms)),
        });
        Self {
            dialect: mount.spoken(),
            mount_name: mount.name.as_str().into(),
            rate,
            listener,
            connection,
            mount,
            opened_at: Time::from_millis(heard.load(Ordering::Relaxed)),
            carried: AtomicU64::new(heard.load(Ordering::Relaxed)),
            asked: AtomicU64::new(heard.load(Ordering::Relaxed)),
            heard,
            parent: port.parent.clone(),
            attached: AtomicBool::new(false),
            away: AtomicBool::new(false),
            came_at: AtomicU64::new(0),
            identity: Mutex::new(identity),
            warned: AtomicU64::new(0),
            state: Mutex::default(),
            recovery: Mutex::default(),
            ahead: Mutex::default(),
        }
    }

    /// Keeps what was read for [`Self::take_ahead`].
    pub(super) fn keep_ahead(&self, ahead: Ahead) {
        *self.ahead.lock() = Some(Box::new(ahead));
    }

    /// What was read a moment ago; once.
    pub(super) fn take_ahead(&self) -> Ahead {
        self.ahead.lock().take().map(|ahead| *ahead).unwrap_or_default()
    }

    /// Whether what it is inside of has changed since that was kept.
    pub(super) fn has_moved(&self) -> bool {
        self.recovery.lock().as_ref().is_some_and(|recovery| recovery.has_moved())
    }

    /// What a Socket.IO client can recover from, with everything noted that went out to it.
    pub(super) fn recovery(&self) -> MutexGuard<'_, Option<Box<Recovery>>> {
        let mut guard = self.recovery.lock();
        if let Some(recovery) = guard.as_mut() {
            let sent = self.listener.outbox.take_sent(Some(self.listener.number));
            sent.iter().for_each(|mark| recovery.sent(mark.offset));
        }
        guard
    }

    /// Whether its session has a place in a conversation from since its user came there.
    pub fn has_place_in(&self, membership: &Membership) -> bool {
        let place = self.recovery.lock().as_ref().and_then(|session| session.place(membership.number));
        place.is_some_and(|(_, seq)| seq >= membership.joined_seq)
    }

    /// Notes that its node tells it to come back elsewhere.
    pub(crate) fn send_away(&self) {
        self.away.store(true, Ordering::Relaxed);
    }

    /// See [`Self::send_away`].
    pub(super) fn is_sent_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Whether its client finds what it had when it comes back: by its cursors, subscriptions, or session.
    pub(crate) fn is_resumable(&self) -> bool {
        self.dialect == Dialect::Sechat || self.is_restorable() || self.recovery.lock().is_some()
    }

    /// Whether something is under way for it.
    pub(crate) fn is_busy(&self) -> bool {
        !self.is_attached() || !self.listener.outbox.is_empty() || !self.state.lock().own.is_empty()
    }

    /// Its user as others are shown them.
    pub fn author(&self) -> Author {
        Author::from(&*self.identity())
    }

    /// It has joined everything it joins by itself.
    pub(super) fn set_attached(&self) {
        self.attached.store(true, Ordering::Relaxed);
    }

    /// See [`Self::set_attached`]; before that, what it is subscribed to says nothing.
    pub(super) fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Relaxed)
    }

    /// Notes where the user's own feed stood when the connection was let in.
    pub(super) fn came_at(&self, head: u64) {
        self.came_at.store(head, Ordering::Relaxed);
    }

    /// See [`Self::came_at`].
    pub(super) fn feed_start(&self) -> u64 {
        self.came_at.load(Ordering::Relaxed)
    }

    /// Whether its subscriptions are kept for it (socialhub).
    pub(super) fn is_restorable(&self) -> bool {
        self.dialect == Dialect::Socialhub
    }

    /// Who it is.
    pub fn identity(&self) -> Arc<Identity> {
        self.identity.lock().clone()
    }

    /// The same user with a fresh token.
    pub(super) fn refresh(&self, identity: Arc<Identity>, now: Time) {
        *self.identity.lock() = identity;
        self.set_asked(now);
    }

    /// The same token, verified again; `false` when it has another one by now.
    pub(crate) fn prolong(&self, identity: Arc<Identity>) -> bool {
        let mut current = self.identity.lock();
        if current.token_hash != identity.token_hash {
            return false;
        }
        *current = identity;
        drop(current);
        // Its end may be nearer than it was.
        self.listener.outbox.wake();
        true
    }

    /// When what vouches for its token was asked last.
    pub(crate) fn asked(&self) -> Time {
        Time::from_millis(self.asked.load(Ordering::Relaxed))
    }

    /// See [`Self::asked`].
    pub(crate) fn set_asked(&self, at: Time) {
        self.asked.store(at.millis(), Ordering::Relaxed);
    }

    /// When its token ends, if it has one that does.
    pub(super) fn token_ends(&self) -> Option<Time> {
        let identity = self.identity.lock();
        identity.verified.then(|| identity.expires_at + crate::auth::LEEWAY)
    }

    /// When the client is to be told of its token's end.
    pub(super) fn warns_at(&self) -> Option<Time> {
        if self.mount.on_expiry == OnExpiry::Close {
            return None;
        }
        let identity = self.identity.lock();
        let told = self.warned.load(Ordering::Relaxed) == identity.expires_at.millis();
        let ahead = Duration::from_millis(self.mount.expiry_warning_ms);
        (identity.verified && !told).then(|| identity.expires_at - ahead)
    }

    /// The client is being told of its token's end; when that is.
    pub(super) fn warned(&self) -> Time {
        let at = self.identity.lock().expires_at;
        self.warned.store(at.millis(), Ordering::Relaxed);
        at
    }

    /// When its last byte came.
    pub fn last_heard(&self) -> Time {
        Time::from_millis(self.heard.load(Ordering::Relaxed))
    }

    /// The last byte that its lease in the backplane is of.
    pub fn carried(&self) -> Time {
        Time::from_millis(self.carried.load(Ordering::Relaxed))
    }

    /// Notes of which byte the lease in the backplane is now.
    pub fn carry(&self, heard: Time) {
        self.carried.store(heard.millis(), Ordering::Relaxed);
    }

    /// The lease that stands for it now.
    pub fn lease(&self, ttl: Duration) -> Touch {
        let heard = self.last_heard();
        Touch {
            user: self.listener.user.clone(),
            connection: self.connection.clone(),
            mount: self.mount_name.clone(),
            status: self.state.lock().status,
            deadline: heard + ttl,
            heard,
            max: self.mount.connections_per_user,
        }
    }

    /// Remembers the status the client set.
    pub fn set_status(&self, status: Status) {
        self.state.lock().status = Some(status);
    }

    /// Notes that the connection itself is about to do it.
    pub fn will(&self, own: Own) {
        let mut state = self.state.lock();
        if state.own.len() >= MAX_OWN {
            state.own.remove(0);
        }
        state.own.push(own);
    }

    /// Whether the connection itself did it; true once per [`Self::will`].
    pub fn takes(&self, own: &Own) -> bool {
        let mut state = self.state.lock();
        let found = state.own.iter().position(|o| o == own);
        found.map(|index| state.own.remove(index)).is_some()
    }

    /// Tells it an event outside any room.
    pub fn tell(&self, event: &Event) {
        let listener = &self.listener;
        if let Some(piece) = parlance_wire::encode(listener.accent(), &listener.style, event) {
            listener.push(&piece);
        }
    }

    /// Notes a room it entered.
    pub fn entered(&self, topic: Topic) {
        let mut state = self.state.lock();
        if !state.topics.contains(&topic) {
            state.topics.push(topic);
        }
    }

    /// Forgets a room it left.
    pub fn left(&self, topic: &Topic) {
        self.state.lock().topics.retain(|t| t != topic);
    }

    /// The rooms it is in.
    pub fn topics(&self) -> Vec<Topic> {
        self.state.lock().topics.clone()
    }

    /// Notes how far a topic's log was read and told, of which the rest could not be. There are no more of them than of
    /// rooms that it tries to enter.
    pub(super) fn unfinished(&self, topic: Topic, seq: u64) {
        let mut state = self.state.lock();
        state.unfinished.retain(|(t, _)| *t != topic);
        state.unfinished.push((topic, seq));
    }

    /// See [`Self::unfinished`]; once.
    pub(super) fn take_unfinished(&self, topic: &Topic) -> Option<u64> {
        let mut state = self.state.lock();
        let found = state.unfinished.iter().position(|(t, _)| t == topic)?;
        Some(state.unfinished.swap_remove(found).1)
    }

    /// Whether it is in the room of any conversation.
    pub(super) fn is_in_any_conversation(&self) -> bool {
        self.state.lock().topics.iter().any(|topic| matches!(topic, Topic::Conversation(_)))
    }

    /// Notes an explicit subscription. `false` when there are `max` already.
    pub fn add_channel(&self, channel: &Channel, max: usize) -> bool {
        let mut state = self.state.lock();
        if state.channels.contains(channel) {
            return true;
        }
        if state.channels.len() >= max {
            return false;
        }
        state.channels.push(channel.clone());
        true
    }

    /// Forgets an explicit subscription.
    pub fn remove_channel(&self, channel: &Channel) {
        let mut state = self.state.lock();
        state.channels.retain(|c| c != channel);
        state.confirmed.retain(|(c, _)| c != channel);
    }

    /// Its explicit subscriptions.
    pub fn channels(&self) -> Vec<Channel> {
        self.state.lock().channels.clone()
    }

    /// What surely reached the client.
    pub fn confirmed(&self) -> Vec<(Channel, u64)> {
        self.state.lock().confirmed.clone()
    }

    /// Sets what surely reached the client; `true` when it moved.
    pub fn confirm(&self, positions: Vec<(Channel, u64)>) -> bool {
        let mut state = self.state.lock();
        let mut moved = false;
        for (channel, position) in positions {
            match state.confirmed.iter_mut().find(|(c, _)| *c == channel) {
                Some((_, at)) if *at >= position => {}
                Some((_, at)) => {
                    *at = position;
                    moved = true;
                }
                None => {
                    state.confirmed.push((channel, position));
                    moved = true;
                }
            }
        }
        moved
    }
}
