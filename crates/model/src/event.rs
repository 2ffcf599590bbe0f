//! What a client can be told, in canonical form. A dialect may have no word for an event.

use std::sync::Arc;

use crate::{
    Author, ConversationId, ConversationKind, Message, MessageId, RawJson, ReceiptKind, Status, Time, UserId,
};

/// What clients can be told.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// A message reached a conversation. `queued` = replayed to a user who was away.
    Message(MessageEvent),
    /// One message of yours was delivered or read: for the author's connections.
    Receipt(MessageReceipt),
    /// A member's cursor moved: for the whole conversation.
    Cursor(CursorMoved),
    /// Somebody started or stopped typing.
    Typing(TypingEvent),
    /// A user's presence changed.
    Presence(PresenceEvent),
    /// A reaction came or went.
    Reaction(ReactionEvent),
    /// Somebody entered or left a conversation's room.
    Room(RoomEvent),
    /// Members or title changed.
    Conversation(ConversationChanged),
    /// A notification for one user.
    Notification(NotificationEvent),
    /// A notification was read on another device.
    NotificationRead(NotificationRead),
    /// An application event of a channel.
    App(AppEvent),
    /// Maintenance begins or ends.
    Maintenance(MaintenanceNotice),
    /// Entries were missed and cannot be replayed: reload the conversation.
    Resync(Resync),
}

impl Event {
    /// The user who brought it about, where others hear it otherwise than the user's own connections.
    pub const fn author(&self) -> Option<&UserId> {
        match self {
            Self::Message(event) => Some(&event.message.author.id),
            Self::Typing(event) => Some(&event.author.id),
            Self::Reaction(event) => Some(&event.author.id),
            Self::Room(event) => Some(&event.author.id),
            _ => None,
        }
    }
}

/// A message, by server id and by the author's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessageRef {
    /// Server id.
    pub id: MessageId,
    /// When it was appended.
    pub at: Time,
    /// The author's own id.
    pub client_id: Option<Arc<str>>,
    /// The author.
    pub author: UserId,
}

/// See [`Event::Message`].
#[derive(Clone, PartialEq, Debug)]
pub struct MessageEvent {
    /// Where.
    pub conversation: ConversationId,
    /// The conversation's integer id.
    pub number: u32,
    /// Its id.
    pub id: MessageId,
    /// Its sequence in the conversation.
    pub seq: u64,
    /// When it was appended.
    pub at: Time,
    /// The message.
    pub message: Message,
    /// Replayed to a user who was away.
    pub queued: bool,
}

/// See [`Event::Receipt`].
#[derive(Clone, PartialEq, Debug)]
pub struct MessageReceipt {
    /// Where.
    pub conversation: ConversationId,
    /// The message.
    pub message: MessageRef,
    /// Delivered or read.
    pub kind: ReceiptKind,
    /// By whom.
    pub by: UserId,
    /// When.
    pub at: Time,
}

/// See [`Event::Cursor`].
#[derive(Clone, PartialEq, Debug)]
pub struct CursorMoved {
    /// Where.
    pub conversation: ConversationId,
    /// Delivered or read.
    pub kind: ReceiptKind,
    /// Whose cursor.
    pub by: UserId,
    /// When.
    pub at: Time,
    /// The messages of others the cursor passed, oldest first (the newest 256 of them).
    pub messages: Vec<MessageRef>,
    /// The newest message it passed, the reader's own included.
    pub last: Option<MessageRef>,
}

/// See [`Event::Typing`].
#[derive(Clone, PartialEq, Debug)]
pub struct TypingEvent {
    /// Where.
    pub conversation: ConversationId,
    /// The conversation's integer id; 0 when it does not exist yet.
    pub number: u32,
    /// Who.
    pub author: Author,
    /// Started or stopped.
    pub on: bool,
    /// When.
    pub at: Time,
}

