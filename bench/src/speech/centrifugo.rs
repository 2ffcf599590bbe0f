//! Centrifugo's JSON protocol: commands and replies a line each, several of them in a WebSocket message.

use anyhow::{Result, bail};

use super::{FIRST_ACK, Framing, Heard, Recovery, Say, Speaker, Speech, contains, excerpt};

/// The id of the first command; replies carry the id of their command.
const CONNECT: u64 = 1;
/// The ids of joins begin behind it.
const FIRST_JOIN: u64 = 2;

/// Channels without a namespace.
pub struct Centrifugo;

impl Speech for Centrifugo {
    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn path(&self) -> &'static str {
        "/connection/websocket"
    }

    fn hello(&self, speaker: &Speaker, _recovery: &Recovery) -> Option<String> {
        Some(format!(r#"{{"id":{CONNECT},"connect":{{"token":"{}"}}}}"#, speaker.token))
    }

    fn admitted(&self, packet: &[u8]) -> Result<bool> {
        if reply(packet) == Some(CONNECT) && is_error(packet) {
            bail!("refused: {}", excerpt(packet));
        }
        Ok(reply(packet) == Some(CONNECT))
    }

    fn join(&self, room: &str, number: u64) -> Option<String> {
        Some(format!(r#"{{"id":{},"subscribe":{{"channel":"{room}"}}}}"#, FIRST_JOIN + number))
    }

    fn joined(&self, packet: &[u8], number: u64) -> Result<bool> {
        if reply(packet) != Some(FIRST_JOIN + number) {
            return Ok(false);
        }
        if is_error(packet) {
            bail!("not joined: {}", excerpt(packet));
        }
        Ok(true)
    }

    fn message(&self, say: &Say<'_>) -> String {
        format!(
            r#"{{"id":{},"publish":{{"channel":"{}","data":{{"body":"{}","id":"{}"}}}}}}"#,
            say.number + FIRST_ACK,
            say.room,
            say.text,
            say.id
        )
    }

    fn hear(&self, payload: &[u8]) -> Heard {
        if payload.starts_with(b"{\"push\":") {
            return if contains(payload, b"\"pub\":") { Heard::Message } else { Heard::Other };
        }
        match reply(payload).and_then(|id| id.checked_sub(FIRST_ACK)) {
            Some(number) => Heard::Ack { number, good: !is_error(payload) },
            None => Heard::Other,
        }
    }
}

/// Which command this answers.
fn reply(line: &[u8]) -> Option<u64> {
    let digits = line.strip_prefix(b"{\"id\":")?;
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&digits[..length]).ok()?.parse().ok()
}

fn is_error(line: &[u8]) -> bool {
    contains(line, b"\"error\":{")
}

#[cfg(test)]
mod tests {
    use super::{Centrifugo, Heard, Speech};

    #[test]
    fn replies_and_pushes_are_told_apart() {
        let hear = |line: &str| Centrifugo.hear(line.as_bytes());
        assert_eq!(hear(r#"{"push":{"channel":"r","pub":{"data":{"body":"x"}}}}"#), Heard::Message);
        assert_eq!(hear(r#"{"push":{"channel":"r","unsubscribe":{"code":2500}}}"#), Heard::Other);
        assert_eq!(hear(r#"{"id":17,"publish":{}}"#), Heard::Ack { number: 1, good: true });
        let refused = r#"{"id":16,"error":{"code":103,"message":"permission denied"}}"#;
        assert_eq!(hear(refused), Heard::Ack { number: 0, good: false });
        assert!(Centrifugo.admitted(br#"{"id":1,"connect":{"client":"c","ping":25,"pong":true}}"#).unwrap());
        assert!(Centrifugo.admitted(br#"{"id":1,"error":{"code":101}}"#).is_err());
        assert!(Centrifugo.joined(br#"{"id":5,"subscribe":{}}"#, 3).unwrap());
        assert!(!Centrifugo.joined(br#"{"id":6,"subscribe":{}}"#, 3).unwrap());
    }
}
