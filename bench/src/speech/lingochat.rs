//! LingoChat, in its positional edition.

use super::{FIRST_ACK, Framing, Heard, Say, Speech, Told, digits_behind, message_ack};

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
        if payload.starts_with(b"2[\"typing:") {
            return Heard::Signal;
        }
        if payload.starts_with(b"2[\"error\"") {
            return Heard::Refused;
        }
        message_ack(payload).unwrap_or(Heard::Other)
    }

    fn numbered(&self) -> bool {
        true
    }

    fn receipts(&self, payload: &[u8], _user: &str) -> [Option<String>; 2] {
        let id = digits_behind(payload, b"\"id\":");
        let say = |what: &str| id.map(|id| format!("2[\"{what}\",{id}]"));
        [say("message:delivered"), say("message:read")]
    }

    fn told<'a>(&self, payload: &'a [u8]) -> Option<(Told, &'a str)> {
        let told = if payload.starts_with(b"2[\"message:read\"") {
            Told::Read
        } else if payload.starts_with(b"2[\"message:delivered\"") {
            Told::Delivered
        } else {
            return None;
        };
        digits_behind(payload, b"\"messageId\":").map(|id| (told, id))
    }

    fn receipt_id<'a>(&self, ack: &'a [u8]) -> Option<&'a str> {
        digits_behind(ack, b"\"messageId\":")
    }

    fn typing(&self, room: &str, _user: &str, _to: &[String], on: bool) -> Option<String> {
        Some(format!("2[\"typing:{}\",{room}]", if on { "start" } else { "stop" }))
    }
}
