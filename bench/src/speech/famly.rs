//! Famly. Besides `message:new` to the room every other member hears `message:notification`; only the former counts.

use super::{FIRST_ACK, Framing, Heard, Say, Speech, Told, message_ack, string_behind};

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
        if payload.starts_with(b"2[\"typing:update\"") {
            return Heard::Signal;
        }
        message_ack(payload).unwrap_or(Heard::Other)
    }

    fn receipts(&self, payload: &[u8], _user: &str) -> [Option<String>; 2] {
        let (id, chat) = (string_behind(payload, b"\"_id\":\""), string_behind(payload, b"\"chatId\":\""));
        let read = id.zip(chat).map(|(id, chat)| {
            format!("2[\"receipt:read\",{{\"chatId\":\"{chat}\",\"messageId\":\"{id}\"}}]")
        });
        [None, read]
    }

    fn told<'a>(&self, payload: &'a [u8]) -> Option<(Told, &'a str)> {
        let told = payload.starts_with(b"2[\"receipt:update\"");
        told.then(|| string_behind(payload, b"\"messageId\":\"")).flatten().map(|id| (Told::Read, id))
    }

    fn receipt_id<'a>(&self, ack: &'a [u8]) -> Option<&'a str> {
        string_behind(ack, b"\"serverId\":\"")
    }

    fn typing(&self, room: &str, _user: &str, _to: &[String], on: bool) -> Option<String> {
        Some(format!("2[\"typing:{}\",{{\"chatId\":\"{room}\"}}]", if on { "start" } else { "stop" }))
    }
}