/// See [`Event::Presence`].
#[derive(Clone, PartialEq, Debug)]
pub struct PresenceEvent {
    /// Who.
    pub user: UserId,
    /// The status now.
    pub status: Status,
    /// When the user was last heard of.
    pub last_seen: Time,
    /// When it changed.
    pub at: Time,
}

/// See [`Event::Reaction`].
#[derive(Clone, PartialEq, Debug)]
pub struct ReactionEvent {
    /// Where.
    pub conversation: ConversationId,
    /// The conversation's integer id.
    pub number: u32,
    /// The reaction's sequence in the conversation.
    pub seq: u64,
    /// Who reacted.
    pub author: Author,
    /// To which message.
    pub message: MessageId,
    /// When that message was appended.
    pub message_at: Time,
    /// Emoji or reaction word.
    pub kind: Arc<str>,
    /// Added or removed.
    pub added: bool,
    /// The reaction's own id (its log entry).
    pub id: MessageId,
    /// When.
    pub at: Time,
}

/// See [`Event::Room`].
#[derive(Clone, PartialEq, Debug)]
pub struct RoomEvent {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Its integer id.
    pub number: u32,
    /// Who.
    pub author: Author,
    /// Entered or left.
    pub present: bool,
    /// It was the user's first connection in, or the last one out.
    pub flipped: bool,
    /// The client asked for it itself.
    pub explicit: bool,
    /// When.
    pub at: Time,
}

/// See [`Event::Conversation`].
#[derive(Clone, PartialEq, Debug)]
pub struct ConversationChanged {
    /// Which.
    pub conversation: ConversationId,
    /// Its integer id.
    pub number: u32,
    /// The change's sequence in its log.
    pub seq: u64,
    /// Its kind.
    pub kind: ConversationKind,
    /// Its title now.
    pub title: Option<Arc<str>>,
    /// Its members now.
    pub members: Vec<UserId>,
    /// Who came.
    pub added: Vec<UserId>,
    /// Who went.
    pub removed: Vec<UserId>,
    /// Who created it.
    pub created_by: Option<UserId>,
    /// When it was created.
    pub created_at: Time,
    /// When it changed.
    pub at: Time,
}

/// See [`Event::Notification`].
#[derive(Clone, PartialEq, Debug)]
pub struct NotificationEvent {
    /// The entry's id in the user's feed.
    pub id: MessageId,
    /// When.
    pub at: Time,
    /// The event's type; `notification` unless the backend says otherwise.
    pub kind: Arc<str>,
    /// The backend's payload, passed through.
    pub payload: RawJson,
}

/// See [`Event::NotificationRead`].
#[derive(Clone, PartialEq, Debug)]
pub struct NotificationRead {
    /// The entry's id in the user's feed.
    pub id: MessageId,
    /// Which notification; `None` for all.
    pub notification: Option<Arc<str>>,
    /// When.
    pub at: Time,
}

/// See [`Event::App`].
#[derive(Clone, PartialEq, Debug)]
pub struct AppEvent {
    /// The entry's id in the channel's log.
    pub id: MessageId,
    /// The channel.
    pub channel: Arc<str>,
    /// The event's type (`feed_update`, `count_update`, …).
    pub kind: Arc<str>,
    /// The backend's payload, passed through.
    pub payload: RawJson,
    /// When.
    pub at: Time,
}

/// See [`Event::Maintenance`].
#[derive(Clone, PartialEq, Debug)]
pub struct MaintenanceNotice {
    /// Begins or ends.
    pub enabled: bool,
    /// For people.
    pub message: Arc<str>,
    /// Seconds until a retry makes sense.
    pub retry_after: u64,
    /// When.
    pub at: Time,
}

/// See [`Event::Resync`].
#[derive(Clone, PartialEq, Debug)]
pub struct Resync {
    /// Which conversation.
    pub conversation: ConversationId,
    /// Its integer id.
    pub number: u32,
    /// First sequence that cannot be replayed.
    pub from: u64,
    /// Last one.
    pub to: u64,
    /// When this was noticed.
    pub at: Time,
}
