//! SeChat v2, raw and over Socket.IO. Members hear their conversations without joining; the sender does not hear its
//! own messages.

use anyhow::Result;
use memchr::memmem;

use super::{Framing, Heard, Say, Speech, message_ack, number_behind};

/// JSON on a raw WebSocket.
pub struct Raw;
/// The same over Socket.IO.
pub struct Io;

fn object(say: &Say<'_>) -> String {
    let to: Vec<String> = say.to.iter().map(|user| format!("\"{user}\"")).collect();
    format!(
        r#"{{"type":"message:send","messageId":"{}","conversationId":"{}","fromUserId":"{}","toUserIds":[{}],"body":"{}"}}"#,
        say.id,
        say.room,
        say.user,
        to.join(","),
        say.text
    )
}

impl Speech for Raw {
    fn framing(&self) -> Framing {
        Framing::Raw
    }

    fn path(&self) -> &'static str {
        "/sechat"
    }

    fn admitted(&self, _packet: &[u8]) -> Result<bool> {
        Ok(true)
    }

    fn join(&self, _room: &str, _number: u64) -> Option<String> {
        None
    }

    fn message(&self, say: &Say<'_>) -> String {
        object(say)
    }

    fn hear(&self, payload: &[u8]) -> Heard {
        if memmem::find(payload, b"\"type\":\"message:received\"").is_some() {
            return Heard::Message;
        }
        if memmem::find(payload, b"\"type\":\"message:acked\"").is_some() {
            return number_behind(payload, b"\"messageId\":\"")
                .map_or(Heard::Other, |number| Heard::Ack { number, good: true });
        }
        if memmem::find(payload, b"\"type\":\"error\"").is_some() {
            return number_behind(payload, b"\"messageId\":\"")
                .map_or(Heard::Refused, |number| Heard::Ack { number, good: false });
        }
        Heard::Other
    }

    fn echoes(&self) -> bool {
        false
    }
}

impl Speech for Io {
    fn framing(&self) -> Framing {
        Framing::SocketIo
    }

    fn path(&self) -> &'static str {
        "/sechat/socket.io/"
    }

    fn join(&self, _room: &str, _number: u64) -> Option<String> {
        None
    }

    fn message(&self, say: &Say<'_>) -> String {
        format!("2{}[\"message:send\",{}]", say.number + super::FIRST_ACK, object(say))
    }

    fn hear(&self, payload: &[u8]) -> Heard {
        if payload.starts_with(b"2[\"message:received\"") {
            return Heard::Message;
        }
        match message_ack(payload) {
            Some(Heard::Ack { number, good }) => {
                Heard::Ack { number, good: good && memmem::find(payload, b"\"type\":\"error\"").is_none() }
            }
            _ if payload.starts_with(b"2[\"error\"") => Heard::Refused,
            _ => Heard::Other,
        }
    }

    fn echoes(&self) -> bool {
        false
    }
}
