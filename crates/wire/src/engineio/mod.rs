//! Engine.IO version 4, sans-IO: packets, polling payloads, the handshake, the heartbeat.
//!
//! Owns: the text forms and the heartbeat's state. Must not know: sockets, HTTP servers, sessions, clocks.

mod handshake;
mod heartbeat;
mod packet;
mod payload;

pub use handshake::{Open, Problem, Query, Transport, is_session_id};
pub use heartbeat::{Beat, Heartbeat};
pub use packet::{Packet, message, parse};
pub use payload::{Part, Payload, Split, binary_text, part, split};

/// A packet that is none: the session ends with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("malformed Engine.IO packet")
    }
}

impl std::error::Error for Malformed {}
