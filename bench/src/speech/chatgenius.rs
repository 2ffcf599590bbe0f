//! ChatGenius. A socket is in its channels when it hears `connection:success`.

use anyhow::{Result, bail};

use super::{
    FIRST_ACK, Framing, Heard, Recovery, Say, Speaker, Speech, Told, excerpt, message_ack, string_behind,
};

/// Socket.IO on a path of its own.
pub struct Chatgenius;

impl Speech for Chatgenius {
    fn framing(&self) -> Framing {
        Framing::SocketIo
    }

    fn path(&self) -> &'static str {
        "/api/socket.io/"
    }

    fn hello(&self, speaker: &Speaker, recovery: &Recovery) -> Option<String> {
        let Speaker { user, token } = speaker;
        Some(format!("0{{{}\"token\":\"Bearer {token}\",\"userId\":\"{user}\"}}", recovery.fields()))
    }

    fn admitted(&self, packet: &[u8]) -> Result<bool> {
        if packet.starts_with(b"2[\"connection:error\"") || packet.starts_with(b"4") {
            bail!("refused: {}", excerpt(packet));
        }
        Ok(packet.starts_with(b"2[\"connection:success\""))
    }

    fn join(&self, _room: &str, _number: u64) -> Option<String> {
        None
    }

    fn message(&self, say: &Say<'_>) -> String {
        format!(
            r#"2{}["message:send",{{"channelId":"{}","content":"{}","tempId":"{}"}}]"#,
            say.number + FIRST_ACK,
            say.room,
            say.text,
            say.id
        )
    }

    fn hear(&self, payload: &[u8]) -> Heard {
        if payload.starts_with(b"2[\"message:created\"") {
            return Heard::Message;
        }
        if payload.starts_with(b"2[\"typing:") {
            return Heard::Signal;
        }
        message_ack(payload).unwrap_or(Heard::Other)
    }

    fn receipts(&self, payload: &[u8], _user: &str) -> [Option<String>; 2] {
        let id = string_behind(payload, b"\"id\":\"");
        let say = |what: &str| id.map(|id| format!("2[\"{what}\",{{\"messageId\":\"{id}\"}}]"));
        [say("message:received"), say("message:read")]
    }

    fn told<'a>(&self, payload: &'a [u8]) -> Option<(Told, &'a str)> {
        let told = payload.starts_with(b"2[\"message:read\"");
        told.then(|| string_behind(payload, b"\"messageId\":\"")).flatten().map(|id| (Told::Read, id))
    }

    fn receipt_id<'a>(&self, ack: &'a [u8]) -> Option<&'a str> {
        string_behind(ack, b"\"messageId\":\"")
    }

    fn typing(&self, room: &str, _user: &str, _to: &[String], on: bool) -> Option<String> {
        Some(format!("2[\"typing:{}\",{{\"channelId\":\"{room}\"}}]", if on { "start" } else { "stop" }))
    }
}
