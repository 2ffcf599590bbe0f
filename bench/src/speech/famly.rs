//! Famly. Besides `message:new` to the room every other member hears `message:notification`; only the former counts.

use super::{FIRST_ACK, Framing, Heard, Say, Speech, message_ack};

/// Socket.IO on the path that stock clients use.
pub struct Famly;

impl Speech for Famly {
    fn framing(&self) -> Framing {
        Framing::SocketIo
    }

    fn path(&self) -> &'static str {
        "/socket.io/"
    }

    fn join(&self, room: &str, number: u64) -> Option<String> {
        Some(format!("2{number}[\"room:join\",{{\"chatId\":\"{room}\"}}]"))
    }

    fn message(&self, say: &Say<'_>) -> String {
        format!(
            r#"2{}["message:send",{{"chatId":"{}","body":"{}","clientId":"{}"}}]"#,
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
        message_ack(payload).unwrap_or(Heard::Other)
    }
}
