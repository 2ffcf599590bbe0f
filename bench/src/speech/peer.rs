//! A plain Socket.IO server beside us: `join` (room), `msg` ({room, body}), both acknowledged.

use super::{FIRST_ACK, Framing, Heard, Say, Speech, message_ack};

/// The vocabulary of the peers.
pub struct Peer;

impl Speech for Peer {
    fn framing(&self) -> Framing {
        Framing::SocketIo
    }

    fn path(&self) -> &'static str {
        "/socket.io/"
    }

    fn join(&self, room: &str, number: u64) -> Option<String> {
        Some(format!("2{number}[\"join\",\"{room}\"]"))
    }

    fn message(&self, say: &Say<'_>) -> String {
        format!(
            r#"2{}["msg",{{"room":"{}","body":"{}","id":"{}"}}]"#,
            say.number + FIRST_ACK,
            say.room,
            say.text,
            say.id
        )
    }

    fn hear(&self, payload: &[u8]) -> Heard {
        if payload.starts_with(b"2[\"msg\"") {
            return Heard::Message;
        }
        if payload.starts_with(b"2[\"typing\"") {
            return Heard::Signal;
        }
        message_ack(payload).unwrap_or(Heard::Other)
    }

    fn typing(&self, room: &str, _user: &str, _to: &[String], _on: bool) -> Option<String> {
        Some(format!("2[\"typing\",{{\"room\":\"{room}\"}}]"))
    }
}
