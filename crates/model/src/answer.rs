//! What a client is answered: success ([`Answer`]) or refusal ([`Reject`]).

use std::borrow::Cow;
use std::sync::Arc;

use crate::{ConversationId, Event, MessageEvent, MessageId, Time, UserId};

/// A positive answer to a command.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// Done; nothing more to say.
    Done,
    /// The session is registered.
    Registered {
        /// The token's subject.
        user: UserId,
    },
    /// A message is in the log.
    Accepted(Accepted),
    /// Subscribed to (or unsubscribed from) the channel of this name.
    Channel(String),
    /// What was queued, oldest first.
    Queued(Vec<Arc<Event>>),
    /// A receipt was taken (also when the cursor stood further already).
    Receipted {
        /// When the cursor moved.
        at: Time,
    },
    /// The connection hears its conversations now: these it is inside of (chatgenius `connection:success`).
    Welcome {
        /// The token's subject.
        user: UserId,
        /// The conversations it was put into.
        conversations: Vec<ConversationId>,
    },
    /// A reaction stands, or is gone (also when it was so already).
    Reacted(Option<Arc<Event>>),
    /// A part of a conversation's history.
    History(HistoryPage),
    /// A keepalive was heard.
    Pong {
        /// The server's time.
        at: Time,
    },
}

/// See [`Answer::Accepted`].
#[derive(Clone, PartialEq, Debug)]
pub struct Accepted {
    /// The message's id.
    pub id: MessageId,
    /// Its sequence in the conversation.
    pub seq: u64,
    /// When it was appended.
    pub at: Time,
    /// The client's own id for it.
    pub client_id: Option<Arc<str>>,
    /// `false` when it was in the log already: a resend.
    pub fresh: bool,
}

/// See [`Answer::History`].
#[derive(Clone, PartialEq, Debug, Default)]
pub struct HistoryPage {
    /// Messages, oldest first.
    pub messages: Vec<MessageEvent>,
    /// Whether there are more after them.
    pub more: bool,
}

/// Why a command is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum RejectCode {
    /// Not a frame of the dialect at all (not JSON, not an object, no type).
    Malformed,
    /// A frame of an unknown type.
    UnknownEvent,
    /// A required field is missing.
    MissingField,
    /// A field has the wrong type or value.
    InvalidField,
    /// No such channel.
    UnknownChannel,
    /// Not authenticated.
    Unauthenticated,
    /// The token presented is not valid.
    InvalidToken,
    /// The token has expired.
    TokenExpired,
    /// The token expires before long: a word ahead, nothing is refused yet.
    TokenExpiring,
    /// Not allowed.
    Forbidden,
    /// The application's backend does not allow it.
    Denied,
    /// No such message or conversation.
    NotFound,
    /// Too many of these in the window.
    RateLimited,
    /// The body (or another part) is too large.
    TooLarge,
    /// Too many connections of this user.
    TooManyConnections,
    /// Too many of something a connection may hold (subscriptions).
    LimitReached,
    /// The same is being carried out right now.
    InProgress,
    /// Temporarily unavailable: try again.
    Unavailable,
    /// The operator switched sending off for a while: try again.
    Maintenance,
    /// A fault of ours.
    Internal,
}

/// A refusal. Loses nothing but the command it answers.
#[derive(Clone, PartialEq, Debug)]
pub struct Reject {
    /// Why.
    pub code: RejectCode,
    /// For people.
    pub message: Cow<'static, str>,
    /// When a retry may succeed.
    pub retry_after_ms: Option<u64>,
    /// The field it is about.
    pub field: Option<Cow<'static, str>>,
    /// For logs and support: the same id stands in the log line.
    pub correlation_id: Option<Arc<str>>,
}

impl Reject {
    /// A refusal with a message.
    pub fn new(code: RejectCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None, field: None, correlation_id: None }
    }

    /// About one field.
    #[must_use]
    pub fn field(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// With the time after which a retry may succeed.
    #[must_use]
    pub fn retry_after(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }
}
