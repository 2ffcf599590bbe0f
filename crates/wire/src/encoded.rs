//! Encoded output: bytes shared by every recipient of one accent.

use std::fmt;

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

/// A place in a conversation's log as Socket.IO's state recovery carries it: the string `number-seq` behind
/// an event's arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
pub struct Offset {
    /// The conversation's integer id.
    pub number: u32,
    /// The entry's sequence.
    pub seq: u64,
}

impl Offset {
    /// Stands for "no log event yet".
    pub const NONE: Self = Self { number: 0, seq: 0 };

    /// Reads the string form.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, seq) = text.split_once('-')?;
        let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        if !digits(number) || !digits(seq) {
            return None;
        }
        Some(Self { number: number.parse().ok()?, seq: seq.parse().ok()? })
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.number, self.seq)
    }
}

/// What a recipient's own tail completes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Open {
    /// Nothing is missing.
    No,
    /// The recipient's integer and the closing brace.
    Integer,
    /// The recipient's last offset and the closing bracket.
    Offset,
}

/// Output ready for the wire: one or more whole WebSocket text frames (servers do not mask), or one JSON
/// text that still lacks its end and takes each recipient's own ([`Encoded::seal`], [`Encoded::seal_offset`]).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoded {
    bytes: Bytes,
    class: Class,
    open: Open,
    offset: Option<Offset>,
}

impl Encoded {
    /// Frames each text.
    pub fn framed<T: AsRef<str>>(texts: &[T], class: Class) -> Self {
        let size = texts.iter().map(|t| t.as_ref().len() + 10).sum();
        let mut buffer = BytesMut::with_capacity(size);
        for text in texts {
            websocket::put_text(&mut buffer, text.as_ref().as_bytes());
        }
        Self { bytes: buffer.freeze(), class, open: Open::No, offset: None }
    }

    /// One piece with the frames of all of these behind each other; `None` where one of them belongs to a log, or lacks an end of
    /// the recipient's own.
    pub fn together(pieces: &[Self], class: Class) -> Option<Self> {
        if pieces.iter().any(|piece| piece.open != Open::No || piece.offset.is_some()) {
            return None;
        }
        let mut buffer = BytesMut::with_capacity(pieces.iter().map(|piece| piece.bytes.len()).sum());
        pieces.iter().for_each(|piece| buffer.extend_from_slice(&piece.bytes));
        Some(Self { bytes: buffer.freeze(), class, open: Open::No, offset: None })
    }

    /// The same, noted as carrying the log event at this place.
    #[must_use]
    pub const fn at(mut self, offset: Option<Offset>) -> Self {
        self.offset = offset;
        self
    }

    /// Leaves one JSON object open for a per-recipient tail. `object` must end with `}`.
    pub fn open(object: String, class: Class) -> Self {
        Self { bytes: without_last(object, b'}'), class, open: Open::Integer, offset: None }
    }

    /// Leaves one event's argument list open for the recipient's last offset. `array` must end with `]`.
    pub fn open_offset(array: String, class: Class) -> Self {
        Self { bytes: without_last(array, b']'), class, open: Open::Offset, offset: None }
    }

    /// Whether a recipient's integer is still missing.
    pub const fn is_open(&self) -> bool {
        matches!(self.open, Open::Integer)
    }

    /// Whether the recipient's last offset is still missing.
    pub const fn lacks_offset(&self) -> bool {
        matches!(self.open, Open::Offset)
    }

    /// The log event it carries, for state recovery.
    pub const fn offset(&self) -> Option<Offset> {
        self.offset
    }

    /// Completes an open text with `,"seq":N}` and frames it; any other is returned as it is.
    #[must_use]
    pub fn seal(&self, seq: u64) -> Self {
        if self.open != Open::Integer {
            return self.clone();
        }
        self.sealed(&format!(",\"seq\":{seq}}}"))
    }

    /// Completes an event whose last argument is a string with the recipient's last offset, so that the client
    /// does not take the argument for one; any other is returned as it is.
    #[must_use]
    pub fn seal_offset(&self, last: Offset) -> Self {
        if self.open != Open::Offset {
            return self.clone();
        }
        self.sealed(&format!(",\"{last}\"]"))
    }

    fn sealed(&self, tail: &str) -> Self {
        let mut buffer = BytesMut::with_capacity(self.bytes.len() + tail.len() + 10);
        websocket::put_header(&mut buffer, self.bytes.len() + tail.len());
        buffer.extend_from_slice(&self.bytes);
        buffer.extend_from_slice(tail.as_bytes());
        Self { bytes: buffer.freeze(), class: self.class, open: Open::No, offset: self.offset }
    }

    /// The bytes for the wire. An open text must be sealed first.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Drop policy.
    pub const fn class(&self) -> Class {
        self.class
    }

    /// The texts inside, without framing.
    pub fn texts(&self) -> Vec<&str> {
        if self.open == Open::No { websocket::texts(&self.bytes) } else { vec![] }
    }
}

fn without_last(text: String, last: u8) -> Bytes {
    let mut bytes = text.into_bytes();
    if bytes.last() == Some(&last) {
        bytes.pop();
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_reads_back_and_others_do_not() {
        let offset = Offset { number: 1 << 30, seq: 17 };
        assert_eq!(Offset::parse(&offset.to_string()), Some(offset));
        for text in ["", "-", "1-", "-1", "alice", "1-2-3", "1-+2", "99999999999-1", " 1-2"] {
            assert_eq!(Offset::parse(text), None, "{text}");
        }
    }

    #[test]
    fn pieces_are_one_in_order_unless_one_is_not_the_same_for_all() {
        let [one, two] = ["a", "b"].map(|text| Encoded::framed(&[text], Class::Passing));
        let both = Encoded::together(&[one.clone(), two], Class::Passing).unwrap();
        assert_eq!((both.texts(), both.class()), (vec!["a", "b"], Class::Passing));
        let of_a_log = one.clone().at(Some(Offset { number: 1, seq: 2 }));
        assert_eq!(Encoded::together(&[one.clone(), of_a_log], Class::Passing), None);
        let open = Encoded::open_offset("[]".to_owned(), Class::Passing);
        assert_eq!(Encoded::together(&[one, open], Class::Passing), None);
    }

    #[test]
    fn a_string_argument_is_followed_by_the_last_offset() {
        let open = Encoded::open_offset(r#"42["typing:start","bob"]"#.to_owned(), Class::Passing);
        assert!(open.lacks_offset() && open.texts().is_empty());
        let sealed = open.seal_offset(Offset { number: 7, seq: 3 });
        assert_eq!(sealed.texts(), [r#"42["typing:start","bob","7-3"]"#]);
    }
}
