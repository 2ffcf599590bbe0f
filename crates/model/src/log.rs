//! What the log keeps: one dense sequence of entries per conversation, user feed and application channel.

use std::sync::Arc;

use crate::{ConversationId, Identity, MessageId, RawJson, Time, Topic, TraceContext, UserId};

/// Which log: each has its own dense sequence, starting at 1.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum LogKey {
    /// A conversation's log.
    Conversation(ConversationId),
    /// A user's feed.
    User(UserId),
    /// An application channel (`feed:updates`).
    App(Arc<str>),
}

impl LogKey {
    /// The bus topic on which this log's entries are published.
    pub fn topic(&self) -> Topic {
        match self {
            Self::Conversation(id) => Topic::Conversation(id.clone()),
            Self::User(user) => Topic::User(user.clone()),
            Self::App(name) => Topic::App(name.clone()),
        }
    }

    /// The log published on `topic`, when it has one.
    pub fn of_topic(topic: &Topic) -> Option<Self> {
        match topic {
            Topic::Conversation(id) => Some(Self::Conversation(id.clone())),
            Topic::User(user) => Some(Self::User(user.clone())),
            Topic::App(name) => Some(Self::App(name.clone())),
            Topic::Presence(_) | Topic::PresenceAll | Topic::Nodes => None,
        }
    }
}

/// The author of a message as others are shown them, taken from the author's token and kept with the message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Author {
    /// Who.
    pub id: UserId,
    /// Display name; absent → shown as the id.
    pub name: Option<Arc<str>>,
    /// Login name.
    pub username: Option<Arc<str>>,
    /// Picture address.
    pub picture: Option<Arc<str>>,
}

impl Author {
    /// An author known by id only.
    pub fn bare(id: UserId) -> Self {
        Self { id, name: None, username: None, picture: None }
    }

    /// The name others are shown.
    pub fn display_name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.id.as_str())
    }

    /// The login name others are shown: the `username` claim, else the display name.
    pub fn login_name(&self) -> &str {
        self.username.as_deref().unwrap_or_else(|| self.display_name())
    }
}

impl From<&Identity> for Author {
    fn from(identity: &Identity) -> Self {
        Self {
            id: identity.user.clone(),
            name: identity.name.clone(),
            username: identity.username.clone(),
            picture: identity.picture.clone(),
        }
    }
}

/// A message as it is kept.
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// Its author.
    pub author: Author,
    /// The author's own id for it (sechat `messageId`, famly `clientId`, chatgenius `tempId`, …).
    pub client_id: Option<Arc<str>>,
    /// The text, unchanged.
    pub body: Arc<str>,
    /// The author's metadata object, unread.
    pub metadata: Option<RawJson>,
    /// Fields only the author's dialect knows (lingochat languages, chatgenius replyToId), unread.
    pub extra: Option<RawJson>,
    /// The trace it is part of, if it is traced: its delivery is a child of that span.
    pub trace: Option<Box<TraceContext>>,
}

/// What an entry says.
#[derive(Clone, PartialEq, Debug)]
pub enum Record {
    /// A message (conversation logs).
    Message(Message),
    /// A reaction to the message at `target` (conversation logs).
    Reaction {
        /// Who reacted.
        author: Author,
        /// Sequence of the message.
        target: u64,
        /// The emoji or reaction word.
        kind: Arc<str>,
        /// `true` added, `false` removed.
        added: bool,
    },
    /// Members changed (conversation logs).
    Members {
        /// Who came.
        added: Vec<UserId>,
        /// Who went.
        removed: Vec<UserId>,
        /// Who did it; `None` for the server API.
        by: Option<UserId>,
    },
    /// The title changed (conversation logs).
    Title {
        /// The new title.
        title: Option<Arc<str>>,
        /// Who did it; `None` for the server API.
        by: Option<UserId>,
    },
    /// Entries `from..=to` were lost to a fault: their readers must be told (conversation logs).
    Lost {
        /// First lost sequence.
        from: u64,
        /// Last lost sequence.
        to: u64,
    },
    /// The conversation was deleted; nothing follows (conversation logs).
    Deleted,
    /// The user became a member of a conversation: read its log after `since` (user feeds).
    Invited {
        /// Which conversation.
        conversation: ConversationId,
        /// The log's head at the join.
        since: u64,
    },
    /// An application event: a notification in a user feed, or an event of a channel.
    App {
        /// The event's type (`notification`, `feed_update`, `count_update`, …).
        kind: Arc<str>,
        /// Its payload, unread.
        payload: RawJson,
        /// As of a message.
        trace: Option<Box<TraceContext>>,
    },
    /// The user marked a notification (or, with `None`, all) as read (user feeds).
    NotificationRead {
        /// Which notification.
        id: Option<Arc<str>>,
    },
}

impl Record {
    /// Where the trace of what people and applications sent goes on, if it is traced.
    pub fn trace(&self) -> Option<&TraceContext> {
        match self {
            Self::Message(Message { trace, .. }) | Self::App { trace, .. } => trace.as_deref(),
            _ => None,
        }
    }
}

/// One entry of a log.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// Position in the log, dense from 1.
    pub seq: u64,
    /// The log's epoch.
    pub epoch: u32,
    /// When it was appended (the engine's clock, never running backwards within a log).
    pub at: Time,
    /// The time of the entry before it: with `seq` it chains entries, so that a stale publish is noticed.
    pub prev_at: Time,
    /// Its id; user feeds and application channels have a number too.
    pub id: MessageId,
    /// What it says.
    pub record: Record,
}
