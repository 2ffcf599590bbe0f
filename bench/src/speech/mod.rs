//! What is said over a connection, one file for each protocol: how one comes in, joins a room, sends a numbered
//! message, and how what arrives is told apart without parsing it.
//!
//! Must not know: connections, what is measured.

mod centrifugo;
mod chatgenius;
mod famly;
mod floor;
mod lingochat;
mod peer;
mod sechat;
mod socialhub;

use anyhow::{Result, bail};
use memchr::memmem;

/// How a protocol is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Texts of a raw WebSocket.
    Raw,
    /// Packets of Socket.IO.
    SocketIo,
}

/// Who speaks.
#[derive(Debug, Clone, Default)]
pub struct Speaker {
    /// The user.
    pub user: String,
    /// A token of the user.
    pub token: String,
}

/// Socket.IO's recovery after a cut.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// The secret that the session is found by.
    pub pid: Option<String>,
    /// The last event one had.
    pub offset: Option<String>,
    /// Whether the session was found.
    pub recovered: bool,
}

impl Recovery {
    /// As it stands in CONNECT, with a comma behind.
    pub fn fields(&self) -> String {
        let mut fields = String::new();
        for (name, value) in [("pid", &self.pid), ("offset", &self.offset)] {
            if let (Some(value), true) = (value, self.pid.is_some()) {
                fields.push_str(&format!("\"{name}\":\"{value}\","));
            }
        }
        fields
    }
}

/// A message to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Say<'a> {
    /// The sender.
    pub user: &'a str,
    /// Where to.
    pub room: &'a str,
    /// Who hears it, where a protocol names recipients.
    pub to: &'a [String],
    /// An id of the client's own; it ends with `-` and `number`.
    pub id: &'a str,
    /// Counts the sender's messages from 0; acknowledgements carry it.
    pub number: u64,
    /// The text, with its marker.
    pub text: &'a str,
}

/// What arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// A message, if there is a marker in it.
    Message,
    /// The message with this number was taken; refused when not good.
    Ack {
        /// The sender's number of it.
        number: u64,
        /// Whether it was accepted.
        good: bool,
    },
    /// Somebody types.
    Signal,
    /// The server wants to hear that one is there, in the protocol itself.
    Ping,
    /// An error that belongs to nothing.
    Refused,
    /// Anything else.
    Other,
}

/// What an author is told of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It was delivered.
    Delivered,
    /// It was read.
    Read,
}

/// One protocol.
pub trait Speech: Send + Sync {
    /// How it is carried.
    fn framing(&self) -> Framing;
    /// Where it is mounted by default.
    fn path(&self) -> &'static str;
    /// Whether the token goes into the query.
    fn token_in_query(&self) -> bool {
        self.framing() == Framing::Raw
    }
    /// What to say first; nothing when the connection itself is enough.
    fn hello(&self, speaker: &Speaker, recovery: &Recovery) -> Option<String> {
        let token = &speaker.token;
        (self.framing() == Framing::SocketIo)
            .then(|| format!("0{{{}\"token\":\"{token}\"}}", recovery.fields()))
    }
    /// Whether this packet says that one is in; an error when it says that one is not.
    fn admitted(&self, packet: &[u8]) -> Result<bool> {
        if packet.starts_with(b"4") {
            bail!("refused: {}", excerpt(packet));
        }
        Ok(packet.starts_with(b"0{"))
    }
    /// How to join a room, to be answered under this number; nothing where membership is enough.
    fn join(&self, room: &str, number: u64) -> Option<String>;
    /// Whether `packet` answers the join with this number; an error when it was refused.
    fn joined(&self, packet: &[u8], number: u64) -> Result<bool> {
        match socket_io_ack(packet) {
            Some((answered, rest)) if answered == number => {
                if says_no(rest) {
                    bail!("not joined: {}", excerpt(packet));
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }
    /// A message.
    fn message(&self, say: &Say<'_>) -> String;
    /// What arrived.
    fn hear(&self, payload: &[u8]) -> Heard;
    /// Whether a sender in a room hears its own messages there.
    fn echoes(&self) -> bool {
        true
    }
    /// Whether messages are acknowledged.
    fn acks(&self) -> bool {
        true
    }
    /// What `user` answers a message with: that it was delivered, and that it was read.
    fn receipts(&self, _payload: &[u8], _user: &str) -> [Option<String>; 2] {
        [None, None]
    }
    /// What an author is told of a message, and under which id.
    fn told<'a>(&self, _payload: &'a [u8]) -> Option<(Told, &'a str)> {
        None
    }
    /// The id under which an author is told of a message: in its acknowledgement, or its own.
    fn receipt_id<'a>(&self, _ack: &'a [u8]) -> Option<&'a str> {
        None
    }
    /// That one types in a room, or stops.
    fn typing(&self, _room: &str, _user: &str, _to: &[String], _on: bool) -> Option<String> {
        None
    }
    /// What to ask for to hear of this user's coming.
    fn watch(&self, _user: &str, _number: u64) -> Option<String> {
        None
    }
    /// How a ping of the protocol itself is answered; what has one may send several objects in a message, one a line.
    fn pong(&self) -> Option<&'static str> {
        None
    }
    /// Whether the server restores what one had joined before a cut.
    fn restores(&self) -> bool {
        false
    }
    /// Whether rooms are called by numbers.
    fn numbered(&self) -> bool {
        false
    }
}

