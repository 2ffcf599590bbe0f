//! Publish and subscribe between nodes.

use std::time::Duration;

use async_trait::async_trait;
use parlance_model::{Author, ConversationId, Entry, Status, Time, Topic, UserId};
use tokio::sync::mpsc;

use crate::{CursorChanged, Fault, RoomChanged};

/// Why a user's presence changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PresenceCause {
    /// A connection came, or said so.
    Said,
    /// A connection was closed.
    Closed,
    /// A lease ran out.
    Expired,
}

/// A user's presence changed: published on `Topic::Presence(user)` and `Topic::PresenceAll`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresenceChanged {
    /// Who.
    pub user: UserId,
    /// The status now.
    pub status: Status,
    /// The status before.
    pub before: Status,
    /// When the user was last heard of.
    pub last_seen: Time,
    /// When it changed.
    pub at: Time,
    /// Why.
    pub cause: PresenceCause,
}

/// Somebody types: published on the conversation's topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypingChanged {
    /// Where.
    pub conversation: ConversationId,
    /// Who.
    pub author: Author,
    /// Typing, until `until`; or stopped.
    pub on: bool,
    /// Whom to tell; empty = all members.
    pub to: Vec<UserId>,
    /// When silence ends it.
    pub until: Time,
    /// When it was said.
    pub at: Time,
}

/// A node delivers a conversation's entries late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// Which conversation.
    pub conversation: ConversationId,
    /// By how much.
    pub late: Duration,
    /// How long that node takes for one entry.
    pub each: Duration,
}

/// A passing word between nodes: whoever does not listen misses it.
#[derive(Debug, Clone, PartialEq)]
pub enum Signal {
    /// Typing in a conversation that does not exist yet, for one user (`Topic::User`).
    Typing(TypingChanged),
    /// Close the user's connections (`Topic::User`).
    Disconnect {
        /// For the close frame.
        reason: String,
        /// Whether clients may come back by themselves.
        reconnect: bool,
    },
    /// The maintenance switch changed (`Topic::Nodes`).
    Maintenance,
    /// There is something for every node to carry out (`Topic::Nodes`).
    Orders,
    /// A node is behind in these conversations: whoever sends into them is to wait (`Topic::Nodes`).
    Behind(Vec<Behind>),
}

/// What comes over the bus.
#[derive(Debug, Clone, PartialEq)]
pub enum Publication {
    /// A log entry (`Topic::Conversation`, `Topic::User`, `Topic::App`).
    Entry(Entry),
    /// A cursor moved (`Topic::Conversation`).
    Cursor(CursorChanged),
    /// Typing (`Topic::Conversation`).
    Typing(TypingChanged),
    /// Somebody came into the conversation or left it (`Topic::Conversation`).
    Room(RoomChanged),
    /// Presence (`Topic::Presence`, `Topic::PresenceAll`).
    Presence(PresenceChanged),
    /// A passing word.
    Signal(Signal),
}

/// What a node's inbox yields.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly every one is a publication")]
pub enum Delivery {
    /// Something was published on a subscribed topic.
    Published(Topic, Publication),
    /// Publications may have been missed before the next one: check every position against the log.
    Lost,
}

/// A node's inbox: bounded; when it overflows it yields [`Delivery::Lost`] in place of what was dropped.
pub type Inbox = mpsc::Receiver<Delivery>;

/// Publish and subscribe.
///
/// Guarantees: once `subscribe` resolves, everything published on the topic afterwards reaches the
/// inbox, in order per topic, or the inbox yields [`Delivery::Lost`]. Publications are delivered at most
/// once per inbox; what must not be lost is in a log.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Subscribes this node; repeated subscriptions are one.
    async fn subscribe(&self, topics: &[Topic]) -> Result<(), Fault>;

    /// Ends subscriptions; a few more publications may arrive.
    async fn unsubscribe(&self, topics: &[Topic]) -> Result<(), Fault>;

    /// Publishes a passing word.
    async fn signal(&self, topic: &Topic, signal: Signal) -> Result<(), Fault>;

    /// This node's inbox; `Some` once.
    fn inbox(&self) -> Option<Inbox>;

    /// Whether publications arrive; not while the way of all subscriptions is broken.
    fn hears(&self) -> bool {
        true
    }
}
