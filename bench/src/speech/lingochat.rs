//! LingoChat, in its positional edition.

use super::{FIRST_ACK, Framing, Heard, Say, Speech, message_ack};

/// Socket.IO, rooms called by numbers.
pub struct Lingochat;

impl Speech for Lingochat {
    fn framing(&self) -> Framing {
        Framing::SocketIo
    }

    fn path(&self) -> &'static str {
        "/lingochat/socket.io/"
    }

    fn join(&self, room: &str, number: u64) -> Option<String> {
        Some(format!("2{number}[\"conversation:join\",{room}]"))
    }

    fn message(&self, say: &Say<'_>) -> String {
        format!(
            r#"2{}["message:send",{},{{"text":"{}","clientMessageId":"{}"}}]"#,
            say.number + FIRST_ACK,
            say.room,
            say.text,
            say.id
        )
    }

    fn hear(&self, payload: &[u8]) -> Heard {
        if payload.starts_with(b"2[\"message:new\"") {
            return Heard::Message;
        }
        if payload.starts_with(b"2[\"error\"") {
            return Heard::Refused;
        }
        message_ack(payload).unwrap_or(Heard::Other)
    }

    fn numbered(&self) -> bool {
        true
    }
}
