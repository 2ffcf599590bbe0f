//! SeChat v2, raw and over Socket.IO. Members hear their conversations without joining; the sender does not hear its
//! own messages.

use anyhow::Result;

use super::{Framing, Heard, Say, Speech, Told, contains, message_ack, number_behind, string_behind};

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

fn receipt(payload: &[u8], user: &str, what: &str) -> Option<String> {
    let (id, author) =
        (string_behind(payload, b"\"messageId\":\"")?, string_behind(payload, b"\"fromUserId\":\"")?);
    Some(format!(
        r#"{{"type":"receipt:{what}","messageId":"{id}","fromUserId":"{user}","toUserId":"{author}"}}"#
    ))
}

fn told(payload: &[u8]) -> Option<(Told, &str)> {
    let told = if contains(payload, b"\"type\":\"message:delivered\"") {
        Told::Delivered
    } else if contains(payload, b"\"type\":\"message:read\"") {
        Told::Read
    } else {
        return None;
    };
    string_behind(payload, b"\"messageId\":\"").map(|id| (told, id))
}

fn typing(room: &str, user: &str, to: &[String], on: bool) -> String {
    let to: Vec<String> = to.iter().map(|user| format!("\"{user}\"")).collect();
    format!(
        r#"{{"type":"typing","conversationId":"{room}","fromUserId":"{user}","toUserIds":[{}],"isTyping":{on}}}"#,
        to.join(",")
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
        if contains(payload, b"\"type\":\"message:received\"") {
            return Heard::Message;
        }
        if contains(payload, b"\"type\":\"message:acked\"") {
            return number_behind(payload, b"\"messageId\":\"")
                .map_or(Heard::Other, |number| Heard::Ack { number, good: true });
        }
        if contains(payload, b"\"type\":\"error\"") {
            return number_behind(payload, b"\"messageId\":\"")
                .map_or(Heard::Refused, |number| Heard::Ack { number, good: false });
        }
        if contains(payload, b"\"type\":\"typing:update\"") {
            return Heard::Signal;
        }
        Heard::Other
    }

    fn echoes(&self) -> bool {
        false
    }

    fn receipts(&self, payload: &[u8], user: &str) -> [Option<String>; 2] {
        ["delivered", "read"].map(|what| receipt(payload, user, what))
    }

    fn told<'a>(&self, payload: &'a [u8]) -> Option<(Told, &'a str)> {
        told(payload)
    }

    fn receipt_id<'a>(&self, ack: &'a [u8]) -> Option<&'a str> {
        string_behind(ack, b"\"messageId\":\"")
    }

    fn typing(&self, room: &str, user: &str, to: &[String], on: bool) -> Option<String> {
        Some(typing(room, user, to, on))
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
        if payload.starts_with(b"2[\"typing:update\"") {
            return Heard::Signal;
        }
        match message_ack(payload) {
            Some(Heard::Ack { number, good }) => {
                Heard::Ack { number, good: good && !contains(payload, b"\"type\":\"error\"") }
            }
            _ if payload.starts_with(b"2[\"error\"") => Heard::Refused,
            _ => Heard::Other,
        }
    }

    fn echoes(&self) -> bool {
        false
    }

    fn receipts(&self, payload: &[u8], user: &str) -> [Option<String>; 2] {
        ["delivered", "read"]
            .map(|what| Some(format!("2[\"receipt:{what}\",{}]", receipt(payload, user, what)?)))
    }

    fn told<'a>(&self, payload: &'a [u8]) -> Option<(Told, &'a str)> {
        told(payload)
    }

    fn receipt_id<'a>(&self, ack: &'a [u8]) -> Option<&'a str> {
        string_behind(ack, b"\"messageId\":\"")
    }

    fn typing(&self, room: &str, user: &str, to: &[String], on: bool) -> Option<String> {
        Some(format!("2[\"typing\",{}]", typing(room, user, to, on)))
    }
}
