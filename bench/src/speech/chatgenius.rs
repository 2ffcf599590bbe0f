//! ChatGenius. A socket is in its channels when it hears `connection:success`.

use anyhow::{Result, bail};

use super::{FIRST_ACK, Framing, Heard, Say, Speaker, Speech, excerpt, message_ack};

/// Socket.IO on a path of its own.
pub struct Chatgenius;

impl Speech for Chatgenius {
    fn framing(&self) -> Framing {
        Framing::SocketIo
    }

    fn path(&self) -> &'static str {
        "/api/socket.io/"
    }

    fn hello(&self, speaker: &Speaker) -> Option<String> {
        Some(format!(
            "0{{\"token\":\"Bearer {}\",\"userId\":\"{}\"}}",
            speaker.token, speaker.user
        ))
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
        message_ack(payload).unwrap_or(Heard::Other)
    }
}
