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
    /// Its id as this dialect names it: the author's own (sechat) or the server's (socialhub).
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
    /// The socket is open.
    Connected,
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
    },
    /// Every frame as it came, if [`crate::Options::raw`] asks for it; before what it means.
    Raw(Value),
}

/// What can be said to a server.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Outgoing {
    Hello,
    Message { id: String, conversation: String, body: String, to: Vec<String>, metadata: Option<Value> },
    Typing { conversation: String, to: Vec<String>, on: bool },
    Receipt { kind: ReceiptKind, conversation: String, id: String, author: String },
    Subscribe { channel: String },
    Unsubscribe { channel: String },
    Presence { status: Status },
    Keepalive,
    RequestQueued,
    Raw(Value),
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
}

impl Refusal {
    /// Whether the same message may pass later.
    pub(crate) fn may_pass_later(&self) -> bool {
        self.retry_after_ms.is_some()
            || matches!(self.code.as_str(), "RATE_LIMITED" | "SERVICE_UNAVAILABLE" | "INTERNAL_ERROR")
    }

    /// Whether it is the user that is refused, and not what was said.
    pub(crate) fn is_about_the_user(&self) -> bool {
        matches!(self.code.as_str(), "UNAUTHORIZED" | "MISSING_TOKEN" | "INVALID_TOKEN" | "TOKEN_EXPIRED")
    }
}
