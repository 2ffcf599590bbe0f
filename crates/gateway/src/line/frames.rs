//! The frames a polling session's pieces are made of, unmade again; and binary frames made.
//!
//! Must not know: packets, sockets.

use bytes::{BufMut, Bytes, BytesMut};
use parlance_wire::engineio::Payload;

const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;

/// A whole text frame.
pub(super) fn text(payload: &str) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 10);
    parlance_wire::websocket::put_text(&mut out, payload.as_bytes());
    out.freeze()
}

/// A whole binary frame.
pub(super) fn binary(payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 10);
    out.put_u8(BINARY);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short < 126 => out.put_u8(short),
        (_, Ok(medium)) => {
            out.put_u8(126);
            out.put_u16(medium);
        }
        _ => {
            out.put_u8(127);
            out.put_u64(payload.len() as u64);
        }
    }
    out.extend_from_slice(payload);
    out.freeze()
}

/// Adds a piece's messages to a payload. Control frames mean nothing to a poll and are left out.
pub(super) fn unframe(mut piece: &[u8], payload: &mut Payload) {
    while let Some((kind, data, rest)) = next(piece) {
        match kind {
            TEXT => {
                if let Ok(text) = std::str::from_utf8(data) {
                    payload.push_text(text);
                }
            }
            BINARY => payload.push_binary(data),
            _ => {}
        }
        piece = rest;
    }
}

fn next(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&kind, rest) = bytes.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (len, rest) = match short {
        126 => (usize::from(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?)), rest.get(2..)?),
        127 => (usize::try_from(u64::from_be_bytes(rest.get(..8)?.try_into().ok()?)).ok()?, rest.get(8..)?),
        len => (usize::from(len), rest),
    };
    let (data, rest) = rest.split_at_checked(len)?;
    Some((kind, data, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_become_payloads_in_order_at_every_length_class() {
        for len in [0, 1, 125, 126, 65_535, 65_536, 70_000] {
            let long = "x".repeat(len);
            let mut piece = text(&long).to_vec();
            piece.extend_from_slice(&binary(&[7; 3]));
            piece.extend_from_slice(&parlance_wire::websocket::ping(b"1"));
            piece.extend_from_slice(&text("4tail"));
            let mut payload = Payload::new();
            unframe(&piece, &mut payload);
            assert_eq!(payload.into_string(), format!("{long}\u{1e}bBwcH\u{1e}4tail"));
            let mut payload = Payload::new();
            unframe(&binary(&vec![0; len]), &mut payload);
            assert_eq!(payload.into_string().len(), 1 + len.div_ceil(3) * 4);
        }
    }
}
