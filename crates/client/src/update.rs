//! The client's own words: what the application is told ([`Update`]), what is said to a server
//! ([`Outgoing`]) and what a server said ([`Incoming`]). No JSON names here: those are the dialects'.

use parlance_model::{ReceiptKind, Status, Time};
use serde_json::Value;

use crate::MessageState;

/// A message of a conversation.
#[derive(Clone, PartialEq, Debug)]
pub struct Message {
    /// Where.
    pub conversation: String,
    /// Its id as this dialect names it: the author's own (sechat) or the server's (the others).
    pub id: String,
    /// The id its author's client gave it, when the server passes it on.
    pub client_id: Option<String>,
    /// Who wrote it.
    pub from: String,
    /// The text.
    pub body: String,
    /// The server's time.
    pub at: Option<Time>,
    /// It waited on the server while the user was away.
    pub queued: bool,
    /// The user's sequence number, in dialects that count.
    pub seq: Option<u64>,
    /// The id [`crate::Client::send`] returned, when this is the echo of a message sent from here.
    pub local_id: Option<String>,
    /// What its author's client said about it.
    pub metadata: Option<Value>,
}

/// What an application hears.
#[derive(Clone, PartialEq, Debug)]
pub enum Update {
    /// The server has let us in.
    Connected,
    /// After [`Self::Connected`]: the server took up the lost connection where it ended; nothing was missed.
    Recovered,
    /// The socket is gone; the client comes back by itself.
    Disconnected {
        /// What happened.
        reason: String,
        /// The WebSocket close code, when there was one.
        code: Option<u16>,
    },
    /// The server will not have this user; the client has stopped.
    Refused {
        /// The HTTP status, or 401 for a refusal on an open socket.
        status: u16,
        /// What the server said.
        reason: String,
    },
    /// A message, shown once however often it arrives.
    Message(Message),
    /// One of the client's own messages moved on.
    State {
        /// What [`crate::Client::send`] returned.
        local_id: String,
        /// Where it is now.
        state: MessageState,
    },
    /// Somebody started or stopped typing.
    Typing {
        /// Where; empty when the server does not say.
        conversation: String,
        /// Who.
        user: String,
        /// Started or stopped.
        on: bool,
    },
    /// Somebody came, went, or changed status.
    Presence {
        /// Who.
        user: String,
        /// How they are now.
        status: Status,
    },
    /// Somebody received or read messages.
    Receipt {
        /// Which of the two.
        kind: ReceiptKind,
        /// Where, when the server says so.
        conversation: Option<String>,
        /// Which, as this dialect names them.
        ids: Vec<String>,
        /// Who, when the server says so.
        by: Option<String>,
    },
    /// Somebody reacted to a message, or took that back.
    Reaction {
        /// The message, as this dialect names it.
        message: String,
        /// The reaction.
        kind: String,
        /// Who.
        user: String,
        /// Reacted or took it back.
        on: bool,
    },
    /// The server has put us into a channel we asked for, in dialects that answer that: from here on nothing
    /// said there is missed.
    Joined {
        /// As it was subscribed to.
        channel: String,
    },
    /// Somebody came into a conversation, or left it.
    Member {
        /// Where; empty when the server does not say.
        conversation: String,
        /// Who.
        user: String,
        /// Came or left.
        joined: bool,
    },
    /// A notification.
    Notification(Value),
    /// An event this client has no word for.
    App {
        /// Its type.
        kind: String,
        /// The channel, when it has one.
        channel: Option<String>,
        /// The whole frame or its payload.
        payload: Value,
    },
    /// Sending is off for a while.
    Maintenance {
        /// What the server says about it.
        message: String,
    },
    /// The server refused something.
    Error {
        /// The dialect's code.
        code: String,
        /// For people.
        message: String,
        /// The message it is about, when it is about one of ours.
        local_id: Option<String>,
        /// Under which the server's log has it, in dialects that say so.
        correlation_id: Option<String>,
    },
    /// Every frame as it came, if [`crate::Options::raw`] asks for it; before what it means.
    /// Over Socket.IO an event is an array: its name and its arguments.
    Raw(Value),
}

