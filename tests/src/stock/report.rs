//! What a stock socket reports.

use serde::Deserialize;
use serde_json::Value;

/// A report, in the order in which the library gave it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "on", rename_all = "snake_case")]
pub enum Report {
    /// The namespace is connected.
    Connect(Connected),
    /// An event arrived.
    Event(Event),
    /// An emitted event was acknowledged, or will not be.
    Ack {
        /// The number under which it was emitted.
        tag: u64,
        /// What the server answered.
        args: Option<Vec<Value>>,
        /// Why there is no answer.
        error: Option<String>,
    },
    /// The socket is no longer connected.
    Disconnect {
        /// Why, in the library's words.
        reason: String,
    },
    /// The server or the network refused.
    ConnectError(Refused),
    /// The connection goes on over another transport.
    Upgrade {
        /// Which.
        transport: String,
    },
    /// The library tries to connect again.
    ReconnectAttempt {
        /// The how manieth try it is.
        attempt: u64,
    },
}

/// A connected namespace.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Connected {
    /// The Socket.IO session id.
    pub sid: String,
    /// Whether the server took up the session from before.
    pub recovered: bool,
    /// The transport at this moment.
    pub transport: String,
}

/// An event that arrived.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its arguments; a server with connection state recovery adds the event's offset as the last.
    pub args: Vec<Value>,
    /// Under which number [`super::StockSocket::answer`] acknowledges it, when the server asks for that.
    pub ack: Option<u64>,
}

/// A connection that was not made.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Refused {
    /// The message of the error.
    pub message: String,
    /// What the server said further in a CONNECT_ERROR.
    pub data: Option<Value>,
    /// The HTTP status, when a polling request was refused.
    pub status: Option<u16>,
    /// The HTTP body, when a polling request was refused.
    pub body: Option<String>,
}