/// The vocabularies there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Dialect {
    /// Raw, on `/sechat`.
    Sechat,
    /// Socket.IO, on `/sechat/socket.io/`.
    SechatIo,
    /// Socket.IO, on `/lingochat/socket.io/`.
    Lingochat,
    /// Socket.IO, on `/socket.io/`.
    Famly,
    /// Socket.IO, on `/api/socket.io/`.
    Chatgenius,
    /// Raw, on `/ws`.
    Socialhub,
}

impl Dialect {
    /// How it is spoken.
    pub fn speech(self) -> &'static dyn Speech {
        match self {
            Self::Sechat => &sechat::Raw,
            Self::SechatIo => &sechat::Io,
            Self::Lingochat => &lingochat::Lingochat,
            Self::Famly => &famly::Famly,
            Self::Chatgenius => &chatgenius::Chatgenius,
            Self::Socialhub => &socialhub::Socialhub,
        }
    }
}

/// A plain Socket.IO server.
pub const PEER: &dyn Speech = &peer::Peer;
/// Centrifugo.
pub const CENTRIFUGO: &dyn Speech = &centrifugo::Centrifugo;
/// The `write()` floor.
pub const FLOOR: &dyn Speech = &floor::Floor;

/// Acknowledgement ids below this are for joins and the like.
pub const FIRST_ACK: u64 = 16;

/// The id and the arguments of a packet that acknowledges.
pub fn socket_io_ack(packet: &[u8]) -> Option<(u64, &[u8])> {
    let rest = packet.strip_prefix(b"3")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    Some((number, &rest[digits..]))
}

/// The acknowledgement of a message, if the packet is one.
fn message_ack(packet: &[u8]) -> Option<Heard> {
    let (id, rest) = socket_io_ack(packet)?;
    let number = id.checked_sub(FIRST_ACK)?;
    Some(Heard::Ack { number, good: !says_no(rest) })
}

/// Whether an acknowledgement refuses; texts are the load's own and never say so.
fn says_no(answer: &[u8]) -> bool {
    [&b"\"ok\":false"[..], b"\"success\":false", b"\"status\":\"error\"", b"\"error\":"]
        .iter()
        .any(|no| memmem::find(answer, no).is_some())
}

/// The number at the end of the client's own id that stands behind `key`.
fn number_behind(payload: &[u8], key: &[u8]) -> Option<u64> {
    let id = string_behind(payload, key)?;
    id.rsplit('-').next()?.parse().ok()
}

/// The string behind `key` (which ends with the opening quote).
pub fn string_behind<'a>(payload: &'a [u8], key: &[u8]) -> Option<&'a str> {
    let start = memmem::find(payload, key)? + key.len();
    let end = memchr::memchr(b'"', &payload[start..])?;
    std::str::from_utf8(&payload[start..start + end]).ok()
}

/// Whether `what` is in it.
pub fn contains(payload: &[u8], what: &[u8]) -> bool {
    memmem::find(payload, what).is_some()
}

/// The number behind `key`, as digits.
pub fn digits_behind<'a>(payload: &'a [u8], key: &[u8]) -> Option<&'a str> {
    let start = memmem::find(payload, key)? + key.len();
    let digits = payload[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&payload[start..start + digits]).ok().filter(|digits| !digits.is_empty())
}

/// The offset at the end of a Socket.IO event, from which the server replays.
pub fn offset(packet: &[u8]) -> Option<&str> {
    let rest = packet.strip_prefix(b"2[")?.strip_suffix(b"\"]")?;
    let start = memchr::memrchr(b'"', rest)?;
    rest[..start].ends_with(b",").then(|| std::str::from_utf8(&rest[start + 1..]).ok())?
}

/// The beginning of a packet, for errors.
pub fn excerpt(packet: &[u8]) -> String {
    String::from_utf8_lossy(&packet[..packet.len().min(160)]).into_owned()
}
