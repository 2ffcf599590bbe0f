//! What a client asks, in canonical form.

use std::sync::Arc;

use crate::{Channel, ConversationId, MessageId, RawJson, Status, Time, UserId};

/// A decoded request: the command, and whom the frame claims to come from.
#[derive(Clone, PartialEq, Debug)]
pub struct Request {
    /// What is asked.
    pub command: Command,
    /// A user or session id the frame itself names as its author. It counts for nothing but a
    /// comparison with the token's subject: a difference is refused as FORBIDDEN.
    pub claimed: Option<String>,
    /// The conversation's integer id, where the frame names it so (lingochat). The command then carries the
    /// digits as a stand-in, to be replaced by the conversation that has the number.
    pub number: Option<u32>,
}

impl Request {
    /// A request whose frame names no conversation by number.
    pub const fn new(command: Command, claimed: Option<String>) -> Self {
        Self { command, claimed, number: None }
    }
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
    /// Enters a conversation's room (famly `room:join`, lingochat `conversation:join` / `room:join`, chatgenius
    /// `channel:join`).
    Join {
        /// Which.
        conversation: ConversationId,
        /// How it is heard from then on.
        role: Role,
    },
    /// Leaves a conversation's room; membership stays.
    Leave {
        /// Which.
        conversation: ConversationId,
    },
    /// Adds or removes a reaction.
    React(React),
    /// Reads a conversation's messages after a point (lingochat `messages:sync`).
    History(History),
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
    /// Everything up to one message, which may be the reader's own (famly's read cursor).
    UpTo {
        /// Where.
        conversation: ConversationId,
        /// The last message read.
        id: MessageId,
    },
}

/// How a connection hears a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, Default)]
pub enum Role {
    /// As a member who has not entered the room: only what concerns members (famly notifications, lingochat
    /// receipts of own messages).
    Member,
    /// From inside the room.
    #[default]
    Joined,
    /// From inside the room, in the words of a group room (lingochat `room:*`).
    Group,
}

/// See [`Command::React`].
#[derive(Clone, PartialEq, Debug)]
pub struct React {
    /// To which message.
    pub message: MessageId,
    /// Emoji or reaction word.
    pub kind: Arc<str>,
    /// `true` adds, `false` removes.
    pub added: bool,
}

/// See [`Command::History`].
#[derive(Clone, PartialEq, Debug)]
pub struct History {
    /// Where.
    pub conversation: ConversationId,
    /// From where on.
    pub since: Since,
}

/// Where a history begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Since {
    /// With the oldest message kept.
    Beginning,
    /// After this message.
    Message(MessageId),
    /// With messages of this time and later.
    Time(Time),
}

/// See [`Command::Presence`].
#[derive(Clone, PartialEq, Debug)]
pub struct PresenceChange {
    /// The connection's new status.
    pub status: Status,
}

impl Command {
    /// The conversation the command itself names.
    pub const fn conversation(&self) -> Option<&ConversationId> {
        match self {
            Self::Send(send) => Some(&send.conversation),
            Self::Typing(typing) => Some(&typing.conversation),
            Self::Join { conversation, .. } | Self::Leave { conversation } => Some(conversation),
            Self::History(history) => Some(&history.conversation),
            Self::Receipt(receipt) => match &receipt.target {
                ReceiptTarget::Ids { conversation, .. } => conversation.as_ref(),
                ReceiptTarget::UpTo { conversation, .. } => Some(conversation),
                ReceiptTarget::ClientId { .. } => None,
            },
            Self::Subscribe(Channel::Conversation(id)) | Self::Unsubscribe(Channel::Conversation(id)) => {
                Some(id)
            }
            _ => None,
        }
    }

    /// The conversation the command itself names.
    pub fn conversation_mut(&mut self) -> Option<&mut ConversationId> {
        match self {
            Self::Send(send) => Some(&mut send.conversation),
            Self::Typing(typing) => Some(&mut typing.conversation),
            Self::Join { conversation, .. } | Self::Leave { conversation } => Some(conversation),
            Self::History(history) => Some(&mut history.conversation),
            Self::Receipt(receipt) => match &mut receipt.target {
                ReceiptTarget::Ids { conversation, .. } => conversation.as_mut(),
                ReceiptTarget::UpTo { conversation, .. } => Some(conversation),
                ReceiptTarget::ClientId { .. } => None,
            },
            Self::Subscribe(Channel::Conversation(id)) | Self::Unsubscribe(Channel::Conversation(id)) => {
                Some(id)
            }
            _ => None,
        }
    }
}
