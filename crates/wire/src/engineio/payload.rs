//! Payloads of HTTP long polling: packets joined by U+001E, binary as `b` and base64.
//!
//! Owns: joining and splitting. Must not know: HTTP, how large a payload may be.

use base64::{
    Engine,
    alphabet::STANDARD as ALPHABET,
    engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD},
};

use super::{Malformed, Packet, packet};

const SEPARATOR: char = '\u{1e}';

/// Reads what is left of a damaged text: padding is not asked for, bits beyond the last whole byte are dropped.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// One packet of a payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Part<'a> {
    /// A text packet.
    Packet(Packet<'a>),
    /// A binary message.
    Binary(Vec<u8>),
}

/// Reads one packet that may be binary as `b` and base64. A client told to do without binary frames
/// (`forceBase64`, `b64` in its query) sends such texts over WebSocket too, and expects them there.
///
/// # Errors
/// When it is no packet.
pub fn part(text: &str) -> Result<Part<'_>, Malformed> {
    match text.strip_prefix('b') {
        Some(base64) => Ok(Part::Binary(binary(base64))),
        None => packet::parse(text).map(Part::Packet).ok_or(Malformed),
    }
}

/// The text of a binary message: `b` and base64.
pub fn binary_text(bytes: &[u8]) -> String {
    let mut text = String::from("b");
    STANDARD.encode_string(bytes, &mut text);
    text
}

/// Reads a payload packet by packet. Like the reference it stops after the first malformed packet, and what
/// came before it counts. An empty payload is one malformed packet.
pub const fn split(payload: &str) -> Split<'_> {
    Split { rest: Some(payload) }
}

/// The packets of a payload; see [`split`].
#[derive(Clone, Debug)]
pub struct Split<'a> {
    rest: Option<&'a str>,
}

impl<'a> Iterator for Split<'a> {
    type Item = Result<Part<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest.take()?;
        let (one, more) = match rest.split_once(SEPARATOR) {
            Some((one, more)) => (one, Some(more)),
            None => (rest, None),
        };
        let part = part(one);
        if part.is_ok() {
            self.rest = more;
        }
        Some(part)
    }
}

impl std::iter::FusedIterator for Split<'_> {}

/// Reads base64 as generously as the reference's runtime: both alphabets, foreign characters skipped, the end
/// at the first `=`.
fn binary(base64: &str) -> Vec<u8> {
    if let Ok(bytes) = STANDARD.decode(base64) {
        return bytes;
    }
    let mut clean: Vec<u8> = base64
        .bytes()
        .take_while(|byte| *byte != b'=')
        .filter_map(|byte| match byte {
            b'-' => Some(b'+'),
            b'_' => Some(b'/'),
            b'+' | b'/' => Some(byte),
            _ => byte.is_ascii_alphanumeric().then_some(byte),
        })
        .collect();
    if clean.len() % 4 == 1 {
        clean.pop(); // six bits make no byte
    }
    LENIENT.decode(&clean).unwrap_or_default()
}

/// Builds a payload.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Payload {
    text: String,
    packets: usize,
}

impl Payload {
    /// An empty payload.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a packet.
    pub fn push(&mut self, packet: Packet<'_>) {
        self.separate();
        packet.write(&mut self.text);
    }

    /// Appends the text of a whole packet, its digit included.
    pub fn push_text(&mut self, packet: &str) {
        self.separate();
        self.text.push_str(packet);
    }

    /// Appends a binary message.
    pub fn push_binary(&mut self, bytes: &[u8]) {
        self.separate();
        self.text.push_str(&binary_text(bytes));
    }

    /// How many packets it holds.
    pub const fn packets(&self) -> usize {
        self.packets
    }

    /// Whether it holds no packet yet. An empty payload must not be sent: it reads as a malformed packet.
    pub const fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// The payload's length in bytes.
    pub const fn len(&self) -> usize {
        self.text.len()
    }

    /// The payload.
    pub fn into_string(self) -> String {
        self.text
    }

    fn separate(&mut self) {
        if self.packets > 0 {
            self.text.push(SEPARATOR);
        }
        self.packets += 1;
    }
}
