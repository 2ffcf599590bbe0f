//! SocialHub: envelopes of JSON on a raw WebSocket.

use anyhow::{Result, bail};
use memchr::memmem;

use super::{Framing, Heard, Say, Speech, excerpt, number_behind, says_no, string_behind};

/// Raw.
pub struct Socialhub;

impl Speech for Socialhub {
    fn framing(&self) -> Framing {
        Framing::Raw
    }

    fn path(&self) -> &'static str {
        "/ws"
    }

    fn admitted(&self, _packet: &[u8]) -> Result<bool> {
        Ok(true)
    }

    fn join(&self, room: &str, number: u64) -> Option<String> {
        Some(format!(
            r#"{{"type":"subscribe","payload":{{"channel":"conversation:{room}"}},"ack_id":"join-{number}"}}"#
        ))
    }

    fn joined(&self, packet: &[u8], number: u64) -> Result<bool> {
        let wanted = format!("join-{number}");
        if string_behind(packet, b"\"ack_id\":\"") != Some(&wanted) {
            return Ok(false);
        }
        if says_no(packet) {
            bail!("not joined: {}", excerpt(packet));
        }
        Ok(true)
    }

    fn message(&self, say: &Say<'_>) -> String {
        format!(
            r#"{{"type":"message","channel":"conversation:{}","ack_id":"{}","payload":{{"content":"{}","client_id":"{}"}}}}"#,
            say.room, say.id, say.text, say.id
        )
    }

    fn hear(&self, payload: &[u8]) -> Heard {
        if memmem::find(payload, b"\"type\":\"message\"").is_some() {
            return Heard::Message;
        }
        if memmem::find(payload, b"\"type\":\"ack\"").is_some() {
            return number_behind(payload, b"\"ack_id\":\"")
                .map_or(Heard::Other, |number| Heard::Ack { number, good: !says_no(payload) });
        }
        if memmem::find(payload, b"\"type\":\"error\"").is_some() {
            return Heard::Refused;
        }
        Heard::Other
    }
}
