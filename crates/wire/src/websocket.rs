//! The write side of WebSocket framing (RFC 6455 section 5): servers do not mask, so a frame is its header
//! and the shared payload.

use bytes::{BufMut, BytesMut};

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;

/// Writes the header of a final text frame of `len` bytes.
pub fn put_header(out: &mut BytesMut, len: usize) {
    header(out, TEXT, len);
}

/// Writes a whole final text frame.
pub fn put_text(out: &mut BytesMut, payload: &[u8]) {
    header(out, TEXT, payload.len());
    out.extend_from_slice(payload);
}

/// A ping frame with up to 125 bytes.
pub fn ping(payload: &[u8]) -> bytes::Bytes {
    control(PING, payload)
}

/// A close frame; the reason is cut to 123 bytes at a character boundary.
pub fn close(code: u16, reason: &str) -> bytes::Bytes {
    let mut end = reason.len().min(123);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.get(..end).unwrap_or_default().as_bytes());
    control(CLOSE, &payload)
}

/// Reads back the payloads of unmasked text frames laid end to end; stops at anything else.
pub fn texts(mut bytes: &[u8]) -> Vec<&str> {
    let mut all = Vec::new();
    while let Some((payload, rest)) = next_text(bytes) {
        let Ok(text) = std::str::from_utf8(payload) else { break };
        all.push(text);
        bytes = rest;
    }
    all
}

fn next_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&short, rest) = rest.split_first()?;
    if first != TEXT {
        return None;
    }
    let (len, rest) = match short {
        126 => (usize::from(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?)), rest.get(2..)?),
        127 => (usize::try_from(u64::from_be_bytes(rest.get(..8)?.try_into().ok()?)).ok()?, rest.get(8..)?),
        len => (usize::from(len), rest),
    };
    rest.split_at_checked(len)
}

fn control(kind: u8, payload: &[u8]) -> bytes::Bytes {
    let payload = payload.get(..payload.len().min(125)).unwrap_or_default();
    let mut out = BytesMut::with_capacity(payload.len() + 2);
    header(&mut out, kind, payload.len());
    out.extend_from_slice(payload);
    out.freeze()
}

fn header(out: &mut BytesMut, first: u8, len: usize) {
    out.put_u8(first);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short), _) if short < 126 => out.put_u8(short),
        (_, Ok(medium)) => {
            out.put_u8(126);
            out.put_u16(medium);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(len as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back_at_every_length_class() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let text = "x".repeat(len);
            let mut out = BytesMut::new();
            put_text(&mut out, text.as_bytes());
            put_text(&mut out, b"tail");
            assert_eq!(texts(&out), [text.as_str(), "tail"], "{len}");
        }
    }

    #[test]
    fn a_close_reason_is_cut_at_a_character() {
        let frame = close(1012, &"ä".repeat(100));
        assert_eq!(frame.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&frame[4..]).is_ok());
    }

    #[test]
    fn garbage_is_no_text() {
        assert!(texts(&[0x81, 126, 0]).is_empty());
        assert!(texts(&[0x82, 1, 1]).is_empty());
        assert!(texts(&[0x81, 5, b'a']).is_empty());
    }
}
