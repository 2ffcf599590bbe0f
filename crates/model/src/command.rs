//! What a client asks, in canonical form.

use std::sync::Arc;

use crate::{Channel, ConversationId, MessageId, RawJson, Status, UserId};

/// A decoded request: the command, and whom the frame claims to come from.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// What is asked.
    pub command: Command,
    /// A user or session id the frame itself names as its author. It counts for nothing but a
    /// comparison with the token's subject: a difference is refused as FORBIDDEN.
    pub claimed: Option<String>,
}

/// What a client can ask.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// Names the session, optionally with a token (sechat `register_session`, socialhub `connect`).
    Register(Register),
    /// Sends a message.
    Send(Send),
    /// Starts, refreshes or stops typing.
    Typing(TypingChange),
    /// Says that messages were delivered or read.
    Receipt(Receipt),
    /// Sets the connection's presence status.
    Presence(PresenceChange),
    /// Keeps the presence alive.
    Ping,
    /// Subscribes to a channel.
    Subscribe(Channel),
    /// Ends a subscription.
    Unsubscribe(Channel),
    /// Marks one notification, or all, as read.
    NotificationRead {
        /// Which one; `None` for all.
        id: Option<Arc<str>>,
    },
    /// Asks for what was queued while the user was away (sechat `request_queued_events`).
    QueuedEvents,
    /// The client says that it is going.
    Disconnect,
}

/// See [`Command::Register`].
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Register {
    /// A token presented now: the first, or a fresh one.
    pub token: Option<String>,
}

/// See [`Command::Send`].
#[derive(Clone, PartialEq, Debug)]
pub struct Send {
    /// Where to.
    pub conversation: ConversationId,
    /// The client's own id: the dedupe key together with sender and conversation.
    pub client_id: Option<Arc<str>>,
    /// The text.
    pub body: Arc<str>,
    /// Recipients named by the sender: members of a conversation that this message creates.
    pub to: Vec<UserId>,
    /// Client metadata, unread.
    pub metadata: Option<RawJson>,
    /// Fields only the dialect knows, unread.
    pub extra: Option<RawJson>,
}

/// See [`Command::Typing`].
#[derive(Clone, PartialEq, Debug)]
pub struct TypingChange {
    /// Where.
    pub conversation: ConversationId,
    /// `true` starts or refreshes, `false` stops.
    pub on: bool,
    /// Whom to tell; empty = every other member.
    pub to: Vec<UserId>,
}

/// The two kinds of receipt, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub enum ReceiptKind {
    /// The message reached a device.
    Delivered,
    /// The message was seen.
    Read,
}

/// See [`Command::Receipt`].
#[derive(Clone, PartialEq, Debug)]
pub struct Receipt {
    /// Delivered or read.
    pub kind: ReceiptKind,
    /// Which messages.
    pub target: ReceiptTarget,
}

/// How a receipt names its messages.
#[derive(Clone, PartialEq, Debug)]
pub enum ReceiptTarget {
    /// By the author's own id for one message (sechat).
    ClientId {
        /// The author.
        author: UserId,
        /// The author's id for it; or a server id, when the author's dialect has none.
        id: Arc<str>,
    },
    /// By server ids, all in one conversation.
    Ids {
        /// Where, when the frame says so; checked against the ids.
        conversation: Option<ConversationId>,
        /// Which. Never empty unless `conversation` is given.
        ids: Vec<MessageId>,
    },
}

/// See [`Command::Presence`].
#[derive(Clone, PartialEq, Debug)]
pub struct PresenceChange {
    /// The connection's new status.
    pub status: Status,
}
