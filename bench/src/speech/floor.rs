//! The floor: everybody is in one room, and what one sends all others hear. Nothing is acknowledged.

use anyhow::Result;

use super::{Framing, Heard, Say, Speech};

/// Raw texts.
pub struct Floor;

impl Speech for Floor {
    fn framing(&self) -> Framing {
        Framing::Raw
    }

    fn path(&self) -> &'static str {
        "/"
    }

    fn admitted(&self, _packet: &[u8]) -> Result<bool> {
        Ok(true)
    }

    fn join(&self, _room: &str, _number: u64) -> Option<String> {
        None
    }

    fn message(&self, say: &Say<'_>) -> String {
        say.text.to_owned()
    }

    fn hear(&self, _payload: &[u8]) -> Heard {
        Heard::Message
    }

    fn echoes(&self) -> bool {
        false
    }

    fn acks(&self) -> bool {
        false
    }
}
