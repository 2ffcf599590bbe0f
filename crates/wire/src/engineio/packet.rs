//! One packet as text: a digit for its type, then its data.
//!
//! Owns: the packet types. Must not know: what a message holds, how packets are joined.

/// A packet. What follows the digit of a type that carries nothing is ignored, as the reference does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packet<'a> {
    /// `0`, from the server only: the handshake. A server ignores one it receives.
    Open(&'a str),
    /// `1`: the session ends.
    Close,
    /// `2`: from the server the heartbeat, from a client only `2probe` on a new transport.
    Ping(&'a str),
    /// `3`: a ping's answer, its data repeated.
    Pong(&'a str),
    /// `4`: data of the layer above.
    Message(&'a str),
    /// `5`: the client has moved to the probed transport.
    Upgrade,
    /// `6`: nothing; releases a pending poll.
    Noop,
}

/// Reads one text packet; `None` when it is malformed.
pub fn parse(text: &str) -> Option<Packet<'_>> {
    let data = text.get(1..)?;
    match text.as_bytes().first()? {
        b'0' => Some(Packet::Open(data)),
        b'1' => Some(Packet::Close),
        b'2' => Some(Packet::Ping(data)),
        b'3' => Some(Packet::Pong(data)),
        b'4' => Some(Packet::Message(data)),
        b'5' => Some(Packet::Upgrade),
        b'6' => Some(Packet::Noop),
        _ => None,
    }
}

/// The packet text of a message: `4` and the data.
pub fn message(data: &str) -> String {
    Packet::Message(data).to_text()
}

impl Packet<'_> {
    /// The packet as text.
    pub fn to_text(self) -> String {
        let mut text = String::new();
        self.write(&mut text);
        text
    }

    /// Appends the packet's text.
    pub fn write(self, out: &mut String) {
        let (digit, data) = match self {
            Self::Open(data) => ('0', data),
            Self::Close => ('1', ""),
            Self::Ping(data) => ('2', data),
            Self::Pong(data) => ('3', data),
            Self::Message(data) => ('4', data),
            Self::Upgrade => ('5', ""),
            Self::Noop => ('6', ""),
        };
        out.reserve(1 + data.len());
        out.push(digit);
        out.push_str(data);
    }
}
