//! Encoded output: bytes shared by every recipient of one accent.

use bytes::{Bytes, BytesMut};

use crate::websocket;

/// What may be dropped when a recipient is slow, and in which order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Class {
    /// Typing and presence: dropped first.
    Passing,
    /// Messages, receipts, answers: never dropped; the connection is closed instead.
    Kept,
}

/// Output ready for the wire: one or more whole WebSocket text frames (servers do not mask), or one JSON
/// text that still lacks its closing brace and takes each recipient's integer ([`Encoded::seal`]).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoded {
    bytes: Bytes,
    class: Class,
    open: bool,
}

impl Encoded {
    /// Frames each JSON text.
    pub fn framed<T: AsRef<str>>(texts: &[T], class: Class) -> Self {
        let size = texts.iter().map(|t| t.as_ref().len() + 10).sum();
        let mut buffer = BytesMut::with_capacity(size);
        for text in texts {
            websocket::put_text(&mut buffer, text.as_ref().as_bytes());
        }
        Self { bytes: buffer.freeze(), class, open: false }
    }

    /// Leaves one JSON object open for a per-recipient tail. `object` must end with `}`.
    pub fn open(object: String, class: Class) -> Self {
        let mut bytes = object.into_bytes();
        if bytes.last() == Some(&b'}') {
            bytes.pop();
        }
        Self { bytes: bytes.into(), class, open: true }
    }

    /// Whether a recipient's integer is still missing.
    pub const fn is_open(&self) -> bool {
        self.open
    }

    /// Completes an open text with `,"seq":N}` and frames it; a complete one is returned as it is.
    #[must_use]
    pub fn seal(&self, seq: u64) -> Self {
        if !self.open {
            return self.clone();
        }
        let tail = format!(",\"seq\":{seq}}}");
        let mut buffer = BytesMut::with_capacity(self.bytes.len() + tail.len() + 10);
        websocket::put_header(&mut buffer, self.bytes.len() + tail.len());
        buffer.extend_from_slice(&self.bytes);
        buffer.extend_from_slice(tail.as_bytes());
        Self { bytes: buffer.freeze(), class: self.class, open: false }
    }

    /// The bytes for the wire. An open text must be sealed first.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Drop policy.
    pub const fn class(&self) -> Class {
        self.class
    }

    /// The JSON texts inside, without framing.
    pub fn texts(&self) -> Vec<&str> {
        if self.open { vec![] } else { websocket::texts(&self.bytes) }
    }
}