/// What can be said to a server.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Outgoing {
    Hello,
    Message {
        id: String,
        conversation: String,
        body: String,
        to: Vec<String>,
        metadata: Option<Value>,
    },
    Typing {
        conversation: String,
        to: Vec<String>,
        on: bool,
    },
    Receipt {
        kind: ReceiptKind,
        conversation: String,
        id: String,
        author: String,
    },
    Subscribe {
        channel: String,
    },
    Unsubscribe {
        channel: String,
    },
    Presence {
        status: Status,
    },
    Keepalive,
    RequestQueued,
    React {
        message: String,
        kind: String,
        on: bool,
    },
    /// What was said in a conversation since a message (its id) or a time.
    Sync {
        conversation: String,
        since: String,
    },
    Raw(Value),
}

/// What an acknowledgement answers.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Ask {
    /// A message of ours.
    Message { id: String },
    /// [`Outgoing::Sync`].
    Sync { conversation: String },
    /// To be let into a channel.
    Join { channel: String },
    /// Anything else: only a refusal matters.
    Word,
}

impl Ask {
    /// The message of ours it was about.
    pub(crate) fn local_id(&self) -> Option<String> {
        match self {
            Self::Message { id } => Some(id.clone()),
            Self::Sync { .. } | Self::Join { .. } | Self::Word => None,
        }
    }
}

/// What a server can have said.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Incoming {
    /// Accepted: the message `local_id`, under `server_id` where the dialect gives it another.
    Acked {
        local_id: String,
        server_id: Option<String>,
    },
    /// Refused.
    Refused(Refusal),
    Message(Message),
    Receipt {
        kind: ReceiptKind,
        conversation: Option<String>,
        ids: Vec<String>,
        by: Option<String>,
        /// What is older counts as well.
        is_cursor: bool,
    },
    /// Our message came further; nothing is said about where.
    Progress {
        id: String,
        state: MessageState,
    },
    Typing {
        conversation: String,
        user: String,
        on: bool,
    },
    Presence {
        user: String,
        status: Status,
    },
    Reaction {
        message: String,
        kind: String,
        user: String,
        on: bool,
    },
    Member {
        conversation: String,
        user: String,
        joined: bool,
    },
    /// The server is about to end the connection, for a reason that passes or not.
    Closing {
        message: String,
        passes: bool,
    },
    /// The conversations the server has put us into by itself.
    Welcome {
        conversations: Vec<String>,
    },
    /// The answer to [`Outgoing::Sync`], oldest first. `more`: there is more where it came from.
    Synced {
        conversation: String,
        messages: Vec<Message>,
        more: bool,
    },
    Notification(Value),
    Maintenance {
        message: String,
    },
    App {
        kind: String,
        channel: Option<String>,
        payload: Value,
    },
    /// An answer that changes nothing.
    Nothing,
}

/// See [`Incoming::Refused`].
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Refusal {
    pub code: String,
    pub message: String,
    /// The message it is about, when the frame says so.
    pub local_id: Option<String>,
    /// It is about some message we sent, whichever.
    pub is_send: bool,
    pub retry_after_ms: Option<u64>,
    pub correlation_id: Option<String>,
    /// An acknowledgement, if one is due, says the same and more.
    pub is_echo: bool,
}

impl Refusal {
    /// Whether the same message may pass later.
    pub(crate) fn may_pass_later(&self) -> bool {
        self.retry_after_ms.is_some()
            || matches!(
                self.code.as_str(),
                "RATE_LIMITED" | "SERVICE_UNAVAILABLE" | "INTERNAL_ERROR" | "INTERNAL" | "BUSY"
            )
    }

    /// Whether too much was said: the server is there and will take it, however often we have asked.
    pub(crate) fn is_about_the_pace(&self) -> bool {
        self.code == "RATE_LIMITED"
    }

    /// Whether it is the user that is refused, and not what was said.
    pub(crate) fn is_about_the_user(&self) -> bool {
        matches!(self.code.as_str(), "UNAUTHORIZED" | "MISSING_TOKEN" | "INVALID_TOKEN" | "TOKEN_EXPIRED")
    }
}
