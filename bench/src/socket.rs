//! A client's raw WebSocket in as little memory as possible: a handshake by hand and a buffer that is empty
//! between messages.
//!
//! Must not know: dialects.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;

/// Masking protects proxies from scripts; a load generator is none, and zeroes leave the payload as it is.
const MASK: [u8; 4] = [0; 4];

/// An open connection.
pub struct Socket {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Socket {
    /// Connects, from `source` when given, and upgrades.
    pub async fn open(address: SocketAddr, source: Option<SocketAddr>, path: &str) -> Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = source {
            socket.bind(source).context("no free port")?;
        }
        let mut stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await?;
        let mut buffer = Vec::with_capacity(512);
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                bail!("the connection ended in the handshake");
            }
        };
        if !buffer.starts_with(b"HTTP/1.1 101 ") {
            bail!("refused: {}", String::from_utf8_lossy(&buffer));
        }
        buffer.drain(..end);
        Ok(Self { stream, buffer })
    }

    /// Sends a text.
    pub async fn send(&mut self, text: &str) -> Result<()> {
        self.write(TEXT, text.as_bytes()).await
    }

    /// The next text; pings are answered on the way. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Result<String> {
        loop {
            while let Some((opcode, payload)) = take_frame(&mut self.buffer)? {
                match opcode {
                    TEXT => return Ok(String::from_utf8(payload)?),
                    PING => self.write(PONG, &payload).await?,
                    CLOSE => bail!("closed by the gateway: {}", close_code(&payload)),
                    PONG => {}
                    other => bail!("an unexpected frame, opcode {other}"),
                }
            }
            if self.buffer.is_empty() {
                // Ten thousand idle connections must not hold ten thousand buffers.
                self.buffer = Vec::new();
                self.stream.readable().await?;
                self.buffer.reserve(1024);
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the connection ended");
            }
        }
    }

    async fn write(&mut self, opcode: u8, payload: &[u8]) -> Result<()> {
        self.stream.write_all(&frame(opcode, payload)).await?;
        Ok(())
    }
}

fn close_code(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            format!("{} {}", u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason))
        }
        _ => "no code".to_owned(),
    }
}

fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 14);
    out.push(0x80 | opcode);
    match payload.len() {
        length @ 0..126 => out.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&MASK);
    out.extend_from_slice(payload);
    out
}

/// Takes a whole unmasked frame off the front of the buffer; `None` when there is none yet.
fn take_frame(buffer: &mut Vec<u8>) -> Result<Option<(u8, Vec<u8>)>> {
    let [first, second, ..] = buffer[..] else { return Ok(None) };
    if first & 0x80 == 0 || second & 0x80 != 0 {
        bail!("a fragmented or masked frame from the gateway");
    }
    let (length, head) = match second {
        126 if buffer.len() >= 4 => (usize::from(u16::from_be_bytes([buffer[2], buffer[3]])), 4),
        127 if buffer.len() >= 10 => (usize::try_from(u64::from_be_bytes(buffer[2..10].try_into()?))?, 10),
        126 | 127 => return Ok(None),
        short => (usize::from(short), 2),
    };
    if buffer.len() < head + length {
        return Ok(None);
    }
    let payload = buffer[head..head + length].to_vec();
    buffer.drain(..head + length);
    Ok(Some((first & 0x0F, payload)))
}

#[cfg(test)]
mod tests {
    use super::{MASK, PING, TEXT, frame, take_frame};

    /// What the gateway would send: the same frame without the mask.
    fn unmasked(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let masked = frame(opcode, payload);
        let head = masked.len() - payload.len() - MASK.len();
        let mut out = masked[..head].to_vec();
        out[1] &= 0x7F;
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn frames_of_every_length_are_read_back_whole_and_only_then() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let whole = unmasked(TEXT, &payload);
            let mut buffer = whole[..whole.len() - 1].to_vec();
            assert_eq!(take_frame(&mut buffer).unwrap(), None, "{length}");
            buffer.push(*whole.last().unwrap());
            buffer.extend(unmasked(PING, b"p"));
            assert_eq!(take_frame(&mut buffer).unwrap(), Some((TEXT, payload)), "{length}");
            assert_eq!(take_frame(&mut buffer).unwrap(), Some((PING, b"p".to_vec())));
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_masked_frame_from_the_gateway_is_an_error() {
        assert!(take_frame(&mut frame(TEXT, b"x")).is_err());
    }
}
