//! Socket.IO version 5, sans-IO: packets in, packets out, binary attachments gathered.
//!
//! Texts here are Socket.IO packets, without the digit `4` of the Engine.IO message around them.
//!
//! Owns: the packets' text form and validity. Must not know: namespaces that exist, who is connected, events.

mod decode;
mod encode;
mod placeholders;
mod read;

pub use decode::Decoder;
pub use encode::{ack, binary_ack, binary_event, connect, connect_error, disconnect, event_text};
pub use read::{arguments, event};

use bytes::Bytes;
use serde_json::value::RawValue;

/// The namespace a packet means when it names none.
pub const MAIN: &str = "/";

/// A packet's type; its digit is the discriminant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// A client joins a namespace, or the server's consent.
    Connect = 0,
    /// One side leaves a namespace.
    Disconnect = 1,
    /// An event.
    Event = 2,
    /// The answer to an event with an id.
    Ack = 3,
    /// The server refuses a CONNECT.
    ConnectError = 4,
    /// An event with attachments.
    BinaryEvent = 5,
    /// An answer with attachments.
    BinaryAck = 6,
}

impl Kind {
    /// The digit's type.
    pub const fn from_digit(digit: u8) -> Option<Self> {
        Some(match digit {
            b'0' => Self::Connect,
            b'1' => Self::Disconnect,
            b'2' => Self::Event,
            b'3' => Self::Ack,
            b'4' => Self::ConnectError,
            b'5' => Self::BinaryEvent,
            b'6' => Self::BinaryAck,
            _ => return None,
        })
    }

    /// The digit.
    pub const fn digit(self) -> char {
        (b'0' + self as u8) as char
    }

    /// Whether attachments follow.
    pub const fn is_binary(self) -> bool {
        matches!(self, Self::BinaryEvent | Self::BinaryAck)
    }

    /// Whether it is an event, with or without attachments.
    pub const fn is_event(self) -> bool {
        matches!(self, Self::Event | Self::BinaryEvent)
    }

    /// Whether it is an answer, with or without attachments.
    pub const fn is_ack(self) -> bool {
        matches!(self, Self::Ack | Self::BinaryAck)
    }
}

/// A complete packet.
///
/// Well formed is not yet allowed: the receiver closes the connection on a CONNECT of a namespace already
/// joined and on anything else of one not joined, and ignores an ack whose id it does not await. An event
/// without data (`2`) has no name and means nothing; the reference ignores it.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Its type.
    pub kind: Kind,
    /// The namespace, [`MAIN`] when the packet names none. As written: since protocol 5 a `?query` is part of
    /// the name and makes it one that does not exist.
    pub namespace: String,
    /// The ack id. 0 is one.
    pub id: Option<u64>,
    /// The payload. Binary packets keep their placeholders; each names an attachment there is.
    pub data: Option<Box<RawValue>>,
    /// The attachments, in order.
    pub attachments: Vec<Bytes>,
}

/// A packet no client may send. The connection is closed without an answer, for all its namespaces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed(pub(crate) &'static str);

impl Malformed {
    /// What is wrong, for logs and metrics.
    pub const fn reason(self) -> &'static str {
        self.0
    }
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}
