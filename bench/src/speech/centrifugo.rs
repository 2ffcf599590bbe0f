//! Centrifugo's JSON protocol: a connection, channels, publications. Several objects may come in one message, one a line;
//! an empty one is a ping.

use anyhow::{Result, bail};

use super::{FIRST_ACK, Framing, Heard, Recovery, Say, Speaker, Speech, contains, digits_behind, excerpt};

/// The id of the connect command; below those of joins and messages.
const CONNECT: u64 = 1;
/// Joins are numbered from 0.
const FIRST_JOIN: u64 = 2;

/// Centrifugo.
pub struct Centrifugo;

impl Speech for Centrifugo {
    fn framing(&self) -> Framing {
        Framing::Raw
    }

    fn path(&self) -> &'static str {
        "/connection/websocket"
    }

    fn token_in_query(&self) -> bool {
        false
    }

    fn hello(&self, speaker: &Speaker, _recovery: &Recovery) -> Option<String> {
        Some(format!("{{\"id\":{CONNECT},\"connect\":{{\"token\":\"{}\"}}}}", speaker.token))
    }

    fn admitted(&self, packet: &[u8]) -> Result<bool> {
        answers(packet, CONNECT)
    }

    fn join(&self, room: &str, number: u64) -> Option<String> {
        Some(format!("{{\"id\":{},\"subscribe\":{{\"channel\":\"{room}\"}}}}", FIRST_JOIN + number))
    }

    fn joined(&self, packet: &[u8], number: u64) -> Result<bool> {
        answers(packet, FIRST_JOIN + number)
    }

    fn message(&self, say: &Say<'_>) -> String {
        format!(
            r#"{{"id":{},"publish":{{"channel":"{}","data":{{"id":"{}","body":"{}"}}}}}}"#,
            say.number + FIRST_ACK,
            say.room,
            say.id,
            say.text
        )
    }

    fn hear(&self, payload: &[u8]) -> Heard {
        if payload == b"{}" {
            return Heard::Ping;
        }
        if payload.starts_with(b"{\"push\":") {
            return if contains(payload, b"\"pub\":") { Heard::Message } else { Heard::Other };
        }
        let number = digits_behind(payload, b"\"id\":").and_then(|id| id.parse::<u64>().ok());
        match number.and_then(|id| id.checked_sub(FIRST_ACK)) {
            Some(number) => Heard::Ack { number, good: !contains(payload, b"\"error\":") },
            None => Heard::Other,
        }
    }

    fn pong(&self) -> Option<&'static str> {
        Some("{}")
    }
}

fn answers(packet: &[u8], id: u64) -> Result<bool> {
    let answered = packet
        .split(|byte| *byte == b'\n')
        .any(|line| line.starts_with(format!("{{\"id\":{id},").as_bytes()));
    if answered && contains(packet, b"\"error\":") {
        bail!("refused: {}", excerpt(packet));
    }
    Ok(answered)
}
