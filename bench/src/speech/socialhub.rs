//! SocialHub: envelopes of JSON on a raw WebSocket.

use anyhow::{Result, bail};
use memchr::memmem;

use super::{Framing, Heard, Say, Speech, Told, contains, excerpt, number_behind, says_no, string_behind};

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
        if contains(payload, b"\"type\":\"message\"") {
            return Heard::Message;
        }
        if contains(payload, b"\"type\":\"ack\"") {
            return number_behind(payload, b"\"ack_id\":\"")
                .map_or(Heard::Other, |number| Heard::Ack { number, good: !says_no(payload) });
        }
        if contains(payload, b"\"type\":\"typing_") {
            return Heard::Signal;
        }
        if contains(payload, b"\"type\":\"error\"") {
            return Heard::Refused;
        }
        Heard::Other
    }

    fn receipts(&self, payload: &[u8], _user: &str) -> [Option<String>; 2] {
        let id = memmem::find(payload, b"\"payload\":{")
            .and_then(|at| string_behind(&payload[at..], b"\"id\":\""));
        let room = string_behind(payload, b"\"conversation_id\":\"");
        let read = id.zip(room).map(|(id, room)| {
            format!(
                r#"{{"type":"read_receipt","payload":{{"conversation_id":"{room}","message_ids":["{id}"]}}}}"#
            )
        });
        [None, read]
    }

    fn told<'a>(&self, payload: &'a [u8]) -> Option<(Told, &'a str)> {
        let told = contains(payload, b"\"type\":\"read_receipt\"");
        told.then(|| string_behind(payload, b"\"message_ids\":[\"")).flatten().map(|id| (Told::Read, id))
    }

    fn receipt_id<'a>(&self, ack: &'a [u8]) -> Option<&'a str> {
        string_behind(ack, b"\"message_id\":\"")
    }

    fn typing(&self, room: &str, _user: &str, _to: &[String], on: bool) -> Option<String> {
        let word = if on { "start" } else { "stop" };
        Some(format!(r#"{{"type":"typing_{word}","payload":{{"conversation_id":"{room}"}}}}"#))
    }

    fn watch(&self, user: &str, number: u64) -> Option<String> {
        Some(format!(
            r#"{{"type":"subscribe","payload":{{"channel":"presence:{user}"}},"ack_id":"join-{number}"}}"#
        ))
    }

    fn restores(&self) -> bool {
        true
    }
}
