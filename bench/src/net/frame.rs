//! WebSocket frames (RFC 6455) as far as a load needs them.
//!
//! Must not know: sockets.

use anyhow::{Result, bail};

/// A text message.
pub const TEXT: u8 = 0x1;
/// A binary message.
pub const BINARY: u8 = 0x2;
/// The end, with a code.
pub const CLOSE: u8 = 0x8;
/// Asks for a pong.
pub const PING: u8 = 0x9;
/// Answers a ping.
pub const PONG: u8 = 0xA;

/// Masking protects proxies from scripts; a load generator is none, and zeroes leave the payload as it is.
const MASK: [u8; 4] = [0; 4];

/// One frame: where its payload is in what was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub opcode: u8,
    /// Where its payload begins.
    pub start: usize,
    /// Where the frame ends.
    pub end: usize,
    /// The mask, when it came from a client.
    pub mask: Option<[u8; 4]>,
}

/// The frame at the front of `bytes`; `None` while it is not whole.
///
/// # Errors
/// When it is a fragment: servers under load here send none.
pub fn read(bytes: &[u8]) -> Result<Option<Frame>> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    if first & 0x80 == 0 {
        bail!("a fragmented frame");
    }
    let (length, mut start) = match second & 0x7F {
        126 if bytes.len() >= 4 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
        127 if bytes.len() >= 10 => (usize::try_from(u64::from_be_bytes(bytes[2..10].try_into()?))?, 10),
        126 | 127 => return Ok(None),
        short => (usize::from(short), 2),
    };
    let mut mask = None;
    if second & 0x80 != 0 {
        let Some(key) = bytes.get(start..start + 4) else { return Ok(None) };
        mask = Some(key.try_into()?);
        start += 4;
    }
    let end = start.saturating_add(length);
    Ok((bytes.len() >= end).then_some(Frame { opcode: first & 0x0F, start, end, mask }))
}

/// Appends a client's frame (masked, by zeroes).
pub fn push_masked(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    head(out, opcode, payload.len(), 0x80);
    out.extend_from_slice(&MASK);
    out.extend_from_slice(payload);
}

/// Appends a server's frame.
pub fn push(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    head(out, opcode, payload.len(), 0);
    out.extend_from_slice(payload);
}

fn head(out: &mut Vec<u8>, opcode: u8, length: usize, masked: u8) {
    out.reserve(length + 14);
    out.push(0x80 | opcode);
    match length {
        0..126 => out.push(masked | length as u8),
        126..=0xFFFF => {
            out.push(masked | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(masked | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_are_read_back_whole_and_only_then() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            for masked in [false, true] {
                let mut bytes = Vec::new();
                if masked {
                    push_masked(&mut bytes, TEXT, &payload);
                } else {
                    push(&mut bytes, TEXT, &payload);
                }
                assert_eq!(read(&bytes[..bytes.len() - 1]).unwrap(), None, "{length}");
                let whole = bytes.len();
                push(&mut bytes, PING, b"p");
                let frame = read(&bytes).unwrap().unwrap();
                assert_eq!((frame.opcode, frame.end, frame.mask.is_some()), (TEXT, whole, masked));
                assert_eq!(bytes[frame.start..frame.end], payload);
            }
        }
    }

    #[test]
    fn a_fragment_is_an_error() {
        assert!(read(&[0x01, 0x00]).is_err());
    }
}
